import { invariant } from '../shared/errors.js';
import {
  addRowDigests,
  equalRowDigests,
  formatRowDigest,
  rowDigest,
  type RowDigest,
} from '../shared/row-digest.js';
import type { ShardPlan } from '../shared/shards.js';
import type { LedgerSummary } from '../shared/summary.js';
import type { Range } from '../shared/tree.js';

/** What of a ledger outlives the process. */
export interface LedgerState {
  /** Epochs whose rows were all used exactly once. */
  readonly epochs: number;
  /** Of the epoch in work: the digest of the rows that each shard has used. */
  readonly digests: readonly RowDigest[];
}

const NONE: RowDigest = [0, 0];

/**
 * Which rows a trial has used. Workers report a digest of the rows of every micro-batch; it must be that of the
 * rows the plan gives to the shard in that step, and at the end of an epoch each shard's digests must add up
 * to the digest of its rows: every row of it once, no other.
 */
export class RowLedger {
  private readonly plan: ShardPlan;
  private readonly stream: { readonly seed: number; readonly trial: number };
  /** Digest of each shard's rows. */
  private readonly shards: readonly RowDigest[];
  private epochs: number;
  private usedSoFar: RowDigest[];
  /** Of one epoch: for each shard asked about, the digest of each step's rows. */
  private expectations = new Map<number, RowDigest[]>();
  private expectationsEpoch = -1;

  constructor(
    plan: ShardPlan,
    stream: { readonly seed: number; readonly trial: number },
    state?: LedgerState,
  ) {
    this.plan = plan;
    this.stream = stream;
    this.shards = Array.from({ length: plan.shards }, (_, shard) => rowDigest(plan.shardRows(shard)));
    this.epochs = state?.epochs ?? 0;
    this.usedSoFar = state === undefined ? this.shards.map(() => NONE) : [...state.digests];
  }

  /** The digest of the rows that `shard` uses in a step. */
  expected(epoch: number, shard: number, stepInEpoch: number): RowDigest {
    if (epoch !== this.expectationsEpoch) {
      this.expectations = new Map();
      this.expectationsEpoch = epoch;
    }
    let steps = this.expectations.get(shard);
    if (steps === undefined) {
      const { plan, stream } = this;
      const order = plan.epochOrder(stream.seed, stream.trial, epoch, shard);
      steps = Array.from({ length: plan.stepsPerEpoch }, (_, step) =>
        rowDigest(order.subarray(step * plan.microBatch, (step + 1) * plan.microBatch)),
      );
      this.expectations.set(shard, steps);
    }
    return steps[stepInEpoch] ?? NONE;
  }

  /** Are these the rows that the plan gives to the shards of a node in a step: so many, with these digests? */
  isOfStep(
    { epoch, stepInEpoch }: { readonly epoch: number; readonly stepInEpoch: number },
    { start, count }: Range,
    rows: number,
    digests: readonly RowDigest[],
  ): boolean {
    let expectedRows = 0;
    for (let shard = start; shard < start + count; shard++) {
      expectedRows += this.plan.microBatchRows(shard, stepInEpoch);
    }
    return (
      rows === expectedRows &&
      digests.length === count &&
      digests.every((digest, i) => equalRowDigests(digest, this.expected(epoch, start + i, stepInEpoch)))
    );
  }

  /** A step is done; `digests` are what was reported for each shard. */
  endStep(digests: readonly RowDigest[]): void {
    this.usedSoFar = this.usedSoFar.map((digest, shard) => addRowDigests(digest, digests[shard] ?? NONE));
  }

  /** All steps of the epoch are done. */
  endEpoch(epoch: number): void {
    this.usedSoFar.forEach((digest, shard) => {
      const whole = this.shards[shard] ?? NONE;
      invariant(
        equalRowDigests(digest, whole),
        `shard ${shard} used each of its rows once in epoch ${epoch + 1}`,
      );
    });
    this.epochs = epoch + 1;
    this.usedSoFar = this.shards.map(() => NONE);
  }

  snapshot(): LedgerState {
    return { epochs: this.epochs, digests: [...this.usedSoFar] };
  }

  summary(): LedgerSummary {
    return {
      epochs: this.epochs,
      rowsPerEpoch: this.plan.rows.length,
      rowsDigest: formatRowDigest(this.shards.reduce(addRowDigests, NONE)),
      shards: this.shards.map((digest, shard) => ({
        rows: this.plan.shardSize(shard),
        digest: formatRowDigest(digest),
      })),
    };
  }
}
