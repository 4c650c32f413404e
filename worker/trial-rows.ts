import { Purpose, RandomStream } from '../shared/rng.js';
import { rowDigest, type RowDigest } from '../shared/row-digest.js';
import type { ShardPlan } from '../shared/shards.js';
import type { Range } from '../shared/tree.js';
import type { MicroBatch } from './micro-batch.js';
import type { RowUser } from './row-store.js';

const NO_ROWS = new Uint32Array(0);

/** A step's place in a training; both count from 0. */
interface StepPlace {
  readonly epoch: number;
  readonly stepInEpoch: number;
}

/** The micro-batches of some shards in one step, and what the ledger keeps of their rows. */
export interface PartRows {
  readonly batches: readonly MicroBatch[];
  /** One for each micro-batch. */
  readonly digests: RowDigest[];
}

/** Which rows a trial's shards use in which step, all of them present when they are told. */
export class TrialRows {
  private readonly plan: ShardPlan;
  private readonly seed: number;
  private readonly trial: number;
  private readonly store: Pick<RowUser, 'ensure'>;
  /** Of one epoch, by shard. */
  private orders = new Map<number, Promise<Uint32Array>>();
  private ordersEpoch = -1;

  /** @param store asked for the rows of an epoch when the first of them are needed */
  constructor(
    plan: ShardPlan,
    { seed, trial }: { readonly seed: number; readonly trial: number },
    store: Pick<RowUser, 'ensure'>,
  ) {
    this.plan = plan;
    this.seed = seed;
    this.trial = trial;
    this.store = store;
  }

  async ofShards({ start, count }: Range, step: StepPlace): Promise<PartRows> {
    const shards = Array.from({ length: count }, (_, i) => start + i);
    const batches = await Promise.all(shards.map((shard) => this.microBatch(shard, step)));
    return { batches, digests: batches.map(({ rows }) => rowDigest(rows)) };
  }

  private async microBatch(shard: number, { epoch, stepInEpoch }: StepPlace): Promise<MicroBatch> {
    const { seed, trial } = this;
    const { microBatch } = this.plan;
    const count = this.plan.microBatchRows(shard, stepInEpoch);
    const position = stepInEpoch * microBatch;
    const rows =
      count === 0 ? NO_ROWS : (await this.epochOrder(epoch, shard)).slice(position, position + count);
    const place = { seed, trial, epoch, shard, position };
    return { rows, seed: this.seedWords(epoch, shard, stepInEpoch), place };
  }

  /** The shard's rows in this epoch's order, all of them present. Drawn once an epoch. */
  private epochOrder(epoch: number, shard: number): Promise<Uint32Array> {
    if (epoch !== this.ordersEpoch) {
      this.orders = new Map();
      this.ordersEpoch = epoch;
    }
    let order = this.orders.get(shard);
    if (order === undefined) {
      order = this.presentOrder(epoch, shard);
      this.orders.set(shard, order);
    }
    // Who asks later waits for the rows too: an earlier round may have been answered elsewhere before they came.
    return order;
  }

  private async presentOrder(epoch: number, shard: number): Promise<Uint32Array> {
    const order = this.plan.epochOrder(this.seed, this.trial, epoch, shard);
    await this.store.ensure(order);
    return order;
  }

  /** Where the random layers of a micro-batch start: the block of the shard's stream that belongs to the step. */
  private seedWords(epoch: number, shard: number, stepInEpoch: number): Int32Array {
    const { seed, trial } = this;
    const stream = new RandomStream({ seed, purpose: Purpose.dropout, trial, epoch, shard }, stepInEpoch);
    return Int32Array.of(stream.uint32(), stream.uint32());
  }
}
