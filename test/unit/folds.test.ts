import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { foldStatistics, weightsOfRun } from '../../coordinator/fold-statistics.js';
import { parseRunConfig } from '../../shared/config.js';
import { cutFolds } from '../../shared/folds.js';
import type { TrialSummary } from '../../shared/summary.js';

const cut = fc
  .record({
    labels: fc.uint8Array({ min: 0, max: 4, minLength: 2, maxLength: 120 }),
    folds: fc.integer({ min: 2, max: 10 }),
    seed: fc.nat(),
    repeat: fc.nat(3),
    stratified: fc.boolean(),
  })
  .filter(({ labels, folds }) => labels.length >= folds);
const spread = (counts: readonly number[]): number => Math.max(...counts) - Math.min(...counts);

describe('folds', () => {
  test('validate every row exactly once, train on all the others, and differ in size by one at most', () => {
    fc.assert(
      fc.property(cut, ({ labels, ...options }) => {
        const folds = cutFolds(labels, options);
        expect(folds).toHaveLength(options.folds);
        const all = Array.from(labels, (_, row) => row);
        expect(folds.flatMap(({ validation }) => [...validation]).sort((a, b) => a - b)).toEqual(all);
        for (const { training, validation } of folds) {
          expect([...training]).toEqual(all.filter((row) => !validation.includes(row)));
        }
        expect(spread(folds.map(({ validation }) => validation.length))).toBeLessThanOrEqual(1);
      }),
    );
  });

  test('that are stratified have the same number of each class but for one', () => {
    fc.assert(
      fc.property(cut, ({ labels, ...options }) => {
        const folds = cutFolds(labels, { ...options, stratified: true });
        for (let label = 0; label <= 4; label++) {
          const counts = folds.map(({ validation }) => validation.filter((r) => labels[r] === label).length);
          expect(spread(counts)).toBeLessThanOrEqual(1);
        }
      }),
    );
  });

  const labels = Uint8Array.from({ length: 100 }, (_, i) => i % 3);
  const validationOf = (seed: number, repeat: number): number[][] =>
    cutFolds(labels, { folds: 5, seed, repeat, stratified: true }).map(({ validation }) => [...validation]);

  test('are the same for the same seed, others for another seed or repeat', () => {
    expect(validationOf(1, 0)).toEqual(validationOf(1, 0));
    expect(validationOf(2, 0)).not.toEqual(validationOf(1, 0));
    expect(validationOf(1, 1)).not.toEqual(validationOf(1, 0));
  });
});

const trial = (
  fold: number | null,
  accuracy: number,
  status: TrialSummary['status'] = 'done',
): TrialSummary => ({
  ...{ fold, status, reason: null, weightsSha256: String(fold ?? 9).repeat(64), epochs: [], test: null },
  validation: { rows: 10, loss: 1, accuracy, confusion: [[10]] },
  ledger: { epochs: 1, rowsPerEpoch: 1, rowsDigest: '0'.repeat(16), shards: [] },
});
const config = parseRunConfig({ folds: 5, finalFit: true });

describe('the statistics of folds', () => {
  test('are those of a worked example', () => {
    const folds = [0.9, 0.92, 0.88, 0.91, 0.89].map((accuracy, fold) => trial(fold, accuracy));
    const result = foldStatistics(folds, config);
    expect(result?.n).toBe(5);
    expect(result?.mean).toBeCloseTo(0.9, 12);
    // Squared deviations: 0, 4e-4, 4e-4, 1e-4, 1e-4; over n - 1 = 4: 2.5e-4.
    expect(result?.sd).toBeCloseTo(0.015811388300841896, 12);
    // Tables: t(0.975, 4) = 2.776445; times sqrt((1/5 + 1/4) * 2.5e-4) = 0.0106066.
    expect(result?.ci95).toBeCloseTo(2.7764451 * 0.010606601717798213, 8);
  });

  test('leave out the final fit and folds that failed', () => {
    const trials = [trial(0, 0.8), trial(1, 0.9), trial(2, 0.1, 'failed'), trial(null, 0.2)];
    const result = foldStatistics(trials, config);
    expect(result?.n).toBe(2);
    expect(result?.mean).toBeCloseTo(0.85, 12);
    // t(0.975, 1) = 12.706205; variance 0.005; (1/2 + 1/4) * 0.005 = 0.00375.
    expect(result?.ci95).toBeCloseTo(12.7062047 * Math.sqrt(0.00375), 6);
  });

  test('are none without folds or with one that ended', () => {
    expect(foldStatistics([trial(null, 0.9)], parseRunConfig({}))).toBeNull();
    expect(foldStatistics([trial(0, 0.9), trial(1, 0.9, 'stopped')], config)).toBeNull();
  });

  test('go with a hash over those of all trials; of one trial it is the hash itself', () => {
    expect(weightsOfRun([trial(0, 1)])).toBe('0'.repeat(64));
    const both = weightsOfRun([trial(0, 1), trial(1, 1)]);
    expect(both).toMatch(/^[0-9a-f]{64}$/);
    expect(weightsOfRun([trial(1, 1), trial(0, 1)])).not.toBe(both);
  });
});
