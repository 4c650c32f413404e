import { cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Summary } from '../../shared/summary.js';
import { readSummary } from './run-files.js';

/** Makes a k-fold run directory out of a plain one: every fold has its network, and figures moved a little. */
export function writeFoldRun(plain: string, folder: string, k: number): string {
  cpSync(plain, folder, { recursive: true });
  const summary = readSummary(plain);
  const [trial] = summary.trials;
  if (trial === undefined) throw new Error('the run has a trial');
  const moved = (value: number, fold: number): number => Math.min(1, value * (1 + (fold - k / 2) / 100));
  const trials = Array.from({ length: k }, (_, fold) => ({
    ...trial,
    fold,
    epochs: trial.epochs.map((epoch) => ({
      ...epoch,
      valAccuracy: epoch.valAccuracy === null ? null : moved(epoch.valAccuracy, fold),
      valLoss: epoch.valLoss === null ? null : epoch.valLoss * (1 + fold / 20),
    })),
    validation:
      trial.validation === null
        ? null
        : { ...trial.validation, accuracy: moved(trial.validation.accuracy, fold) },
    test: trial.test === null ? null : { ...trial.test, accuracy: moved(trial.test.accuracy, fold) },
  }));
  const accuracies = trials.flatMap(({ validation }) => (validation === null ? [] : [validation.accuracy]));
  const mean = accuracies.reduce((sum, value) => sum + value, 0) / accuracies.length;
  const sd = Math.sqrt(
    accuracies.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (accuracies.length - 1),
  );
  for (let fold = 0; fold < k; fold++) {
    mkdirSync(join(folder, 'folds', String(fold)), { recursive: true });
    cpSync(join(plain, 'model'), join(folder, 'folds', String(fold), 'model'), { recursive: true });
  }
  rmSync(join(folder, 'model'), { recursive: true });
  const folded: Summary = { ...summary, trials, folds: { mean, sd, ci95: 1.96 * sd, n: k } };
  writeFileSync(join(folder, 'summary.json.new'), JSON.stringify(folded));
  renameSync(join(folder, 'summary.json.new'), join(folder, 'summary.json'));
  return folder;
}
