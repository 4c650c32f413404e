import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';
import { describe, expect, test } from 'vitest';
import { decodeImages, type Raster } from '../../results/images/decode.js';
import { prepareImage, resize } from '../../results/images/prepare.js';
import { atelierError } from '../support/errors.js';
import { idxBytes } from '../support/idx-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const file = (name: string, bytes: Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};
/** RGBA; every pixel given by its place. */
const picture = (width: number, height: number, pixel: (x: number, y: number) => number[]): Raster => ({
  width,
  height,
  channels: 4,
  values: Uint8Array.from(
    Array.from({ length: width * height }, (_, i) => pixel(i % width, Math.floor(i / width))).flat(),
  ),
});
const png = ({ width, height, values }: Raster): Buffer => {
  const image = new PNG({ width, height });
  image.data = Buffer.from(values);
  return PNG.sync.write(image);
};
const gradient = picture(6, 5, (x, y) => [x * 40, y * 50, 7, 255]);

describe('an image file', () => {
  test('of PNG gives its pixels', () => {
    expect(decodeImages(file('a.png', png(gradient)))).toEqual([
      { ...gradient, values: Buffer.from(gradient.values) },
    ]);
  });

  test('of JPEG gives its pixels, nearly', () => {
    const flat = picture(16, 8, () => [200, 100, 50, 255]);
    const bytes = jpeg.encode({ width: 16, height: 8, data: flat.values }, 95).data;
    const [image] = decodeImages(file('a.jpg', bytes));
    expect(image).toMatchObject({ width: 16, height: 8, channels: 4 });
    const worst = Math.max(...(image?.values ?? []).map((v, i) => Math.abs(v - (flat.values[i] ?? 0))));
    expect(worst).toBeLessThan(6);
  });

  test('of IDX gives each row', () => {
    const rows = decodeImages(
      file(
        'a-idx',
        idxBytes(
          [2, 4, 4],
          Uint8Array.from({ length: 32 }, (_, i) => i),
        ),
      ),
    );
    expect(rows.map(({ width, height, channels, values }) => [width, height, channels, values[0]])).toEqual([
      [4, 4, 1, 0],
      [4, 4, 1, 16],
    ]);
  });

  test.each([
    ['text', Buffer.from('not an image at all'), /is not an image: give PNG, JPEG, or IDX/],
    ['nothing', Buffer.alloc(0), /is not an image/],
    ['a PNG of one pixel', png(picture(1, 1, () => [0, 0, 0, 255])), /1 x 1 pixels: an image has at least 4/],
    ['a PNG cut off', png(gradient).subarray(0, 60), /is a damaged PNG/],
    ['a PNG header cut off', png(gradient).subarray(0, 20), /is a damaged PNG: its header is cut off/],
    ['a JPEG without a frame', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0]), /is a damaged JPEG/],
    ['IDX labels', idxBytes([4], new Uint8Array(4)), /has the dimensions \[4\]/],
  ])('that is %s is refused', (name, bytes, message) => {
    const path = file(`bad-${name.replaceAll(' ', '-')}`, bytes);
    expect(atelierError('data', () => decodeImages(path)).message).toMatch(message);
  });

  test('that says it is huge is refused before it is unpacked', () => {
    const bytes = png(gradient);
    bytes.writeUInt32BE(60_000, 16);
    bytes.writeUInt32BE(60_000, 20);
    expect(atelierError('data', () => decodeImages(file('huge.png', bytes))).message).toMatch(
      /60000 x 60000 pixels, more than the 25 million/,
    );
    const photo = Buffer.from(jpeg.encode({ width: 8, height: 8, data: new Uint8Array(256) }, 50).data);
    const frame = photo.indexOf(Buffer.from([0xff, 0xc0]));
    photo.writeUInt16BE(65_000, frame + 5);
    photo.writeUInt16BE(65_000, frame + 7);
    expect(atelierError('data', () => decodeImages(file('huge.jpg', photo))).message).toMatch(
      /make it smaller/,
    );
  });

  test('that is not there is a usage error', () => {
    expect(atelierError('usage', () => decodeImages(join(folder, 'none.png'))).message).toMatch(
      /cannot read/,
    );
  });
});

const grey = (width: number, height: number, values: number[]): Raster => ({
  width,
  height,
  channels: 1,
  values: Uint8Array.from(values),
});

describe('preparing an image', () => {
  test('leaves one that fits as it is, without a word', () => {
    const image = grey(2, 2, [0, 10, 20, 30]);
    expect(prepareImage(image, [2, 2, 1], 'auto')).toEqual({ pixels: image.values, notes: [] });
  });

  test('shrinks by the mean of the area', () => {
    const values = [0, 4, 100, 100, 8, 12, 100, 100, 1, 1, 3, 3, 1, 1, 3, 3];
    const { pixels, notes } = prepareImage(grey(4, 4, values), [2, 2, 1], 'no');
    expect([...pixels]).toEqual([6, 100, 1, 3]);
    expect(notes).toEqual(['resized from 4 x 4 to 2 x 2']);
  });

  test('grows linearly', () => {
    expect([...resize(Float32Array.of(0, 100), { width: 2, height: 1 }, { width: 4, height: 1 })]).toEqual([
      0, 25, 75, 100,
    ]);
  });

  test('keeps proportions and centres on the ground of the border', () => {
    const { pixels, notes } = prepareImage(grey(4, 2, [9, 9, 9, 9, 9, 9, 9, 9]), [4, 4, 1], 'auto');
    expect([...pixels]).toEqual(new Array(16).fill(9));
    expect(notes).toEqual(['resized from 4 x 2 to 4 x 2 and centred on 4 x 4']);
  });

  test('turns light grounds dark, and says so', () => {
    const ring = grey(3, 3, [255, 255, 255, 255, 40, 255, 255, 255, 255]);
    const { pixels, notes } = prepareImage(ring, [3, 3, 1], 'auto');
    expect([...pixels]).toEqual([0, 0, 0, 0, 215, 0, 0, 0, 0]);
    expect(notes.join()).toMatch(/inverted: its border is light/);
    expect([...prepareImage(ring, [3, 3, 1], 'no').pixels]).toEqual([...ring.values]);
  });

  test('turns colours into grey by their luma, and grey into colours', () => {
    const green = picture(2, 2, () => [0, 100, 0, 255]);
    expect([...prepareImage(green, [2, 2, 1], 'no').pixels]).toEqual([59, 59, 59, 59]);
    expect([...prepareImage(grey(2, 1, [5, 6]), [1, 2, 3], 'no').pixels]).toEqual([5, 5, 5, 6, 6, 6]);
  });

  test('puts transparent pixels on the dark ground', () => {
    const cut = picture(3, 3, (x, y) => (x === 1 && y === 1 ? [80, 80, 80, 255] : [255, 255, 255, 0]));
    expect([...prepareImage(cut, [3, 3, 1], 'auto').pixels]).toEqual([0, 0, 0, 0, 80, 0, 0, 0, 0]);
  });
});
