import type { Answer, Cluster, Tenant, Worker } from '../coordinator/cluster.js';
import { GradientBuffers, type Place } from '../coordinator/gradient-buffers.js';
import type { HeldFrame } from '../coordinator/round-frames.js';
import type { RowSource } from '../coordinator/row-server.js';
import type { Verdict } from '../coordinator/trial.js';
import { AtelierError, invariant } from '../shared/errors.js';
import type { LeftGradients } from '../shared/exchange.js';
import { HEAD_ROOM_BYTES } from '../shared/protocol/frame.js';
import {
  encodeToWorker,
  encodeToWorkerOver,
  type CoordinatorToWorker,
  type PartialMessage,
  type Received,
  type RunSpec,
} from '../shared/protocol/messages.js';
import { VectorMemory } from '../shared/vector/memory.js';
import { wireOf, type Wire } from '../shared/wire.js';
import type { RowUser } from '../worker/row-store.js';
import type { RowStores } from '../worker/row-stores.js';
import type { RunPart, RunPort } from '../worker/run-work.js';
import { RelayedTrial, type NodeAnswer, type RoundMessage } from './relayed-trial.js';

/** The longest text sent to people. */
const MAX_TEXT_CHARS = 4_000;
/** Warnings handed on; further ones say nothing new. */
const MAX_WARNINGS = 100;
/** So many failures of its workers in a row are a failure of the relay. */
const MAX_FAILURES = 3;
/** Buffers of gradients beyond one for each shard: sums on their way up. */
const BUFFERS_IN_FLIGHT = 4;
const HEAD_ROOM_FLOATS = HEAD_ROOM_BYTES / Float32Array.BYTES_PER_ELEMENT;

export interface RelayedRunOptions {
  /** The workers of this relay. */
  readonly cluster: Cluster;
  readonly stores: RowStores;
  /** The run is computed when this many workers are ready for it. */
  readonly minWorkers: number;
  /** Workers have become ready, or have gone. */
  readonly onStrength: () => void;
  /** So many training rows were computed and handed on. */
  readonly onRows: (rows: number) => void;
  readonly onClosed: () => void;
}

interface TrialRecord {
  readonly trial: RelayedTrial;
  readonly bitmaps: Uint8Array;
  round: { readonly message: RoundMessage; readonly frame: HeldFrame; isOpen: boolean } | undefined;
}

/**
 * A relay's part of one run, for as long as one connection to the coordinator lives: a worker to the coordinator, a
 * coordinator to its workers. Downwards the run has a number of its own, never used before, so that no answer to what
 * an older connection asked for can be taken for one of now.
 */
export class RelayedRun implements RunPart, Tenant {
  readonly spec: RunSpec;
  readonly dataset: RowSource;
  private readonly options: RelayedRunOptions;
  private readonly port: RunPort;
  /** As the coordinator knows it. */
  private readonly above: number;
  /** As the workers know it. */
  private readonly below: number;
  private readonly rows: RowUser;
  private readonly wire: Wire;
  /** Parameters on their way into the exchange, where they come packed. */
  private unpacked: Float32Array | undefined;
  private readonly buffers: GradientBuffers;
  private readonly trials = new Map<number, TrialRecord>();
  private readonly warnings = new Set<string>();
  /** Of its workers, since the last answer that counted. */
  private failures = 0;
  private fingerprint: string | null = null;
  private ready = false;

  constructor(options: RelayedRunOptions, run: number, spec: RunSpec, port: RunPort) {
    this.options = options;
    this.spec = spec;
    this.port = port;
    this.above = run;
    const store = options.stores.for(spec.dataset);
    this.rows = store.open((bitmap) => port.send({ type: 'need-rows', run }, bitmap));
    const { images, labels } = store.memory;
    this.dataset = {
      images: new Uint8Array(images),
      labels: new Uint8Array(labels),
      ensure: (rows) => this.rows.ensure(rows),
    };
    const { size } = spec.layout;
    const memory = new VectorMemory(spec.shards + BUFFERS_IN_FLIGHT, HEAD_ROOM_FLOATS + size);
    this.wire = wireOf(spec.wire);
    this.buffers = new GradientBuffers(memory, { size, headRoom: HEAD_ROOM_FLOATS, wire: this.wire });
    this.below = options.cluster.attach(this);
  }

  /** Does the coordinator count on this relay for the run? */
  get isReady(): boolean {
    return this.ready;
  }

  /** Of the workers that can compute for it. */
  get slots(): number {
    return this.options.cluster.strength(this.below).slots;
  }

  // ---- RunPart: what the coordinator says ------------------------------------------------------------------

  addTrial(trial: number, bitmaps: Uint8Array): void {
    const state = new RelayedTrial(this.spec, trial, bitmaps, this.buffers);
    this.trials.set(trial, { trial: state, bitmaps, round: undefined });
    this.options.cluster.addTrial(this.below, trial);
  }

  receiveRows(count: number, payload: Uint8Array): void {
    this.rows.receive(count, payload);
  }

  open(message: RoundMessage, weights: Uint8Array, frame: Buffer): void {
    const bytes = this.spec.layout.size * this.wireOf(message).bytesPerValue;
    if (weights.byteLength !== bytes)
      throw new AtelierError('protocol', `weights of ${weights.byteLength} bytes, not ${bytes}`);
    const record = this.require(message.trial);
    const before = record.round?.message.round;
    const left = record.trial.open(message);
    for (const units of left) {
      invariant(before !== undefined, 'what is left is of a round');
      this.port.send({ type: 'returned', run: this.above, trial: message.trial, round: before, ...units });
    }
    this.options.cluster.closeRound(this.below, message.trial);
    record.round = { message, frame: this.framesOf(message, weights, frame), isOpen: false };
  }

  compute(lease: Extract<CoordinatorToWorker, { type: 'lease' }>): void {
    const { cluster } = this.options;
    const { trial, round: open } = this.require(lease.trial);
    trial.lease(lease.round, lease);
    invariant(open !== undefined, 'a trial that has leases has a round');
    if (open.isOpen) cluster.extendRound(this.below, lease.trial, lease);
    else {
      const { round, work } = open.message;
      // How many rounds the trial still has is not known here: all trials count alike.
      const job = { round, kind: work.kind, units: trial.units, remaining: 1 };
      cluster.openRound(this.below, lease.trial, job, lease);
      open.isOpen = true;
    }
    cluster.pump();
  }

  close(): void {
    this.ready = false;
    const { cluster, onClosed } = this.options;
    cluster.detach(this.below);
    this.rows.close();
    onClosed();
  }

  // ---- Tenant: what the workers say ------------------------------------------------------------------------

  trialFrame(run: number, trial: number): Buffer {
    return encodeToWorker({ type: 'trial', run, trial }, this.require(trial).bitmaps);
  }

  roundFrame(_run: number, trial: number): HeldFrame {
    const { round } = this.require(trial);
    invariant(round !== undefined, 'only rounds in work are leased');
    return round.frame;
  }

  roundSent(): void {
    // The time of a step is the coordinator's to measure.
  }

  refusal(_worker: Worker, fingerprint: string): string | null {
    this.fingerprint ??= fingerprint;
    if (fingerprint === this.fingerprint) return null;
    return (
      `its gradients differ in bits from those of this relay's other workers (numerics fingerprint ` +
      `${fingerprint.slice(0, 12)}, they have ${this.fingerprint.slice(0, 12)}): another processor, TensorFlow, Atelier or --step. ` +
      'Let it join the coordinator, or a relay of its own kind'
    );
  }

  joined(): void {
    const { cluster, minWorkers, onStrength } = this.options;
    const { fingerprint } = this;
    const isFirst = !this.ready && cluster.strength(this.below).workers >= minWorkers;
    this.ready ||= isFirst;
    // The coordinator hears of the slots before it leases anything to them.
    onStrength();
    if (isFirst && fingerprint !== null) this.port.send({ type: 'ready', run: this.above, fingerprint });
  }

  resized(): void {
    this.options.onStrength();
  }

  left(): void {
    this.options.onStrength();
  }

  partialBytes(partial: PartialMessage): number {
    return this.buffers.payloadBytes(partial);
  }

  placeToReceive(): Place {
    return this.buffers.placeToReceive();
  }

  placeLeft(_partial: PartialMessage, offset: number, left: LeftGradients): Place {
    return this.buffers.placeLeft(offset, left);
  }

  answered(_worker: Worker, { message, payload }: Received<Answer>): Verdict {
    const { trial } = this.require(message.trial);
    if (message.type === 'evaluated') {
      const verdict = trial.receiveChunk({ message, payload });
      if (verdict === 'used') this.port.send({ ...message, run: this.above }, payload);
      return verdict;
    }
    const { verdict, answer } = trial.receivePartial({ message, payload });
    if (verdict === 'used') this.failures = 0;
    if (answer !== null) this.answer(message.trial, message.round, answer);
    return verdict;
  }

  warned({ hello }: Worker, message: string): void {
    const text = `${hello.name}: ${message}`.slice(0, MAX_TEXT_CHARS);
    if (this.warnings.has(text) || this.warnings.size >= MAX_WARNINGS) return;
    this.warnings.add(text);
    this.port.send({ type: 'warning', run: this.above, message: text });
  }

  /** One worker's failure is made good by the others; failures in a row are this relay's. */
  failed(worker: Worker, message: string): void {
    this.failures++;
    if (this.failures < MAX_FAILURES)
      this.warned(worker, `failed, its part is computed elsewhere: ${message}`);
    else this.port.fail(new AtelierError('run-failed', `${worker.hello.name}: ${message}`));
  }

  // ---- inside ----------------------------------------------------------------------------------------------

  /** What workers get of a round: the frame that came, in its own memory, or word that the parameters are left for them. */
  private framesOf(message: RoundMessage, weights: Uint8Array, frame: Buffer): HeldFrame {
    const { below } = this;
    const { cluster } = this.options;
    const down = { ...message, run: below };
    const full = encodeToWorkerOver(down, frame);
    let light: Buffer | undefined;
    const makeLight = (): Buffer => {
      const unpacked = (): Float32Array => (this.unpacked ??= new Float32Array(this.spec.layout.size));
      const values = this.wireOf(message).valuesOf(weights, unpacked);
      const hasLeft = cluster.leaveWeights(below, message.trial, message.round, values);
      return hasLeft ? encodeToWorker({ ...down, left: true }) : full;
    };
    return {
      full,
      get light() {
        return (light ??= makeLight());
      },
      // Nobody uses its memory again.
      hold: () => undefined,
      release: () => undefined,
    };
  }

  private answer(trial: number, round: number, { node, sum, rowDigests, ...figures }: NodeAnswer): void {
    const { rows, lossSum, correct, values } = sum;
    const partial: PartialMessage = {
      type: 'partial',
      ...{ run: this.above, trial, round, ...node },
      ...{ rows, lossSum, correct, rowDigests: [...rowDigests], leftAt: null, ...figures },
    };
    this.options.onRows(rows);
    if (values === null) this.port.send(partial);
    else {
      const payload = this.wire.packInPlace(values);
      void this.port.sendInPlace(partial, payload).then(() => this.buffers.release(values));
    }
  }

  /** How the parameters of a round come. */
  private wireOf({ work }: RoundMessage): Wire {
    return work.kind === 'step' ? this.wire : wireOf();
  }

  private require(trial: number): TrialRecord {
    const record = this.trials.get(trial);
    if (record === undefined) throw new AtelierError('protocol', `no trial ${trial}`);
    return record;
  }
}
