import type { Monitor } from '../shared/recipe.js';
import type { EpochRecord } from '../shared/summary.js';

/*
 * Pure functions of the epochs that are over: a resumed trial decides as an undisturbed one would.
 */

type Validated = Pick<EpochRecord, 'valLoss' | 'valAccuracy'>;

/** Larger is better; null: the epoch was not validated. */
const score = ({ valLoss, valAccuracy }: Validated, monitor: Monitor): number | null =>
  monitor === 'val-accuracy' ? valAccuracy : valLoss === null ? null : -valLoss;

/** Index of the best epoch, the first of equals; -1 when none was validated. */
export function bestEpoch(records: readonly Validated[], monitor: Monitor): number {
  let best = -1;
  let bestScore = -Infinity;
  records.forEach((record, i) => {
    const value = score(record, monitor);
    if (value === null || value <= bestScore) return;
    best = i;
    bestScore = value;
  });
  return best;
}

/** Have `patience` epochs in a row, the last ones, been no better than the best before them? */
export function isPatienceOver(
  records: readonly Validated[],
  monitor: Monitor,
  patience: number | null,
): boolean {
  const best = bestEpoch(records, monitor);
  return patience !== null && best !== -1 && records.length - 1 - best >= patience;
}
