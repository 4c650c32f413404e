import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError } from '../shared/errors.js';
import type { Evaluation } from '../shared/summary.js';
import type { RunFiles } from './run-files.js';

export const SPLITS = ['train', 'validation', 'test'] as const;
export type Split = (typeof SPLITS)[number];

/** Rows that lie together in a dataset. */
export interface Rows {
  /** rows x height x width x channels, unsigned bytes. */
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  /** Number of the first row in its file. */
  readonly first: number;
}

/** `count` rows of a dataset's arrays. @param start counted over training rows, then test rows */
function rowsAt({ images, labels, info }: Dataset, start: number, count: number, first: number): Rows {
  const size = info.imageShape.reduce((product, d) => product * d, 1);
  return {
    images: images.subarray(start * size, (start + count) * size),
    labels: labels.subarray(start, start + count),
    first,
  };
}

export const testRows = (dataset: Dataset): Rows =>
  rowsAt(dataset, dataset.info.trainRows, dataset.info.testRows, 0);

/**
 * The rows of one split of a plain run.
 * @throws AtelierError `usage` when the run has no such rows of its own
 */
export function splitRows({ summary, name }: RunFiles, dataset: Dataset, split: Split): Rows {
  if (split === 'test') return testRows(dataset);
  const { validationRows } = summary.config;
  if (summary.folds !== null) {
    throw new AtelierError(
      'usage',
      `${name} is a k-fold run: each fold's validation rows are in its summary; use --split test`,
    );
  }
  if (split === 'train') {
    const { trainRows } = dataset.info;
    return rowsAt(dataset, validationRows, trainRows - validationRows, validationRows);
  }
  if (validationRows > 0) return rowsAt(dataset, 0, validationRows, 0);
  throw new AtelierError('usage', `${name} kept no validation rows: use --split train or --split test`);
}

/** The smallest probability that a float32 softmax gives before 0: keeps the loss finite. */
const LEAST_PROBABILITY = 2 ** -126;

/**
 * Loss, accuracy and confusion of predictions.
 * @param probabilities rows x classes
 */
export function evaluationOf(probabilities: Float32Array, labels: Uint8Array, classes: number): Evaluation {
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  let lossSum = 0;
  let correct = 0;
  labels.forEach((truth, row) => {
    const guess = argMax(probabilities, row * classes, classes);
    const counts = confusion[truth] ?? [];
    counts[guess] = (counts[guess] ?? 0) + 1;
    if (guess === truth) correct++;
    lossSum -= Math.log(Math.max(LEAST_PROBABILITY, probabilities[row * classes + truth] ?? 0));
  });
  return { rows: labels.length, loss: lossSum / labels.length, accuracy: correct / labels.length, confusion };
}

/** The class of the largest of `count` values from `start`; the first of equals. */
export function argMax(values: Float32Array, start: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++) {
    if ((values[start + i] ?? 0) > (values[start + best] ?? 0)) best = i;
  }
  return best;
}
