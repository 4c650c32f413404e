import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { IDX_FILES } from '../../shared/dataset/fashion-mnist.js';
import { parseIdx, readMaybeGzipped } from '../../shared/dataset/idx.js';
import { hasDataset, loadDataset, locateDataset, type DatasetSource } from '../../shared/dataset/load.js';
import { atelierError } from '../support/errors.js';
import { idxBytes, madeUpRows, writeIdxFolder } from '../support/idx-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
let made = 0;

/** A good folder of its own for every test: 12 training and 6 test rows of 4x5 pixels, 3 classes. */
function goodFolder(): string {
  return writeIdxFolder(join(folder, `data-${made++}`), [4, 5], madeUpRows(12, 20, 3), madeUpRows(6, 20, 3));
}
const sourceOf = (dataset: string): DatasetSource => ({ dataset, dataDir: null, env: {} });
const refusal = (dataset: string): string =>
  atelierError('data', () => loadDataset(sourceOf(dataset))).message;

describe('parseIdx', () => {
  const good = idxBytes([2, 3], Uint8Array.of(1, 2, 3, 4, 5, 6));
  const changed = (at: number, byte: number): Buffer => {
    const bytes = Buffer.from(good);
    bytes[at] = byte;
    return bytes;
  };

  test('gives the dimensions and the values', () => {
    const { dims, values } = parseIdx(good, 'x');
    expect({ dims, values: [...values] }).toEqual({ dims: [2, 3], values: [1, 2, 3, 4, 5, 6] });
  });

  test.each([
    ['empty', Buffer.alloc(0), 'not an IDX file'],
    ['of another magic', changed(0, 0x1f), 'not an IDX file'],
    ['of floats', changed(2, 0x0d), 'not an IDX file'],
    ['without dimensions', changed(3, 0), 'cut off in its header'],
    ['cut off in its header', good.subarray(0, 9), 'cut off in its header'],
    ['cut off in its values', good.subarray(0, -1), 'truncated'],
    ['too long', Buffer.concat([good, Buffer.of(0)]), 'damaged'],
    ['of absurd dimensions', changed(4, 0xff), 'truncated'],
  ])('refuses a file that is %s, by name', (_name, bytes, what) => {
    const { message } = atelierError('data', () => parseIdx(bytes, 'some-file'));
    expect(message).toContain('some-file');
    expect(message).toContain(what);
  });
});

describe('a gzipped file', () => {
  const packed = gzipSync(idxBytes([4], Uint8Array.of(1, 2, 3, 4)));
  const write = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    return path;
  };

  test('is unpacked', () => {
    expect([...parseIdx(readMaybeGzipped(write('good.gz', packed)), 'x').values]).toEqual([1, 2, 3, 4]);
  });

  test.each([
    ['cut off', packed.subarray(0, -5)],
    ['not gzip', Buffer.from('<html>404</html>')],
    ['altered', Buffer.from(packed).fill(0x55, 12, 16)],
  ])('that is %s is refused by name', (name, bytes) => {
    const path = write(`${name.replaceAll(' ', '-')}.gz`, bytes);
    expect(atelierError('data', () => readMaybeGzipped(path)).message).toContain(path);
  });
});

describe('a dataset folder', () => {
  test('loads: training rows first, then test rows', () => {
    const { info, images, labels } = loadDataset(sourceOf(goodFolder()));
    const train = madeUpRows(12, 20, 3);
    const test = madeUpRows(6, 20, 3);
    expect(info).toMatchObject({
      trainRows: 12,
      testRows: 6,
      imageShape: [4, 5, 1],
      classNames: ['0', '1', '2'],
    });
    expect([...images]).toEqual([...train.images, ...test.images]);
    expect([...labels]).toEqual([...train.labels, ...test.labels]);
  });

  test('is on shared memory, for the slots', () => {
    const { images, labels } = loadDataset(sourceOf(goodFolder()));
    expect([images.buffer, labels.buffer].every((b) => b instanceof SharedArrayBuffer)).toBe(true);
  });

  test('has the same SHA-256 packed and unpacked, and another when a byte differs', () => {
    const [plain, packed, other] = [goodFolder(), goodFolder(), goodFolder()];
    const name = IDX_FILES.trainLabels;
    const labels = idxBytes([12], madeUpRows(12, 20, 3).labels);
    writeFileSync(join(packed, `${name}.gz`), gzipSync(labels));
    rmSync(join(packed, name));
    writeFileSync(join(other, name), Buffer.from(labels).fill(2, 8, 9));
    const [a, b, c] = [plain, packed, other].map((path) => loadDataset(sourceOf(path)).info.sha256);
    expect(b).toBe(a);
    expect(c).not.toBe(a);
  });

  test('may have colour images', () => {
    const path = writeIdxFolder(
      join(folder, 'colour'),
      [2, 2, 3],
      madeUpRows(4, 12, 2),
      madeUpRows(2, 12, 2),
    );
    expect(loadDataset(sourceOf(path)).info.imageShape).toEqual([2, 2, 3]);
  });

  test('takes the names of its classes from class-names.txt', () => {
    const path = goodFolder();
    writeFileSync(join(path, 'class-names.txt'), 'cat\r\n dog \n\nowl\n');
    expect(loadDataset(sourceOf(path)).info.classNames).toEqual(['cat', 'dog', 'owl']);
  });

  test('with more or fewer names than classes is refused', () => {
    const path = goodFolder();
    writeFileSync(join(path, 'class-names.txt'), 'cat\ndog\n');
    expect(refusal(path)).toMatch(/class-names\.txt has 2 names.*3 classes/);
  });

  test('with other numbers of images and labels is refused', () => {
    const path = goodFolder();
    writeFileSync(
      join(path, IDX_FILES.trainLabels),
      idxBytes(
        [11],
        new Uint8Array(11).map((_, i) => i % 3),
      ),
    );
    expect(refusal(path)).toContain('12 training images but labels of [11]');
  });

  test('with test images of another shape is refused', () => {
    const path = goodFolder();
    writeFileSync(join(path, IDX_FILES.testImages), idxBytes([6, 5, 4], new Uint8Array(120)));
    expect(refusal(path)).toContain('differ in shape');
  });

  test('with images for labels is refused', () => {
    const path = goodFolder();
    copyFileSync(join(path, IDX_FILES.testImages), join(path, IDX_FILES.testLabels));
    expect(refusal(path)).toContain('do not belong together');
  });

  test('with one class only is refused', () => {
    const path = writeIdxFolder(join(folder, 'one-class'), [2, 2], madeUpRows(4, 4, 1), madeUpRows(2, 4, 1));
    expect(refusal(path)).toContain('1 classes');
  });

  test.each(Object.values(IDX_FILES))('without %s is refused, and the file is named', (name) => {
    const path = goodFolder();
    rmSync(join(path, name));
    expect(hasDataset(sourceOf(path))).toBe(false);
    expect(refusal(path)).toContain(name);
  });

  test('that is not there is refused as an unknown dataset', () => {
    expect(atelierError('usage', () => loadDataset(sourceOf(join(folder, 'nothing')))).message).toContain(
      'unknown dataset',
    );
  });
});

describe('fashion-mnist', () => {
  const real = locateDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env });

  /** A folder that looks like the real one, but for one file. */
  function almost(name: string, replace: (from: string, to: string) => void): string {
    const path = join(folder, `fashion-${made++}`);
    mkdirSync(path);
    for (const file of Object.values(IDX_FILES)) {
      const source = [join(real, file), join(real, `${file}.gz`)].find((p) => hasFile(p)) ?? '';
      const target = join(path, basename(source));
      if (file === name) replace(source, target);
      else symlinkSync(source, target);
    }
    return path;
  }
  const hasFile = (path: string): boolean => {
    try {
      readMaybeGzipped(path);
      return true;
    } catch {
      return false;
    }
  };
  const load = (dataDir: string): string =>
    atelierError('data', () => loadDataset({ dataset: 'fashion-mnist', dataDir, env: {} })).message;

  test('with one label altered is refused, and the file is named', () => {
    const path = almost(IDX_FILES.trainLabels, (source, target) => {
      const bytes = readMaybeGzipped(source);
      bytes[100] = ((bytes[100] ?? 0) + 1) % 10;
      writeFileSync(target.replace(/\.gz$/, ''), bytes);
    });
    expect(load(path)).toMatch(/train-labels-idx1-ubyte is not the file it should be/);
  });

  test('is looked for in the named folder alone when there is one', () => {
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    expect(load(empty)).toContain(empty);
  });
});
