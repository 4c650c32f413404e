import { Purpose, RandomStream, shuffle } from './rng.js';

/**
 * How a trial's training rows are cut: row i of the trial's ordered list belongs to shard i mod `shards`, so
 * shard sizes differ by at most one. A step takes `microBatch` rows of every shard, the last step of an epoch
 * what is left; so each epoch uses each row exactly once, as Keras does.
 */
export class ShardPlan {
  readonly rows: Uint32Array;
  readonly shards: number;
  readonly microBatch: number;
  readonly stepsPerEpoch: number;

  /** @param rows dataset row numbers of the trial's training rows, ascending */
  constructor(rows: Uint32Array, shards: number, batchSize: number) {
    this.rows = rows;
    this.shards = shards;
    this.microBatch = batchSize / shards;
    this.stepsPerEpoch = Math.ceil(this.shardSize(0) / this.microBatch);
  }

  /** Number of rows of a shard. */
  shardSize(shard: number): number {
    return Math.ceil((this.rows.length - shard) / this.shards);
  }

  /** Number of rows a shard contributes to step `stepInEpoch` (from 0); may be 0 in the last one. */
  microBatchRows(shard: number, stepInEpoch: number): number {
    const left = this.shardSize(shard) - stepInEpoch * this.microBatch;
    return Math.max(0, Math.min(this.microBatch, left));
  }

  /** Number of rows of all shards in one step. */
  batchRows(stepInEpoch: number): number {
    let rows = 0;
    for (let shard = 0; shard < this.shards; shard++) rows += this.microBatchRows(shard, stepInEpoch);
    return rows;
  }

  /** Dataset row numbers of a shard, in order. */
  shardRows(shard: number): Uint32Array {
    return Uint32Array.from(
      { length: this.shardSize(shard) },
      (_, i) => this.rows[shard + i * this.shards] as number,
    );
  }

  /** Dataset row numbers of a shard in the order in which `epoch` uses them. */
  epochOrder(seed: number, trial: number, epoch: number, shard: number): Uint32Array {
    const stream = new RandomStream({ seed, purpose: Purpose.shuffle, trial, epoch, shard });
    return shuffle(this.shardRows(shard), stream);
  }
}
