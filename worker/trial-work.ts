import { Bitmap } from '../shared/bitmap.js';
import { AtelierError, invariant } from '../shared/errors.js';
import { addGradientSums, type GradientSum } from '../shared/gradient-sum.js';
import { bytesOf } from '../shared/protocol/frame.js';
import type {
  CoordinatorToWorker,
  RunSpec,
  Split,
  WorkerToCoordinator,
} from '../shared/protocol/messages.js';
import { Purpose, RandomStream } from '../shared/rng.js';
import { rowDigest, type RowDigest } from '../shared/row-digest.js';
import { ShardPlan } from '../shared/shards.js';
import { coveringNodes, TreeSum, type Range } from '../shared/tree.js';
import type { BufferPool } from './buffer-pool.js';
import type { Compute } from './compute-pool.js';
import type { RowStore } from './row-store.js';
import type { RunMemory, WeightMemory } from './slot.js';

type Round = Extract<CoordinatorToWorker, { type: 'round' }>;
type StepWork = Extract<Round['work'], { kind: 'step' }>;

/** What a run's trials share in this worker. */
export interface RunContext {
  /** The run's number at the coordinator. */
  readonly run: number;
  /** Tells the contents of weights apart, whatever coordinator and connection they came by. */
  readonly era: number;
  readonly spec: RunSpec;
  readonly memory: RunMemory;
  readonly store: RowStore;
  readonly pool: Compute;
  /** Buffers of `layout.size` floats, for gradients. */
  readonly buffers: BufferPool;
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
  /** The newest round that parameters have come for. */
  private round: Round | undefined;
  private epochOrders = new Map<number, Promise<Uint32Array>>();
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

  /** Takes in a round: what is to be done, and the parameters to do it with. */
  open(round: Round, weights: Uint8Array): void {
    const { byteLength } = this.values;
    if (weights.byteLength !== byteLength) {
      throw new AtelierError('protocol', `weights of ${weights.byteLength} bytes, not ${byteLength}`);
    }
    new Uint8Array(this.values).set(weights);
    const version = `${this.context.era} trial ${this.trial} round ${round.round}`;
    this.weights = { version, values: this.values };
    this.round = round;
  }

  /** Computes leased shards or chunks of the round and sends one answer for each tree node or chunk. */
  async compute(number: number, lease: Range): Promise<void> {
    const { round } = this;
    if (round?.round !== number)
      throw new AtelierError('protocol', `a lease of round ${number}, which is not here`);
    const { work } = round;
    if (work.kind === 'step') {
      if (lease.start + lease.count > this.plan.shards) {
        throw new AtelierError('protocol', `there is no shard ${lease.start + lease.count - 1}`);
      }
      const nodes = coveringNodes(lease, this.plan.shards);
      await Promise.all(nodes.map((node) => this.computeNode(number, work, node)));
    } else {
      const chunks = Array.from({ length: lease.count }, (_, i) => lease.start + i);
      await Promise.all(chunks.map((chunk) => this.computeChunk(number, work.split, chunk)));
    }
  }

  private async computeNode(round: number, work: StepWork, node: Range): Promise<void> {
    const { run, buffers, send } = this.context;
    const tree = new TreeSum(node, addGradientSums);
    const shards = Array.from({ length: node.count }, (_, i) => node.start + i);
    const lent: SharedArrayBuffer[] = [];
    const rowDigests: RowDigest[] = [];
    let computeMs = 0;
    let retries = 0;
    try {
      const totals = await Promise.all(
        shards.map(async (shard, i) => {
          const part = await this.computeShard(shard, work, lent);
          computeMs += part.computeMs;
          retries += part.retries;
          rowDigests[i] = part.digest;
          return tree.add({ start: shard, count: 1 }, part.sum);
        }),
      );
      const sum = totals.find((total) => total !== undefined);
      invariant(sum !== undefined, 'all shards of the node are in');
      const { rows, lossSum, correct, values } = sum;
      const figures = { rows, lossSum, correct, rowDigests, computeMs, retries };
      send(
        { type: 'partial', run, trial: this.trial, round, ...node, ...figures },
        values === null ? undefined : bytesOf(values),
      );
    } finally {
      for (const buffer of lent) buffers.giveBack(buffer);
    }
  }

  private async computeShard(
    shard: number,
    { epoch, stepInEpoch }: StepWork,
    lent: SharedArrayBuffer[],
  ): Promise<{ sum: GradientSum; digest: RowDigest; computeMs: number; retries: number }> {
    const { microBatch } = this.plan;
    const count = this.plan.microBatchRows(shard, stepInEpoch);
    if (count === 0) {
      return {
        sum: { rows: 0, lossSum: 0, correct: 0, values: null },
        digest: [0, 0],
        computeMs: 0,
        retries: 0,
      };
    }
    // The round may be over, and the next one's parameters be here, before the rows are.
    const { weights } = this;
    const order = await this.epochOrder(epoch, shard);
    const rows = order.slice(stepInEpoch * microBatch, stepInEpoch * microBatch + count);
    const { pool, memory, buffers, spec, warn } = this.context;
    const out = buffers.borrow();
    lent.push(out);
    const seed = this.seedWords(epoch, shard, stepInEpoch);
    const place = { seed: spec.seed, trial: this.trial, epoch, shard, position: stepInEpoch * microBatch };
    const result = await pool.gradient({ run: memory, weights, out, rows, seed, place });
    const { lossSum, correct, computeMs, retries, fallback } = result;
    if (fallback !== null) warn(`${fallback}: this model is not compiled, steps are slower`);
    const sum = { rows: count, lossSum, correct, values: new Float32Array(out) };
    return { sum, digest: rowDigest(rows), computeMs, retries };
  }

  private async computeChunk(round: number, split: Split, chunk: number): Promise<void> {
    const { run, pool, memory, spec, store, send } = this.context;
    const { weights } = this;
    const rows = this.splits[split].slice(chunk * spec.evaluationRows, (chunk + 1) * spec.evaluationRows);
    if (rows.length === 0) throw new AtelierError('protocol', `there is no ${split} chunk ${chunk}`);
    await store.ensure(rows);
    const { lossSum, confusion, computeMs, retries } = await pool.evaluate({ run: memory, weights, rows });
    const figures = { rows: rows.length, lossSum, computeMs, retries };
    send({ type: 'evaluated', run, trial: this.trial, round, chunk, ...figures }, bytesOf(confusion));
  }

  /** The shard's rows in this epoch's order, all of them present. Drawn once an epoch. */
  private epochOrder(epoch: number, shard: number): Promise<Uint32Array> {
    if (epoch !== this.ordersEpoch) {
      this.epochOrders = new Map();
      this.ordersEpoch = epoch;
    }
    let order = this.epochOrders.get(shard);
    if (order === undefined) {
      order = this.presentOrder(epoch, shard);
      this.epochOrders.set(shard, order);
    }
    // Who asks later waits for the rows too: an earlier round may have been answered elsewhere before they came.
    return order;
  }

  private async presentOrder(epoch: number, shard: number): Promise<Uint32Array> {
    const order = this.plan.epochOrder(this.context.spec.seed, this.trial, epoch, shard);
    await this.context.store.ensure(order);
    return order;
  }

  /** Where the random layers of a micro-batch start: the block of the shard's stream that belongs to the step. */
  private seedWords(epoch: number, shard: number, stepInEpoch: number): Int32Array {
    const { seed } = this.context.spec;
    const address = { seed, purpose: Purpose.dropout, trial: this.trial, epoch, shard };
    const stream = new RandomStream(address, stepInEpoch);
    return Int32Array.of(stream.uint32(), stream.uint32());
  }
}
