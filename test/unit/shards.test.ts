import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ShardPlan } from '../../shared/shards.js';

const plans = fc
  .record({
    rows: fc.uniqueArray(fc.integer({ min: 0, max: 5_000 }), { minLength: 1, maxLength: 300 }),
    shards: fc.integer({ min: 1, max: 16 }),
    microBatch: fc.integer({ min: 1, max: 20 }),
  })
  .map(({ rows, shards, microBatch }) => {
    const ascending = Uint32Array.from(rows).sort();
    return new ShardPlan(ascending, shards, shards * microBatch);
  });

const shardsOf = (plan: ShardPlan): number[] => Array.from({ length: plan.shards }, (_, i) => i);
const stepsOf = (plan: ShardPlan): number[] => Array.from({ length: plan.stepsPerEpoch }, (_, i) => i);

/** What a worker takes of a shard for a step. */
function rowsOfStep(plan: ShardPlan, shard: number, step: number): Uint32Array {
  const from = step * plan.microBatch;
  return plan.epochOrder(7, 0, 3, shard).slice(from, from + plan.microBatchRows(shard, step));
}

describe('a shard plan', () => {
  test('uses every row exactly once an epoch, for any rows, shards and batch', () => {
    fc.assert(
      fc.property(plans, (plan) => {
        const used = stepsOf(plan).flatMap((step) =>
          shardsOf(plan).flatMap((shard) => [...rowsOfStep(plan, shard, step)]),
        );
        expect(used.sort((a, b) => a - b)).toEqual([...plan.rows]);
      }),
    );
  });

  test('counts the rows of a step as they are', () => {
    fc.assert(
      fc.property(plans, (plan) => {
        for (const step of stepsOf(plan)) {
          const parts = shardsOf(plan).map((shard) => rowsOfStep(plan, shard, step).length);
          expect(parts).toEqual(shardsOf(plan).map((shard) => plan.microBatchRows(shard, step)));
          expect(plan.batchRows(step)).toBe(parts.reduce((sum, n) => sum + n, 0));
        }
      }),
    );
  });

  test('fills every step but the last', () => {
    const plan = new ShardPlan(
      Uint32Array.from({ length: 1_003 }, (_, i) => i),
      8,
      256,
    );
    expect(stepsOf(plan).map((step) => plan.batchRows(step))).toEqual([256, 256, 256, 235]);
  });

  test('has shards whose sizes differ by at most one', () => {
    fc.assert(
      fc.property(plans, (plan) => {
        const sizes = shardsOf(plan).map((shard) => plan.shardSize(shard));
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
        expect(sizes.reduce((sum, n) => sum + n, 0)).toBe(plan.rows.length);
      }),
    );
  });

  test('orders a shard by its address only', () => {
    const rows = Uint32Array.from({ length: 400 }, (_, i) => i);
    const order = new ShardPlan(rows, 4, 32).epochOrder(1, 0, 2, 3);
    const again = new ShardPlan(rows, 4, 320).epochOrder(1, 0, 2, 3);
    expect(again).toEqual(order);
  });

  test.each([
    ['seed', [2, 0, 2, 3]],
    ['trial', [1, 1, 2, 3]],
    ['epoch', [1, 0, 3, 3]],
  ] as const)('orders a shard otherwise for another %s', (_name, [seed, trial, epoch, shard]) => {
    const plan = new ShardPlan(
      Uint32Array.from({ length: 400 }, (_, i) => i),
      4,
      32,
    );
    const order = plan.epochOrder(1, 0, 2, 3);
    const other = plan.epochOrder(seed, trial, epoch, shard);
    expect(other).not.toEqual(order);
    expect(other.toSorted()).toEqual(order.toSorted());
  });
});
