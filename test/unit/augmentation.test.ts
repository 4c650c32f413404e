import { describe, expect, test } from 'vitest';
import { AUGMENTATIONS, augmentationOf, type Augmentation } from '../../shared/augmentation.js';
import { parseRunConfig } from '../../shared/config.js';
import { weightsSha256 } from '../../shared/layout.js';
import type { ImageShape } from '../../shared/models/presets.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { sineCosine } from '../../shared/sine-cosine.js';
import { affineOf, warp, type AffineDraw } from '../../worker/augmentation/affine.js';
import { augment, drawRows, type Place } from '../../worker/augmentation/augment.js';
import { Warper } from '../../worker/augmentation/warper.js';
import { PLACE } from '../support/model-fixture.js';

const SHAPE: ImageShape = [28, 28, 1];
const IDENTITY: AffineDraw = {
  rotationDegrees: 0,
  shiftRows: 0,
  shiftColumns: 0,
  shearDegrees: 0,
  zoomRows: 1,
  zoomColumns: 1,
  flip: false,
};
const NONE = AUGMENTATIONS.none;

const noise = (rows: number, [height, width, channels]: ImageShape = SHAPE): Uint8Array => {
  const stream = new RandomStream({ ...PLACE, purpose: Purpose.folds });
  return new Uint8Array(rows * height * width * channels).map(() => stream.below(256));
};

type Matrix = readonly [readonly number[], readonly number[], readonly number[]];
const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) =>
    [0, 1, 2].map((j) => row.reduce((sum, value, k) => sum + value * (b[k]?.[j] ?? 0), 0)),
  ) as never;

/**
 * The warp written down from its definition, in float64: Keras' product of matrices about the centre, then the sum over
 * all pixels of the pixel times max(0, 1 - |dy|) max(0, 1 - |dx|).
 */
function referenceWarp(
  source: Uint8Array,
  [height, width, channels]: ImageShape,
  draw: AffineDraw,
): Float64Array {
  const angle = (draw.rotationDegrees * Math.PI) / 180;
  const shear = (draw.shearDegrees * Math.PI) / 180;
  const offset = (sign: number): Matrix => [
    [1, 0, (sign * (height - 1)) / 2],
    [0, 1, (sign * (width - 1)) / 2],
    [0, 0, 1],
  ];
  const factors: Matrix[] = [
    offset(1),
    [
      [Math.cos(angle), -Math.sin(angle), 0],
      [Math.sin(angle), Math.cos(angle), 0],
      [0, 0, 1],
    ],
    [
      [1, 0, draw.shiftRows],
      [0, 1, draw.shiftColumns],
      [0, 0, 1],
    ],
    [
      [1, -Math.sin(shear), 0],
      [0, Math.cos(shear), 0],
      [0, 0, 1],
    ],
    [
      [draw.zoomRows, 0, 0],
      [0, draw.zoomColumns, 0],
      [0, 0, 1],
    ],
    [
      [1, 0, 0],
      [0, draw.flip ? -1 : 1, 0],
      [0, 0, 1],
    ],
    offset(-1),
  ];
  const [[a = 0, b = 0, c = 0], [d = 0, e = 0, f = 0]] = factors.reduce(product);
  const clamp = (value: number, last: number): number => Math.min(last, Math.max(0, value));
  const result = new Float64Array(source.length);
  for (let i = 0; i < result.length; i++) {
    const row = Math.floor(i / (width * channels));
    const column = Math.floor(i / channels) % width;
    const y = clamp(a * row + b * column + c, height - 1);
    const x = clamp(d * row + e * column + f, width - 1);
    for (let j = i % channels; j < source.length; j += channels) {
      const dy = Math.abs(y - Math.floor(j / (width * channels)));
      const dx = Math.abs(x - (Math.floor(j / channels) % width));
      result[i] = (result[i] ?? 0) + (source[j] ?? 0) * Math.max(0, 1 - dy) * Math.max(0, 1 - dx);
    }
  }
  return result;
}

const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Math.max(...Array.from({ length: a.length }, (_, i) => Math.abs((a[i] ?? NaN) - (b[i] ?? NaN))));

function warped(source: Uint8Array, shape: ImageShape, draw: Partial<AffineDraw>): Float32Array {
  const target = new Float32Array(source.length);
  warp(source, target, shape, affineOf({ ...IDENTITY, ...draw }, shape));
  return target;
}

describe('the warp', () => {
  test.each([
    ['28 x 28', SHAPE],
    ['9 x 14 with 3 channels', [9, 14, 3] as const],
    ['1 x 5', [1, 5, 1] as const],
  ])('of %s images is that of a float64 reference to a thousandth of a grey level', (_name, shape) => {
    const rows = 40;
    const images = noise(rows, shape);
    const size = images.length / rows;
    const wild: Augmentation = {
      rotationDegrees: 180,
      shift: 0.5,
      shearDegrees: 60,
      zoom: 0.6,
      flip: 0.5,
      erase: 0,
    };
    const draws = [wild, AUGMENTATIONS.study, AUGMENTATIONS.strong].flatMap((augmentation) =>
      drawRows(augmentation, shape, PLACE, rows),
    );
    const errors = draws.map(({ affine }, i) => {
      const source = images.subarray((i % rows) * size, ((i % rows) + 1) * size);
      return largestDifference(warped(source, shape, affine), referenceWarp(source, shape, affine));
    });
    expect(Math.max(...errors)).toBeLessThan(1e-3);
  });

  test.each([
    ['28 x 28', SHAPE],
    ['7 x 4', [7, 4, 1] as const],
    ['1 x 8', [1, 8, 1] as const],
    ['28 x 30, which the vector kernel leaves alone,', [28, 30, 1] as const],
  ])('of many %s images at once has the bits of one after the other', (_name, shape) => {
    const warper = new Warper();
    for (const rows of [1, 37, 5, 80]) {
      const images = noise(rows, shape);
      const size = images.length / rows;
      const draws = drawRows({ ...AUGMENTATIONS.strong, rotationDegrees: 180, shift: 1 }, shape, PLACE, rows);
      const together = warper.warp(
        images,
        shape,
        draws.map(({ affine }) => affineOf(affine, shape)),
      );
      const apart = draws.map(({ affine }, row) =>
        warped(images.subarray(row * size, (row + 1) * size), shape, affine),
      );
      const expected = Float32Array.from(apart.flatMap((image) => [...image]));
      expect(new Uint32Array(together.slice().buffer)).toEqual(new Uint32Array(expected.buffer));
    }
  });

  test('by nothing changes nothing', () => {
    const image = noise(1);
    expect([...warped(image, SHAPE, {})]).toEqual([...image]);
  });

  test('by whole pixels moves the image and repeats its edge', () => {
    const image = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
    expect([...warped(image, [3, 3, 1], { shiftRows: 1 })]).toEqual([4, 5, 6, 7, 8, 9, 7, 8, 9]);
    expect([...warped(image, [3, 3, 1], { shiftColumns: -1 })]).toEqual([1, 1, 2, 4, 4, 5, 7, 7, 8]);
  });

  test('flips from left to right', () => {
    expect([...warped(Uint8Array.of(1, 2, 3, 4, 5, 6), [2, 3, 1], { flip: true })]).toEqual([
      3, 2, 1, 6, 5, 4,
    ]);
  });

  test('by 0.3 degrees of shear, as the study has it, moves nothing by a tenth of a pixel', () => {
    const { yx, y0, xx, x0 } = affineOf({ ...IDENTITY, shearDegrees: 0.3 }, SHAPE);
    for (const column of [0, 27]) {
      expect(Math.abs(yx * column + y0)).toBeLessThan(0.1);
      expect(Math.abs(xx * column + x0 - column)).toBeLessThan(0.1);
    }
  });
});

test('sine and cosine by series are those of the engine to 1e-14, up to a half turn', () => {
  for (let x = -Math.PI; x <= Math.PI; x += 0.001) {
    const { sine, cosine } = sineCosine(x);
    expect(Math.abs(sine - Math.sin(x))).toBeLessThan(1e-14);
    expect(Math.abs(cosine - Math.cos(x))).toBeLessThan(1e-14);
  }
});

describe('augmented rows', () => {
  const images = noise(12);
  const all = augment(images, AUGMENTATIONS.strong, SHAPE, PLACE);

  test('have the bits they always had', () => {
    expect(weightsSha256(all)).toBe('eebacada28d1f211a91dbddb64a81021c2952259bc3a7114705ea8dd6a7051b3');
  });

  test('are the same bits however the shard is cut into micro-batches', () => {
    const size = 28 * 28;
    const parts = [0, 5, 6].flatMap((start, i, starts) => {
      const end = starts[i + 1] ?? 12;
      const place: Place = { ...PLACE, position: start };
      return [...augment(images.subarray(start * size, end * size), AUGMENTATIONS.strong, SHAPE, place)];
    });
    expect(parts).toEqual([...all]);
  });

  test.each([
    ['seed', { seed: 2 }],
    ['trial', { trial: 1 }],
    ['epoch', { epoch: 1 }],
    ['shard', { shard: 1 }],
    ['position', { position: 1 }],
  ])('are others for another %s', (_name, other) => {
    expect(augment(images, AUGMENTATIONS.strong, SHAPE, { ...PLACE, ...other })).not.toEqual(all);
  });

  test('of each parameter stay within its range and reach for its ends', () => {
    const draws = drawRows(AUGMENTATIONS.strong, SHAPE, PLACE, 4_000).map(({ affine }) => affine);
    for (const [key, middle, range] of [
      ['rotationDegrees', 0, 10],
      ['shiftRows', 0, 2.8],
      ['shiftColumns', 0, 2.8],
      ['shearDegrees', 0, 5],
      ['zoomRows', 1, 0.1],
      ['zoomColumns', 1, 0.1],
    ] as const) {
      const values = draws.map((draw) => (draw[key] - middle) / range);
      expect(Math.min(...values), key).toBeGreaterThanOrEqual(-1);
      expect(Math.max(...values), key).toBeLessThanOrEqual(1);
      expect(Math.min(...values), key).toBeLessThan(-0.99);
      expect(Math.max(...values), key).toBeGreaterThan(0.99);
      expect(Math.abs(values.reduce((sum, value) => sum + value, 0) / 4_000), key).toBeLessThan(0.04);
    }
    expect(draws.filter(({ flip }) => flip).length / 4_000).toBeCloseTo(0.5, 1);
  });

  test('that are only erased lose one rectangle of the stated size, with the stated probability', () => {
    const rows = 400;
    const white = new Uint8Array(rows * 28 * 28).fill(255);
    const erased = augment(white, { ...NONE, erase: 0.25 }, SHAPE, PLACE);
    const draws = drawRows({ ...NONE, erase: 0.25 }, SHAPE, PLACE, rows);
    draws.forEach(({ erased: rectangle }, row) => {
      const pixels = erased.subarray(row * 784, (row + 1) * 784);
      const { top, bottom, left, right } = rectangle ?? { top: 0, bottom: 0, left: 0, right: 0 };
      pixels.forEach((pixel, i) => {
        const inside =
          Math.floor(i / 28) >= top && Math.floor(i / 28) < bottom && i % 28 >= left && i % 28 < right;
        if (pixel !== (inside ? 0 : 255)) throw new Error(`row ${row}, pixel ${i} is ${pixel}`);
      });
      if (rectangle === null) return;
      for (const side of [bottom - top, right - left]) {
        expect(side).toBeGreaterThanOrEqual(4);
        expect(side).toBeLessThanOrEqual(14);
      }
      expect(Math.max(bottom, right)).toBeLessThanOrEqual(28);
    });
    expect(draws.filter(({ erased: rectangle }) => rectangle !== null).length / rows).toBeCloseTo(0.25, 1);
  });
});

describe('the augmentation of a config', () => {
  const of = (values: Record<string, unknown>): Augmentation | null => augmentationOf(parseRunConfig(values));

  test('is none by default', () => {
    expect(of({})).toBeNull();
  });

  test("is the study's, shear in degrees", () => {
    expect(of({ augment: 'study' })).toEqual({
      ...NONE,
      rotationDegrees: 8,
      shift: 0.08,
      shearDegrees: 0.3,
      zoom: 0.08,
    });
  });

  test('takes single parameters over the named ones', () => {
    expect(of({ augment: 'study', augmentShearDegrees: 17, augmentZoom: 0 })).toEqual({
      ...AUGMENTATIONS.study,
      shearDegrees: 17,
      zoom: 0,
    });
    expect(of({ augmentFlip: 0.5 })).toEqual({ ...NONE, flip: 0.5 });
  });

  test('is none when every parameter is zero', () => {
    expect(of({ augmentFlip: 0 })).toBeNull();
  });
});
