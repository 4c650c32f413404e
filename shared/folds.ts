import { Purpose, RandomStream, shuffle } from './rng.js';

/** The rows of one fold: it trains on some and is validated on the others. Both ascending. */
export interface Fold {
  readonly training: Uint32Array;
  readonly validation: Uint32Array;
}

/**
 * Cuts `labels.length` rows into k folds. Every row is in the validation rows of exactly one fold; the sizes differ
 * by at most one. Stratified: so do the numbers of rows of each class.
 * @param repeat which cut of the same rows: each is drawn anew
 * @returns k folds
 */
export function cutFolds(
  labels: Uint8Array,
  { folds, repeat, seed, stratified }: { folds: number; repeat: number; seed: number; stratified: boolean },
): Fold[] {
  const stream = new RandomStream({ seed, purpose: Purpose.folds, trial: repeat, epoch: 0, shard: 0 });
  const order = shuffle(
    Uint32Array.from({ length: labels.length }, (_, row) => row),
    stream,
  );
  // Dealt out like cards; stratified: one class after the other, so that each fold gets its share of each.
  if (stratified) sortByClass(order, labels);
  const foldOf = new Uint16Array(labels.length);
  order.forEach((row, i) => (foldOf[row] = i % folds));
  const all = Uint32Array.from({ length: labels.length }, (_, row) => row);
  return Array.from({ length: folds }, (_, fold) => ({
    training: all.filter((row) => foldOf[row] !== fold),
    validation: all.filter((row) => foldOf[row] === fold),
  }));
}

/** Sorts rows by their class and leaves their order within a class. */
function sortByClass(order: Uint32Array, labels: Uint8Array): void {
  const sorted = [...order].sort((a, b) => (labels[a] as number) - (labels[b] as number));
  order.set(sorted);
}
