import { Bitmap } from '../shared/bitmap.js';
import { AtelierError, invariant } from '../shared/errors.js';
import { addGradientSums, type GradientSum } from '../shared/gradient-sum.js';
import { bytesOf } from '../shared/protocol/frame.js';
import type {
  CoordinatorToWorker,
  Lease,
  RunSpec,
  Split,
  WorkerToCoordinator,
} from '../shared/protocol/messages.js';
import { Purpose, RandomStream } from '../shared/rng.js';
import { ShardPlan } from '../shared/shards.js';
import { coveringNodes, TreeSum, type Range } from '../shared/tree.js';
import type { ComputePool } from './compute-pool.js';
import type { RowStore } from './row-store.js';
import type { RunMemory, WeightMemory } from './slot.js';

type Step = Extract<CoordinatorToWorker, { type: 'step' }>;
type Evaluate = Extract<CoordinatorToWorker, { type: 'evaluate' }>;

/** What a run's trials share in this worker. */
export interface RunContext {
  readonly spec: RunSpec;
  readonly memory: RunMemory;
  readonly store: RowStore;
  readonly pool: ComputePool;
  readonly send: (message: WorkerToCoordinator, payload?: Uint8Array) => void;
  /** Tells the coordinator something people should know; repeating it is free. */
  readonly warn: (message: string) => void;
}

/** A worker's part of one trial: computes the shards and chunks it holds leases on, and answers. */
export class TrialWork {
  private readonly context: RunContext;
  private readonly trial: number;
  private readonly plan: ShardPlan;
  private readonly splits: Record<Split, Uint32Array>;
  private readonly values: SharedArrayBuffer;
  private weights: WeightMemory;
  /** One gradient buffer a shard, kept from step to step. */
  private readonly gradients = new Map<number, SharedArrayBuffer>();
  private epochOrders = new Map<number, Uint32Array>();
  private ordersEpoch = -1;

  /** @param payload bitmap of training rows, bitmap of validation rows. Throws AtelierError `protocol`. */
  constructor(context: RunContext, trial: number, payload: Uint8Array) {
    const { dataset, shards, batchSize, layout } = context.spec;
    const bytes = Bitmap.byteLength(dataset.trainRows);
    if (payload.byteLength !== 2 * bytes) {
      throw new AtelierError('protocol', `trial: ${payload.byteLength} bytes of bitmaps, not ${2 * bytes}`);
    }
    this.context = context;
    this.trial = trial;
    const rowsOf = (bitmap: Uint8Array): Uint32Array => new Bitmap(dataset.trainRows, bitmap).rows();
    this.plan = new ShardPlan(rowsOf(payload.subarray(0, bytes)), shards, batchSize);
    this.splits = {
      validation: rowsOf(payload.subarray(bytes)),
      test: Uint32Array.from({ length: dataset.testRows }, (_, i) => dataset.trainRows + i),
    };
    this.values = new SharedArrayBuffer(layout.size * Float32Array.BYTES_PER_ELEMENT);
    this.weights = { version: 'none', values: this.values };
  }

  /** Computes the leased shards of a step and sends one partial for each tree node they cover. */
  async step(message: Step, leases: readonly Lease[], weights: Uint8Array): Promise<void> {
    this.setWeights(message.round, weights);
    const nodes = leases.flatMap((lease) => coveringNodes(lease, this.plan.shards));
    await Promise.all(nodes.map((node) => this.computeNode(message, node)));
  }

  /** Evaluates the leased chunks and sends one answer for each. */
  async evaluate(message: Evaluate, leases: readonly Lease[], weights: Uint8Array): Promise<void> {
    this.setWeights(message.round, weights);
    const chunks = leases.flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => start + i));
    await Promise.all(chunks.map((chunk) => this.computeChunk(message, chunk)));
  }

  private setWeights(round: number, weights: Uint8Array): void {
    const { byteLength } = this.values;
    if (weights.byteLength !== byteLength) {
      throw new AtelierError('protocol', `weights of ${weights.byteLength} bytes, not ${byteLength}`);
    }
    new Uint8Array(this.values).set(weights);
    this.weights = { version: `trial ${this.trial} round ${round}`, values: this.values };
  }

  private async computeNode({ round, epoch, stepInEpoch }: Step, node: Range): Promise<void> {
    const tree = new TreeSum(node, addGradientSums);
    const shards = Array.from({ length: node.count }, (_, i) => node.start + i);
    let computeMs = 0;
    const totals = await Promise.all(
      shards.map(async (shard) => {
        const part = await this.computeShard(shard, epoch, stepInEpoch);
        computeMs += part.computeMs;
        return tree.add({ start: shard, count: 1 }, part.sum);
      }),
    );
    const sum = totals.find((total) => total !== undefined);
    invariant(sum !== undefined, 'all shards of the node are in');
    const { rows, lossSum, correct, values } = sum;
    this.context.send(
      { type: 'partial', trial: this.trial, round, ...node, rows, lossSum, correct, computeMs },
      values === null ? undefined : bytesOf(values),
    );
  }

  private async computeShard(
    shard: number,
    epoch: number,
    stepInEpoch: number,
  ): Promise<{ sum: GradientSum; computeMs: number }> {
    const { microBatch } = this.plan;
    const count = this.plan.microBatchRows(shard, stepInEpoch);
    if (count === 0) return { sum: { rows: 0, lossSum: 0, correct: 0, values: null }, computeMs: 0 };
    const order = await this.epochOrder(epoch, shard);
    const rows = order.slice(stepInEpoch * microBatch, stepInEpoch * microBatch + count);
    const { pool, memory } = this.context;
    const out = this.gradientBuffer(shard);
    const seed = this.seedWords(epoch, shard, stepInEpoch);
    const { lossSum, correct, computeMs, fallback } = await pool.gradient({
      run: memory,
      weights: this.weights,
      out,
      rows,
      seed,
    });
    if (fallback !== null) this.context.warn(`${fallback}: this model is not compiled, steps are slower`);
    return { sum: { rows: count, lossSum, correct, values: new Float32Array(out) }, computeMs };
  }

  private async computeChunk({ round, split }: Evaluate, chunk: number): Promise<void> {
    const { pool, memory, spec, store } = this.context;
    const rows = this.splits[split].slice(chunk * spec.evaluationRows, (chunk + 1) * spec.evaluationRows);
    if (rows.length === 0) throw new AtelierError('protocol', `there is no ${split} chunk ${chunk}`);
    await store.ensure(rows);
    const { lossSum, confusion, computeMs } = await pool.evaluate({
      run: memory,
      weights: this.weights,
      rows,
    });
    this.context.send(
      { type: 'evaluated', trial: this.trial, round, chunk, rows: rows.length, lossSum, computeMs },
      bytesOf(confusion),
    );
  }

  /** The shard's rows in this epoch's order, all of them present. Drawn once an epoch. */
  private async epochOrder(epoch: number, shard: number): Promise<Uint32Array> {
    if (epoch !== this.ordersEpoch) {
      this.epochOrders = new Map();
      this.ordersEpoch = epoch;
    }
    let order = this.epochOrders.get(shard);
    if (order === undefined) {
      order = this.plan.epochOrder(this.context.spec.seed, this.trial, epoch, shard);
      this.epochOrders.set(shard, order);
      await this.context.store.ensure(order);
    }
    return order;
  }

  /** Where the random layers of a micro-batch start: the block of the shard's stream that belongs to the step. */
  private seedWords(epoch: number, shard: number, stepInEpoch: number): Int32Array {
    const { seed } = this.context.spec;
    const address = { seed, purpose: Purpose.dropout, trial: this.trial, epoch, shard };
    const stream = new RandomStream(address, stepInEpoch);
    return Int32Array.of(stream.uint32(), stream.uint32());
  }

  private gradientBuffer(shard: number): SharedArrayBuffer {
    let buffer = this.gradients.get(shard);
    if (buffer === undefined) {
      buffer = new SharedArrayBuffer(this.values.byteLength);
      this.gradients.set(shard, buffer);
    }
    return buffer;
  }
}
