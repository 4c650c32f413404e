/**
 * Faults planted into the real classes, to see that the simulation would find them. Each returns what puts the
 * class right again.
 */
import { MemoryJournal } from './memory-journal.js';
import { Trial } from '../../coordinator/trial.js';
import { addGradientSums, type GradientSum } from '../../shared/gradient-sum.js';
import { TreeSum, type Range } from '../../shared/tree.js';

function patch<Key extends string>(
  prototype: Partial<Record<Key, unknown>>,
  key: Key,
  make: (original: unknown) => unknown,
): () => void {
  const original = prototype[key];
  prototype[key] = make(original);
  return () => (prototype[key] = original);
}

type Prototype = Partial<Record<string, unknown>>;

export const mutations = {
  /** Partials are added in the order of their arrival. */
  'arrival-order': (): (() => void) =>
    patch(TreeSum.prototype as unknown as Prototype, 'add', () => {
      const sums = new WeakMap<object, { leaves: number; sum: GradientSum }>();
      return function (this: { root: Range; covered: Uint8Array }, node: Range, value: GradientSum) {
        const before = sums.get(this);
        const sum = before === undefined ? value : addGradientSums(before.sum, value);
        const leaves = (before?.leaves ?? 0) + node.count;
        sums.set(this, { leaves, sum });
        this.covered.fill(1, node.start - this.root.start, node.start - this.root.start + node.count);
        return leaves === this.root.count ? sum : undefined;
      };
    }),
  /** A second answer for the same shards counts again. */
  'duplicate-taken': (): (() => void) =>
    patch(TreeSum.prototype as unknown as Prototype, 'overlaps', (original) => {
      return function (this: { held: Map<string, { lossSum: number }> }, node: Range) {
        const overlaps = (original as (node: Range) => boolean).call(this, node);
        if (overlaps) for (const held of this.held.values()) held.lossSum += 1;
        return overlaps;
      };
    }),
  /** A late answer of an earlier round counts in the current one. */
  'stale-round': (): (() => void) =>
    patch(Trial.prototype as unknown as Prototype, 'receivePartial', (original) => {
      return function (this: { phase: { round?: { round: number } } }, round: number, ...rest: unknown[]) {
        const current = this.phase.round?.round ?? round;
        return (original as (...args: unknown[]) => unknown).call(this, current, ...rest);
      };
    }),
  /** A checkpoint keeps the ledger, but not the figures of the epoch in work. */
  'totals-lost': (): (() => void) =>
    patch(Trial.prototype as unknown as Prototype, 'snapshot', (original) => {
      return function (this: Trial) {
        const state = (original as () => ReturnType<Trial['snapshot']>).call(this);
        return {
          ...state,
          epochTotals: { rows: state.epochTotals.rows, lossSum: 0, correct: 0, seconds: 0 },
        };
      };
    }),
  /** A resumed run keeps the metrics of epochs that come again. */
  'metrics-kept': (): (() => void) =>
    patch(MemoryJournal.prototype as unknown as Prototype, 'rewriteEpochs', () => () => undefined),
};

export const plant = (name: keyof typeof mutations): (() => void) => mutations[name]();
