import type { FilePlace } from '../shared/exchange.js';
import type { CoordinatorToWorker } from '../shared/protocol/messages.js';
import { isSameRange, type Range } from '../shared/tree.js';
import type { Compute, ExpectedParameters, Standby } from './compute-pool.js';
import { hasRows } from './micro-batch.js';
import type { RunMemory, WeightMemory } from './slot.js';
import type { PartRows, TrialRows } from './trial-rows.js';

export type Round = Extract<CoordinatorToWorker, { type: 'round' }>;
export type StepWork = Extract<Round['work'], { kind: 'step' }>;

/** Where a slot writes a gradient: memory of this process, or a place where the coordinator finds it. */
export type Output = Float32Array | FilePlace;

/** What one slot computes in one go. */
interface Part {
  readonly part: Range;
  /** Is it all of what is answered? */
  readonly isWhole: boolean;
}

/** A part that lies ready in a slot. */
interface ReadyPart extends PartRows {
  readonly part: Range;
  readonly out: Output;
}

export interface BegunPart extends ReadyPart {
  /** Null when other tasks had it dropped. */
  readonly result: ReturnType<Standby['begin']>[number] | undefined;
}

/** What the trial knows of a step before it comes. */
interface Foreseen {
  readonly round: number;
  readonly work: StepWork;
  /** The version that its weights will have, and where they will be. */
  readonly weights: WeightMemory;
  /** Where slots see that they have come; undefined where they have to be told. */
  readonly expected: ExpectedParameters | undefined;
  readonly lease: Range;
  readonly parts: readonly Part[];
}

/** What laying it ready takes. */
interface Means {
  readonly memory: RunMemory;
  readonly pool: Compute;
  readonly rows: TrialRows;
  /** @param isWhole whether all of what is answered is written there */
  readonly takeOutput: (isWhole: boolean) => Output;
  readonly giveBack: (output: Output) => void;
}

/**
 * The step after the one in work, as it will be if its lease is like the one before: laid ready in the slots, where it waits for a word, or
 * for its weights: slots that see those come begin before the lease is here, and what they compute counts if it is this one.
 * It is begun or dropped, once.
 */
export class NextStep {
  private readonly foreseen: Foreseen;
  private readonly means: Means;
  private laying: Promise<void> | undefined;
  private ready: { readonly parts: readonly ReadyPart[]; readonly standby: Standby } | undefined;
  private isOver = false;

  constructor(foreseen: Foreseen, means: Means) {
    this.foreseen = foreseen;
    this.means = means;
  }

  get round(): number {
    return this.foreseen.round;
  }

  /** Is this the round that was foreseen, with its weights where they were to be? */
  isRound({ round, work }: Round, values: WeightMemory['values']): boolean {
    const { foreseen } = this;
    return (
      round === foreseen.round &&
      work.kind === 'step' &&
      work.epoch === foreseen.work.epoch &&
      work.stepInEpoch === foreseen.work.stepInEpoch &&
      isSamePlace(values, foreseen.weights.values)
    );
  }

  /** Is this the lease that was foreseen? */
  isLease(lease: Range): boolean {
    return isSameRange(lease, this.foreseen.lease);
  }

  /**
   * Lays it ready, a part in each slot. The time for it is when the first slot has nothing to do: before that those that compute are to
   * have the cores, and after the last one the step waits for what this thread does. Asked again, it does nothing, unless slots had too
   * much to do.
   * @returns settled when it lies ready, as far as it can
   */
  layReady(): Promise<void> {
    if (this.laying === undefined) {
      this.laying = this.lay();
      // Who computes the last of the step before hears of it; that may be later.
      this.laying.catch(() => undefined);
    }
    return this.laying;
  }

  private async lay(): Promise<void> {
    const { work, weights, expected, parts: wanted } = this.foreseen;
    const { memory, pool, rows, takeOutput, giveBack } = this.means;
    const found = await Promise.all(
      wanted
        .slice(0, pool.slots)
        .map(async ({ part, isWhole }) => ({ part, isWhole, ...(await rows.ofShards(part, work)) })),
    );
    // Its lease, or another one, may have come before the rows.
    if (this.isOver) return;
    const parts = found
      .filter(({ batches }) => hasRows(batches))
      .map(({ isWhole, ...part }) => ({ ...part, out: takeOutput(isWhole) }));
    const tasks = parts.map(({ out, batches }) => ({ run: memory, weights, out, batches }));
    const standby = pool.standBy(tasks, expected);
    if (standby !== null) {
      this.ready = { parts, standby };
      return;
    }
    for (const { out } of parts) giveBack(out);
    this.laying = undefined;
  }

  /** Its lease has come. @returns what lay ready of it */
  begin(): BegunPart[] {
    this.isOver = true;
    if (this.ready === undefined) return [];
    const { parts, standby } = this.ready;
    const results = standby.begin();
    return parts.map((part, i) => ({ ...part, result: results[i] }));
  }

  drop(): void {
    this.isOver = true;
    if (this.ready === undefined) return;
    const { parts, standby } = this.ready;
    // What has begun goes on writing to its output.
    void standby.drop().then(() => {
      for (const { out } of parts) this.means.giveBack(out);
    });
  }
}

const isSamePlace = (a: WeightMemory['values'], b: WeightMemory['values']): boolean =>
  a === b || ('path' in a && 'path' in b && a.path === b.path);
