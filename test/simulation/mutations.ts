import { Scheduler } from '../../coordinator/scheduler.js';
import { Trial } from '../../coordinator/trial.js';
import { Adam } from '../../coordinator/optimizer/adam.js';
import { addInPlace, type GradientSum } from '../../shared/gradient-sum.js';
import { TreeSum, type Range } from '../../shared/tree.js';
import { RelayedTrial } from '../../relay/relayed-trial.js';
import { wireOf } from '../../shared/wire.js';
import { Places } from '../../worker/places.js';

/** Replaces a method; returns what puts it back. */
function patch(
  target: object,
  name: string,
  make: (real: (...args: never[]) => unknown) => unknown,
): () => void {
  const methods = target as Record<string, unknown>;
  const real = methods[name] as (...args: never[]) => unknown;
  methods[name] = make(real);
  return () => (methods[name] = real);
}

interface TreeInside {
  arrived?: unknown;
  left?: number;
  readonly root: Range;
  readonly combine: (left: unknown, right: unknown) => unknown;
  readonly covered: Uint8Array;
}

interface TrialInside {
  readonly phase: { kind: string; round?: { round: number }; sum?: { held: Map<number, GradientSum> } };
}

/**
 * Faults planted in the real classes while a simulation runs: it must notice each of them. Every one returns what
 * undoes it.
 */
export const mutations: Readonly<Record<string, () => () => void>> = {
  /** Partials are added as they come, not along the tree. */
  'arrival-order': () =>
    patch(
      TreeSum.prototype,
      'add',
      () =>
        function add(this: TreeInside, node: Range, value: unknown): unknown {
          this.covered.fill(1, node.start - this.root.start, node.start - this.root.start + node.count);
          this.arrived = this.arrived === undefined ? value : this.combine(this.arrived, value);
          this.left = (this.left ?? this.root.count) - node.count;
          return this.left === 0 ? this.arrived : undefined;
        },
    ),
  /** Only what crosses a wire is rounded, not every sum. */
  'sums-not-rounded': () => patch(wireOf('bf16'), 'add', () => addInPlace),
  /** A partial that comes a second time is added a second time. */
  'duplicate-taken': () =>
    patch(
      Trial.prototype,
      'receivePartial',
      (real) =>
        function receivePartial(this: TrialInside, ...args: never[]): unknown {
          const [round, , sum] = args as unknown as [number, Range, GradientSum];
          const answer = real.apply(this, args) as { verdict: string };
          const { phase } = this;
          if (answer.verdict !== 'late' || phase.kind !== 'step' || phase.round?.round !== round)
            return answer;
          const held =
            [...(phase.sum?.held.values() ?? [])].find(({ values }) => values !== null)?.values ?? undefined;
          if (held !== undefined && sum.values !== null) addInPlace(held, sum.values);
          return answer;
        },
    ),
  /** A resumed run begins with a fresh optimizer. */
  'optimizer-forgotten': () => patch(Adam.prototype, 'restore', () => () => undefined),
  /** What a lost worker held is not leased again. */
  'lease-lost': () =>
    patch(
      Scheduler.prototype,
      'leave',
      () =>
        function leave(this: { readonly workers: Map<number, unknown> }, worker: number): void {
          this.workers.delete(worker);
        },
    ),
  /** A relay keeps partials where they came in, which the next one may overwrite. */
  'relay-keeps-no-copy': () => patch(RelayedTrial.prototype, 'hold', () => (sum: GradientSum) => sum),
  /** Every gradient is left in the same place of the exchange. */
  'one-place': () => patch(Places.prototype, 'take', () => () => 0),
};
