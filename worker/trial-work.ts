import { Bitmap } from '../shared/bitmap.js';
import { hostTimeMs } from '../shared/clock.js';
import { AtelierError, invariant } from '../shared/errors.js';
import type { ExchangeGuest } from '../shared/exchange.js';
import { addGradientSums, type GradientSum } from '../shared/gradient-sum.js';
import { bytesOf } from '../shared/protocol/frame.js';
import type { RunSpec, Split, TaskTiming, WorkerToCoordinator } from '../shared/protocol/messages.js';
import type { RowDigest } from '../shared/row-digest.js';
import { ShardPlan } from '../shared/shards.js';
import { coveringNodes, isSameRange, partsForSlots, TreeSum, type Range } from '../shared/tree.js';
import { wireOf, type Wire } from '../shared/wire.js';
import type { BufferPool } from './buffer-pool.js';
import type { Compute, ExpectedParameters } from './compute-pool.js';
import { hasRows } from './micro-batch.js';
import { NextStep, type BegunPart, type Output, type Round, type StepWork } from './next-step.js';
import type { RowUser } from './row-store.js';
import type { RunMemory, TaskTime, WeightMemory } from './slot.js';
import { TrialRows } from './trial-rows.js';

/** After so many leases like the one before the next one is foreseen. */
const STEADY_STEPS = 2;
/** So many more when what lay ready was in the way. */
const BUSY_STEPS = 32;
/** Adding what more slots than these have computed would cost the coordinator more than this process. */
const MAX_SEPARATE_ANSWERS = 2;

/** What a run's trials share in this worker. */
export interface RunContext {
  /** The run's number at the coordinator. */
  readonly run: number;
  /** Tells the contents of weights apart, whatever coordinator and connection they came by. */
  readonly era: number;
  readonly spec: RunSpec;
  readonly memory: RunMemory;
  readonly store: RowUser;
  readonly pool: Compute;
  /** Buffers of `layout.size` floats, for gradients. */
  readonly buffers: BufferPool;
  readonly send: (message: WorkerToCoordinator, payload?: Uint8Array) => void;
  /**
   * Sends without a copy of the payload, which has `HEAD_ROOM_BYTES` before it.
   * @returns when the payload's memory is free again
   */
  readonly sendInPlace: (message: WorkerToCoordinator, payload: Uint8Array) => Promise<void>;
  /** Where parameters and gradients are left instead of sent; null on another host than the coordinator's. */
  readonly exchange: ExchangeGuest | null;
  /** Tells the coordinator something people should know; repeating it is free. */
  readonly warn: (message: string) => void;
}

/** Echoed in the answers; absent where the lease has none. */
interface LeaseNumber {
  readonly lease?: number | undefined;
}
const numberOf = ({ lease }: LeaseNumber): LeaseNumber => (lease === undefined ? {} : { lease });

/** The sum over the shards that one slot computed in one go. */
interface ComputedPart {
  readonly sum: GradientSum;
  readonly digests: RowDigest[];
  readonly computeMs: number;
  readonly retries: number;
  /** Null when there was nothing to compute. */
  readonly time: TaskTime | null;
}

/** A worker's part of one trial: computes the shards and chunks it holds leases on, and answers. */
export class TrialWork {
  private readonly context: RunContext;
  private readonly trial: number;
  private readonly plan: ShardPlan;
  private readonly rows: TrialRows;
  private readonly wire: Wire;
  private readonly splits: Record<Split, Uint32Array>;
  private readonly values: SharedArrayBuffer;
  private weights: WeightMemory;
  /** The newest round that parameters have come for. */
  private round: Round | undefined;
  /** The run is over although word of it has not come yet: leases are of no interest. */
  private isOver = false;
  /** Places in the exchange of what was answered to the round. */
  private left: number[] = [];
  private next: NextStep | null = null;
  /** Steps in a row that came with the same lease as the one before. */
  private steadySteps = 0;

  /** @param payload bitmap of training rows, bitmap of validation rows. Throws AtelierError `protocol`. */
  constructor(context: RunContext, trial: number, payload: Uint8Array) {
    const { dataset, shards, batchSize, layout } = context.spec;
    const bytes = Bitmap.byteLength(dataset.trainRows);
    if (payload.byteLength !== 2 * bytes) {
      throw new AtelierError('protocol', `trial: ${payload.byteLength} bytes of bitmaps, not ${2 * bytes}`);
    }
    this.context = context;
    this.trial = trial;
    this.wire = wireOf(context.spec.wire);
    const rowsOf = (bitmap: Uint8Array): Uint32Array => new Bitmap(dataset.trainRows, bitmap).rows();
    this.plan = new ShardPlan(rowsOf(payload.subarray(0, bytes)), shards, batchSize);
    this.rows = new TrialRows(this.plan, { seed: context.spec.seed, trial }, context.store);
    this.splits = {
      validation: rowsOf(payload.subarray(bytes)),
      test: Uint32Array.from({ length: dataset.testRows }, (_, i) => dataset.trainRows + i),
    };
    this.values = new SharedArrayBuffer(layout.size * Float32Array.BYTES_PER_ELEMENT);
    this.weights = { version: 'none', values: this.values };
  }

  /** Takes in a round: what is to be done, and the parameters to do it with. */
  open(round: Round, weights: Uint8Array): void {
    // What was answered before belongs to a round that is closed.
    this.freeLeft();
    this.weights = { version: this.versionOf(round.round), values: this.takeWeights(round, weights) };
    this.round = round;
    if (this.next?.isRound(round, this.weights.values) === false) this.forgetNext();
  }

  private versionOf(round: number): string {
    return `${this.context.era} trial ${this.trial} round ${round}`;
  }

  /** The run, or the connection, is over: nothing more is left in the exchange. */
  close(): void {
    this.isOver = true;
    this.freeLeft();
    this.forgetNext();
  }

  /** @returns where they are */
  private takeWeights({ left, work }: Round, payload: Uint8Array): WeightMemory['values'] {
    const { run, exchange, spec, pool } = this.context;
    const values = new Float32Array(this.values);
    const wire = work.kind === 'step' ? this.wire : wireOf();
    const expected = left ? 0 : spec.layout.size * wire.bytesPerValue;
    if (payload.byteLength !== expected) {
      throw new AtelierError('protocol', `weights of ${payload.byteLength} bytes, not ${expected}`);
    }
    if (!left) wire.unpack(payload, values);
    else if (exchange === null) throw new AtelierError('protocol', 'there is no exchange to look into');
    else if (pool.mapsFiles && exchange.places !== undefined) {
      const place = exchange.places.weightsAt(run, this.trial, values.byteLength);
      if (place !== undefined) return place;
      this.isOver = true;
    } else if (!exchange.readWeights(run, this.trial, bytesOf(values))) this.isOver = true;
    return this.values;
  }

  /** The nodes at and below a leased one that are answered: where slots leave gradients themselves, what each of a few computes. */
  private answersTo(node: Range): Range[] {
    const { slots } = this.context.pool;
    return this.answersSeparately ? partsForSlots(node, slots) : [node];
  }

  /** What slots compute, each in one go, of a node that is answered. */
  private partsOf(node: Range): Range[] {
    return this.answersSeparately ? [node] : partsForSlots(node, this.context.pool.slots);
  }

  /** @param isWhole whether a whole node is written there: then the slot may leave it for the coordinator itself */
  private takeOutput(isWhole: boolean): Output {
    const { exchange, spec, buffers } = this.context;
    const bytes = spec.layout.size * Float32Array.BYTES_PER_ELEMENT;
    const place = isWhole && this.leavesInPlace ? exchange?.places?.takePlace(bytes) : null;
    return place ?? buffers.borrow();
  }

  private giveBack(output: Output): void {
    const { exchange, buffers } = this.context;
    if (output instanceof Float32Array) buffers.giveBack(output);
    else exchange?.free(output.offset);
  }

  private get answersSeparately(): boolean {
    return this.leavesInPlace && this.context.pool.slots <= MAX_SEPARATE_ANSWERS;
  }

  private get leavesInPlace(): boolean {
    const { exchange, pool } = this.context;
    // What is rounded is rounded in memory that the vector kernels reach.
    return pool.mapsFiles && exchange?.places !== undefined && this.wire.isExact;
  }

  private freeLeft(): void {
    for (const offset of this.left) this.context.exchange?.free(offset);
    this.left = [];
  }

  /** Computes leased shards or chunks of the round and sends one answer for each tree node or chunk. */
  async compute(number: number, lease: Range & LeaseNumber): Promise<void> {
    const { round } = this;
    if (this.isOver) return;
    if (round?.round !== number)
      throw new AtelierError('protocol', `a lease of round ${number}, which is not here`);
    const { work } = round;
    if (work.kind === 'step') {
      if (lease.start + lease.count > this.plan.shards) {
        throw new AtelierError('protocol', `there is no shard ${lease.start + lease.count - 1}`);
      }
      const begun = this.beginReady(number, lease);
      const nodes = coveringNodes(lease, this.plan.shards).flatMap((node) => this.answersTo(node));
      this.foresee(number + 1, work, lease, nodes);
      await Promise.all(
        nodes.map(async (node) => {
          await this.computeNode(number, work, node, numberOf(lease), begun);
          await this.layReady(number + 1);
        }),
      );
    } else {
      const chunks = Array.from({ length: lease.count }, (_, i) => lease.start + i);
      await Promise.all(chunks.map((chunk) => this.computeChunk(number, work.split, chunk, numberOf(lease))));
    }
  }

  // ---- the next step ---------------------------------------------------------------------------------------

  /** After a step comes the next one with the same lease, but for an epoch's last. */
  private foresee(round: number, work: StepWork, lease: Range, nodes: readonly Range[]): void {
    // Of several leases of a step the first one counts.
    if (this.next?.round === round) return;
    const stepInEpoch = work.stepInEpoch + 1;
    this.next = null;
    if (stepInEpoch === this.plan.stepsPerEpoch) return;
    const { memory, pool } = this.context;
    const weights = { version: this.versionOf(round), values: this.weights.values };
    const expected = this.expected(round);
    const parts = nodes.flatMap((node) => {
      const ofNode = this.partsOf(node);
      return ofNode.map((part) => ({ part, isWhole: ofNode.length === 1 }));
    });
    this.next = new NextStep(
      { round, work: { ...work, stepInEpoch }, weights, expected, lease, parts },
      {
        ...{ memory, pool, rows: this.rows },
        takeOutput: (isWhole) => this.takeOutput(isWhole),
        giveBack: (output) => this.giveBack(output),
      },
    );
  }

  /** Where slots that map parameters see for themselves that a round's have come. */
  private expected(round: number): ExpectedParameters | undefined {
    const { run, exchange } = this.context;
    const places = this.weights.values instanceof SharedArrayBuffer ? undefined : exchange?.places;
    const arrivals = places?.arrivals(run, this.trial);
    return places && arrivals && { round, arrivals, ring: () => places.ring() };
  }

  /** A slot has nothing to do. @param round that comes next */
  private layReady(round: number): Promise<void> {
    const { next } = this;
    const isSteady = next?.round === round && this.steadySteps >= STEADY_STEPS;
    return isSteady ? next.layReady() : Promise.resolve();
  }

  /** A lease has come. @returns what lay ready of it */
  private beginReady(round: number, lease: Range): BegunPart[] {
    const { next } = this;
    if (next?.round !== round) return [];
    if (!next.isLease(lease)) {
      this.forgetNext();
      return [];
    }
    this.steadySteps++;
    this.next = null;
    return next.begin();
  }

  private forgetNext(): void {
    this.next?.drop();
    this.next = null;
    this.steadySteps = Math.min(this.steadySteps, 0);
  }

  // ---- computing -------------------------------------------------------------------------------------------

  private async computeNode(
    round: number,
    work: StepWork,
    node: Range,
    lease: LeaseNumber,
    begun: readonly BegunPart[],
  ): Promise<void> {
    const { run, exchange, send, sendInPlace } = this.context;
    const { wire } = this;
    const tree = new TreeSum<GradientSum>(node, (left, right) => addGradientSums(left, right, wire.add));
    const parts = this.partsOf(node);
    const outputs: Output[] = [];
    let leftAt: number | null = null;
    const rowDigests: RowDigest[] = [];
    const times: TaskTime[] = [];
    let computeMs = 0;
    let retries = 0;
    try {
      const totals = await Promise.all(
        parts.map(async (part) => {
          const early = begun.find((each) => isSameRange(each.part, part));
          const computed = await this.computePart(part, work, early, () => {
            const output = early?.out ?? this.takeOutput(parts.length === 1);
            outputs.push(output);
            return output;
          });
          computeMs += computed.computeMs;
          retries += computed.retries;
          if (computed.time !== null) times.push(computed.time);
          computed.digests.forEach((digest, i) => (rowDigests[part.start - node.start + i] = digest));
          const total = tree.add(part, computed.sum);
          if (total === undefined) void this.layReady(round + 1);
          return total;
        }),
      );
      const sum = totals.find((total) => total !== undefined);
      invariant(sum !== undefined, 'all shards of the node are in');
      const { rows, lossSum, correct, values } = sum;
      if (this.isOver) return;
      const [output] = outputs;
      if (output !== undefined && !(output instanceof Float32Array)) leftAt = output.offset;
      else if (values !== null) leftAt = exchange?.leaveGradient(bytesOf(values)) ?? null;
      const figures = {
        rows,
        lossSum,
        correct,
        rowDigests,
        leftAt,
        computeMs,
        retries,
        ...lease,
        ...this.timed(times),
      };
      const partial = { type: 'partial', run, trial: this.trial, round, ...node, ...figures } as const;
      if (leftAt !== null) this.left.push(leftAt);
      if (values === null || leftAt !== null) send(partial);
      else await sendInPlace(partial, wire.packInPlace(values));
    } finally {
      for (const output of outputs) {
        if (output instanceof Float32Array || output.offset !== leftAt) this.giveBack(output);
      }
    }
  }

  /**
   * What one slot computes at a time: the sum over the shards of a node below the one that is answered.
   * @param takeOutput called once, when there are any rows
   */
  private async computePart(
    part: Range,
    work: StepWork,
    begun: BegunPart | undefined,
    takeOutput: () => Output,
  ): Promise<ComputedPart> {
    // The round may be over, and the next one's parameters be here, before the rows are.
    const { weights } = this;
    const { batches, digests } = begun ?? (await this.rows.ofShards(part, work));
    if (!hasRows(batches)) {
      const sum = { rows: 0, lossSum: 0, correct: 0, values: null };
      return { sum, digests, computeMs: 0, retries: 0, time: null };
    }
    const { pool, memory, warn } = this.context;
    const out = takeOutput();
    const values = out instanceof Float32Array ? out : null;
    const early = await begun?.result;
    // The slots had other things to do.
    if (early === null) this.steadySteps = -BUSY_STEPS;
    const result = early ?? (await pool.gradient({ run: memory, weights, out, batches }));
    const { lossSum, correct, computeMs, retries, fallback } = result;
    if (fallback !== null) warn(`${fallback}: this model is not compiled, steps are slower`);
    const rows = batches.reduce((sum, batch) => sum + batch.rows.length, 0);
    return { sum: { rows, lossSum, correct, values }, digests, computeMs, retries, time: result };
  }

  /** For the answer: when its tasks were computed, if the run wants to know. */
  private timed(times: readonly TaskTime[]): { readonly tasks?: TaskTiming[] } {
    if (this.context.spec.timed === undefined) return {};
    const now = hostTimeMs();
    return {
      tasks: times.map(({ slot, computeMs, endedAt }) => ({
        ...{ slot, computeMs },
        endedMsAgo: Math.max(0, now - endedAt),
      })),
    };
  }

  private async computeChunk(round: number, split: Split, chunk: number, lease: LeaseNumber): Promise<void> {
    const { run, pool, memory, spec, store, send } = this.context;
    const { weights } = this;
    const rows = this.splits[split].slice(chunk * spec.evaluationRows, (chunk + 1) * spec.evaluationRows);
    if (rows.length === 0) throw new AtelierError('protocol', `there is no ${split} chunk ${chunk}`);
    await store.ensure(rows);
    const result = await pool.evaluate({ run: memory, weights, rows });
    const { lossSum, confusion, computeMs, retries } = result;
    const figures = { rows: rows.length, lossSum, computeMs, retries, ...lease, ...this.timed([result]) };
    send({ type: 'evaluated', run, trial: this.trial, round, chunk, ...figures }, bytesOf(confusion));
  }
}
