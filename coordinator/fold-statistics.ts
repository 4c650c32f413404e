import { createHash } from 'node:crypto';
import jstat from 'jstat';
import type { RunConfig } from '../shared/config.js';
import type { Summary, TrialSummary } from '../shared/summary.js';

/**
 * Mean validation accuracy over the folds that ended, its standard deviation (n - 1), and half the width of a 95 %
 * confidence interval of the mean. The folds share most of their training rows, so their accuracies are
 * correlated and the usual standard error is too small; this is the corrected resampled t interval of
 * Nadeau & Bengio, "Inference for the generalization error", Machine Learning 52 (2003), section 3:
 * t(0.975, n - 1) * sqrt((1 / n + testRows / trainingRows) * sd^2), where testRows / trainingRows = 1 / (k - 1).
 * @returns null for a run without folds, or of which fewer than two ended
 */
export function foldStatistics(trials: readonly TrialSummary[], { folds }: RunConfig): Summary['folds'] {
  if (folds === null) return null;
  const accuracies = trials
    .filter(({ fold, status }) => fold !== null && status === 'done')
    .flatMap(({ validation }) => (validation === null ? [] : [validation.accuracy]));
  const n = accuracies.length;
  if (n < 2) return null;
  const mean = accuracies.reduce((sum, x) => sum + x, 0) / n;
  const variance = accuracies.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
  const standardError = Math.sqrt((1 / n + 1 / (folds - 1)) * variance);
  return { mean, sd: Math.sqrt(variance), ci95: jstat.studentt.inv(0.975, n - 1) * standardError, n };
}

/** One trial's hash is the run's; of several, the SHA-256 over theirs, one a line, in the order of the trials. */
export function weightsOfRun(trials: readonly TrialSummary[]): string {
  const hashes = trials.map(({ weightsSha256 }) => weightsSha256);
  if (hashes.length === 1) return hashes[0] as string;
  return createHash('sha256')
    .update(hashes.map((hash) => `${hash}\n`).join(''))
    .digest('hex');
}
