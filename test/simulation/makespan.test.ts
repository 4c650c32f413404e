import { expect, test } from 'vitest';
import { allCases, makespanOf } from './makespan.js';

const STEPS = 40;
const results = allCases(STEPS)
  .filter(({ slots }) => slots <= 16 || slots % 8 === 0)
  .map((testCase) => ({ ...testCase, ...makespanOf(testCase) }));

test('all folds are done within 5 % of the bound where slots are equal and there are no more than work for them', () => {
  const plain = results.filter(({ spread, slots, folds }) => spread === 1 && slots <= 16 && folds === 5);
  expect(Math.max(...plain.map(({ ratio }) => ratio))).toBeLessThan(1.05);
});

test('no schedule is worse than 20 % above it, whatever the speeds', () => {
  expect(Math.max(...results.map(({ ratio }) => ratio))).toBeLessThan(1.2);
  expect(Math.min(...results.map(({ ratio }) => ratio))).toBeGreaterThanOrEqual(0.999);
});
