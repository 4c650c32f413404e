import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { IDX_FILES } from '../../shared/dataset/fashion-mnist.js';
import { loadDataset } from '../../shared/dataset/load.js';

/** The bytes of an IDX file of unsigned bytes. */
export function idxBytes(dims: readonly number[], values: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * dims.length);
  header.writeUInt32BE(0x0800 + dims.length, 0);
  dims.forEach((d, i) => header.writeUInt32BE(d, 4 + 4 * i));
  return Buffer.concat([header, values]);
}

export interface Rows {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
}

/** Writes a dataset folder with four IDX files. */
export function writeIdxFolder(
  folder: string,
  imageShape: readonly number[],
  train: Rows,
  test: Rows,
): string {
  mkdirSync(folder, { recursive: true });
  const write = (name: string, dims: readonly number[], values: Uint8Array): void =>
    writeFileSync(join(folder, name), idxBytes(dims, values));
  write(IDX_FILES.trainImages, [train.labels.length, ...imageShape], train.images);
  write(IDX_FILES.trainLabels, [train.labels.length], train.labels);
  write(IDX_FILES.testImages, [test.labels.length, ...imageShape], test.images);
  write(IDX_FILES.testLabels, [test.labels.length], test.labels);
  return folder;
}

/** Made-up rows: row i has label i mod `classes`, and pixels that follow from i. */
export function madeUpRows(rows: number, pixels: number, classes: number): Rows {
  return {
    images: Uint8Array.from({ length: rows * pixels }, (_, i) => (i * 37 + (i % 11) * 5) % 256),
    labels: Uint8Array.from({ length: rows }, (_, i) => i % classes),
  };
}

/** A small folder cut out of Fashion-MNIST: its first rows, in order. */
export function writeSmallFashionMnist(folder: string, trainRows: number, testRows: number): string {
  const { images, labels, info } = loadDataset({
    dataset: 'fashion-mnist',
    dataDir: null,
    env: process.env,
  });
  const [height, width, channels] = info.imageShape;
  const pixels = height * width * channels;
  const slice = (start: number, count: number): Rows => ({
    images: images.slice(start * pixels, (start + count) * pixels),
    labels: labels.slice(start, start + count),
  });
  return writeIdxFolder(folder, [height, width], slice(0, trainRows), slice(info.trainRows, testRows));
}
