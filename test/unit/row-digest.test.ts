import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RowLedger } from '../../coordinator/row-ledger.js';
import { addRowDigests, formatRowDigest, rowDigest, type RowDigest } from '../../shared/row-digest.js';
import { ShardPlan } from '../../shared/shards.js';

const row = fc.integer({ min: 0, max: 0xffff_ffff });
const rows = fc.uniqueArray(row, { minLength: 1, maxLength: 40 });

describe('a row digest', () => {
  test('does not depend on the order of the rows', () => {
    fc.assert(
      fc.property(
        rows.chain((set) => fc.tuple(fc.constant(set), fc.shuffledSubarray(set, { minLength: set.length }))),
        ([set, shuffled]) => {
          expect(rowDigest(shuffled)).toEqual(rowDigest(set));
        },
      ),
    );
  });

  test('of disjoint sets adds up to that of their union', () => {
    fc.assert(
      fc.property(rows, fc.nat(), (set, at) => {
        const cut = at % set.length;
        const sum = addRowDigests(rowDigest(set.slice(0, cut)), rowDigest(set.slice(cut)));
        expect(sum).toEqual(rowDigest(set));
      }),
    );
  });

  test('tells a missing, a repeated and an exchanged row', () => {
    fc.assert(
      fc.property(rows, row, (set, other) => {
        const [first = 0, ...rest] = set;
        const digest = rowDigest(set);
        expect(rowDigest(rest)).not.toEqual(digest);
        expect(rowDigest([first, ...set])).not.toEqual(digest);
        if (!set.includes(other)) expect(rowDigest([other, ...rest])).not.toEqual(digest);
      }),
    );
  });

  test('differs for every pair of 300 rows, exchanged for every other', () => {
    const pairs = new Set<string>();
    for (let a = 0; a < 300; a++)
      for (let b = a + 1; b < 300; b++) pairs.add(formatRowDigest(rowDigest([a, b])));
    expect(pairs.size).toBe((300 * 299) / 2);
  });

  test('is written as 16 digits', () => {
    expect(formatRowDigest([1, 0xffff_ffff])).toBe('00000001ffffffff');
  });
});

describe('a row ledger', () => {
  const plan = new ShardPlan(
    Uint32Array.from({ length: 21 }, (_, i) => 3 * i),
    4,
    8,
  );
  const stream = { seed: 1, trial: 0 };
  const digestsOf = (ledger: RowLedger, epoch: number, step: number): RowDigest[] =>
    [0, 1, 2, 3].map((shard) => ledger.expected(epoch, shard, step));
  const runEpoch = (ledger: RowLedger, epoch: number, from = 0): void => {
    for (let step = from; step < plan.stepsPerEpoch; step++) ledger.endStep(digestsOf(ledger, epoch, step));
  };

  test('counts an epoch whose rows were all used once', () => {
    const ledger = new RowLedger(plan, stream);
    for (const epoch of [0, 1]) {
      runEpoch(ledger, epoch);
      ledger.endEpoch(epoch);
    }
    expect(ledger.summary()).toMatchObject({
      epochs: 2,
      rowsPerEpoch: 21,
      rowsDigest: formatRowDigest(rowDigest(plan.rows)),
    });
  });

  test('expects of a step the digest of the rows that the plan gives to it, in any order of asking', () => {
    const ledger = new RowLedger(plan, stream);
    for (const [epoch, shard, step] of [
      [1, 2, 1],
      [0, 3, 2],
      [1, 0, 0],
    ] as const) {
      const order = plan.epochOrder(stream.seed, stream.trial, epoch, shard);
      const used = order.subarray(step * plan.microBatch, (step + 1) * plan.microBatch);
      expect(ledger.expected(epoch, shard, step)).toEqual(rowDigest(used));
    }
  });

  test('does not let an epoch end in which a step was left out or came twice', () => {
    const missing = new RowLedger(plan, stream);
    runEpoch(missing, 0, 1);
    expect(() => missing.endEpoch(0)).toThrow(/each of its rows once/);
    const repeated = new RowLedger(plan, stream);
    repeated.endStep(digestsOf(repeated, 0, 0));
    runEpoch(repeated, 0);
    expect(() => repeated.endEpoch(0)).toThrow(/each of its rows once/);
  });

  test('goes on in mid-epoch from what it kept', () => {
    const before = new RowLedger(plan, stream);
    before.endStep(digestsOf(before, 0, 0));
    const after = new RowLedger(plan, stream, before.snapshot());
    runEpoch(after, 0, 1);
    after.endEpoch(0);
    expect(after.snapshot().epochs).toBe(1);
  });
});
