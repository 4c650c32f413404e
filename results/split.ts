import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError } from '../shared/errors.js';
import { cutFolds } from '../shared/folds.js';
import type { Evaluation, TrialSummary } from '../shared/summary.js';
import type { RunFiles } from './run-files.js';

export const SPLITS = ['train', 'validation', 'test'] as const;
export type Split = (typeof SPLITS)[number];

/** Some rows of a dataset. */
export interface Rows {
  /** rows x height x width x channels, unsigned bytes. */
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
}

const range = (start: number, end: number): Uint32Array =>
  Uint32Array.from({ length: Math.max(0, end - start) }, (_, i) => start + i);

/** The first `most` of these rows. @param numbers counted over training rows, then test rows */
function gather({ images, labels, info }: Dataset, numbers: Uint32Array, most: number): Rows {
  const size = info.imageShape.reduce((product, d) => product * d, 1);
  const taken = numbers.subarray(0, most);
  const gathered = new Uint8Array(taken.length * size);
  taken.forEach((row, i) => gathered.set(images.subarray(row * size, (row + 1) * size), i * size));
  return { images: gathered, labels: Uint8Array.from(taken, (row) => labels[row] ?? 0) };
}

export const testRows = (dataset: Dataset): Rows => {
  const { trainRows, testRows: count } = dataset.info;
  return gather(dataset, range(trainRows, trainRows + count), count);
};

/**
 * The rows of one split of one trial, in the order of the dataset.
 * @param most the first of them
 * @throws AtelierError `usage` when the trial has no such rows
 */
export function splitRows(
  { summary, name }: RunFiles,
  { fold }: TrialSummary,
  dataset: Dataset,
  split: Split,
  most = Infinity,
): Rows {
  if (split === 'test') return testRows(dataset);
  const { trainRows } = dataset.info;
  const { folds, seed, stratified, validationRows } = summary.config;
  if (folds !== null && fold !== null) {
    const labels = dataset.labels.subarray(0, trainRows);
    const cut = cutFolds(labels, { folds, repeat: Math.floor(fold / folds), seed, stratified })[fold % folds];
    const numbers = split === 'train' ? cut?.training : cut?.validation;
    return gather(dataset, numbers ?? new Uint32Array(), most);
  }
  // The final fit of a k-fold run is trained on all rows.
  const held = folds === null ? validationRows : 0;
  if (split === 'train') return gather(dataset, range(held, trainRows), most);
  if (held > 0) return gather(dataset, range(0, held), most);
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
