import { Bitmap } from '../shared/bitmap.js';
import type { Clock } from '../shared/clock.js';
import type { RunConfig } from '../shared/config.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError, assertNever, invariant, messageOf } from '../shared/errors.js';
import { weightsSha256 } from '../shared/layout.js';
import type { CompiledModel } from '../shared/models/compile.js';
import { bytesOf, float32Of } from '../shared/protocol/frame.js';
import { CloseCode, MAX_WORKERS } from '../shared/protocol/limits.js';
import { encodeToWorker, type Lease, type Received, type RunSpec } from '../shared/protocol/messages.js';
import { ShardPlan } from '../shared/shards.js';
import { SUMMARY_SCHEMA_VERSION, type EpochRecord, type Summary } from '../shared/summary.js';
import { initialWeights } from './initial-weights.js';
import { shareUnits } from './leases.js';
import { Meter } from './meter.js';
import { makeOptimizer } from './optimizer/make-optimizer.js';
import { RowServer } from './row-server.js';
import type { RunDirectory, RunEvent } from './run-directory.js';
import type { Hello, Session, SessionListener, WorkerMessage } from './session.js';
import { Trial, type Round, type StepProgress, type TrialEffect, type Verdict } from './trial.js';

/** Rows of one evaluation chunk: small enough to share out, large enough to be fast. */
export const EVALUATION_ROWS = 250;

/** Warnings shown and kept; further ones say nothing new. */
const MAX_WARNINGS = 100;

/** Who watches a run: the terminal, metrics. Every method is called synchronously and must not throw. */
export interface RunObserver {
  workerJoined(name: string, host: string, slots: number): void;
  workerLeft(name: string, reason: string): void;
  warned(worker: string, message: string): void;
  started(workers: number, slots: number): void;
  stepped(progress: StepProgress, imagesPerSecond: number): void;
  evaluating(split: 'validation' | 'test'): void;
  epochEnded(trial: number, record: EpochRecord): void;
}

export interface RunOptions {
  readonly config: RunConfig;
  readonly model: CompiledModel;
  readonly dataset: Dataset;
  readonly directory: RunDirectory;
  readonly observer: RunObserver;
  readonly clock: Clock;
  /** Training starts when this many workers have joined. */
  readonly minWorkers: number;
}

interface Member {
  readonly worker: number;
  readonly session: Session;
  readonly hello: Hello;
  readonly rows: RowServer;
  examples: number;
}

/** One round that workers are computing. */
interface OpenRound {
  readonly round: Round;
  readonly leases: readonly Lease[];
  readonly startedAt: number;
  readonly slots: number;
}

type State =
  | { kind: 'waiting' }
  | { kind: 'running' }
  | { kind: 'over'; status: Summary['status']; error: AtelierError | null };

/**
 * One run: its trials, the workers that compute for them, and the run directory. It turns what sessions
 * receive into trial events, and carries out what the trials ask for.
 */
export class Run implements SessionListener {
  private readonly options: RunOptions;
  private readonly plan: ShardPlan;
  private readonly spec: RunSpec;
  private readonly trial: Trial;
  private readonly trialFrame: Buffer;
  private readonly members = new Map<number, Member>();
  /** Everyone who ever joined, for the summary. */
  private readonly roster: Member[] = [];
  private readonly open = new Map<number, OpenRound>();
  private readonly meter = new Meter();
  private readonly startedAt: number;
  private epochStartedAt = 0;
  private readonly epochSeconds: number[] = [];
  private state: State = { kind: 'waiting' };
  private settle: (summary: { status: Summary['status']; error: AtelierError | null }) => void = () =>
    undefined;
  /** Resolves when the run is over, however it ended; never rejects. */
  readonly ended: Promise<{ status: Summary['status']; error: AtelierError | null }>;

  constructor(options: RunOptions) {
    this.options = options;
    this.startedAt = options.clock.now();
    this.ended = new Promise((resolve) => (this.settle = resolve));
    const { config, model, dataset } = options;
    const { trainRows, testRows, classNames } = dataset.info;
    const trainable = trainRows - config.validationRows;
    if (trainable < config.shards) {
      throw new AtelierError(
        'usage',
        `--validation-rows ${config.validationRows} leaves ${Math.max(0, trainable)} of ${trainRows} training rows: ` +
          `at least --shards ${config.shards} must be left`,
      );
    }
    const rowsFrom = (start: number, count: number): Uint32Array =>
      Uint32Array.from({ length: count }, (_, i) => start + i);
    const training = rowsFrom(config.validationRows, trainable);
    const validation = rowsFrom(0, config.validationRows);
    this.plan = new ShardPlan(training, config.shards, config.batchSize);
    this.spec = {
      seed: config.seed,
      batchSize: config.batchSize,
      shards: config.shards,
      evaluationRows: EVALUATION_ROWS,
      step: config.step,
      dataset: dataset.info,
      layout: model.layout,
      topology: { ...model.training },
    };
    this.trial = new Trial({
      trial: 0,
      fold: null,
      model,
      plan: this.plan,
      epochs: config.epochs,
      classes: classNames.length,
      validationRows: validation.length,
      testRows,
      evaluationRows: EVALUATION_ROWS,
      optimizer: makeOptimizer(config, model.layout.trainable),
      weights: initialWeights(model, config.seed, 0),
    });
    const bitmap = (rows: Uint32Array): Uint8Array => Bitmap.of(trainRows, rows).bytes;
    this.trialFrame = encodeToWorker({ type: 'trial', trial: 0 }, bitmap(training), bitmap(validation));
  }

  /** Ends the run before its time. */
  stop(error: AtelierError): void {
    this.end(error.code === 'stopped' ? 'stopped' : 'failed', error);
  }

  /** The trained (or, after a stop, so far trained) parameters and state. */
  get weights(): Float32Array {
    return this.trial.currentWeights;
  }

  summary(): Summary {
    const { state } = this;
    invariant(state.kind === 'over', 'a summary is of a run that is over');
    return {
      schemaVersion: SUMMARY_SCHEMA_VERSION,
      status: state.status,
      reason: state.error?.message ?? null,
      config: this.options.config,
      weightsSha256: weightsSha256(this.weights),
      trials: [this.trial.summary(this.epochSeconds)],
      folds: null,
      throughput: this.meter.report(),
      workers: this.roster.map(({ hello, examples }) => ({
        name: hello.name,
        host: hello.host,
        slots: hello.slots,
        tensorflow: hello.versions.tensorflow,
        node: hello.versions.node,
        examples,
      })),
      retries: 0,
      durationSeconds: (this.options.clock.now() - this.startedAt) / 1000,
    };
  }

  // ---- SessionListener -------------------------------------------------------------------------------------

  greeted(session: Session, hello: Hello): { worker: number } | { refused: string } {
    if (this.state.kind === 'over') return { refused: 'the run is over' };
    if (this.members.size >= MAX_WORKERS) return { refused: `${MAX_WORKERS} workers are enough` };
    const worker = this.roster.length;
    const rows = new RowServer(this.options.dataset, session);
    const member: Member = { worker, session, hello, rows, examples: 0 };
    this.members.set(worker, member);
    this.roster.push(member);
    return { worker };
  }

  joined(session: Session): void {
    const member = this.memberOf(session);
    const { name, host, slots } = member.hello;
    session.send({ type: 'run', spec: this.spec });
    void session.sendFrame(this.trialFrame);
    this.record({ type: 'worker-joined', worker: member.worker, name, host, slots });
    this.options.observer.workerJoined(name, host, slots);
    if (this.state.kind === 'waiting' && this.members.size >= this.options.minWorkers) this.start();
  }

  received(session: Session, { message, payload }: Received<WorkerMessage>): void {
    if (this.state.kind === 'over') return;
    const member = this.memberOf(session);
    switch (message.type) {
      case 'need-rows':
        member.rows.request(payload);
        return;
      case 'warning':
        this.warn(member, message.message);
        return;
      case 'failed':
        this.stop(new AtelierError('run-failed', `worker ${member.hello.name} failed: ${message.message}`));
        return;
      case 'partial': {
        const expected = message.rows === 0 ? 0 : this.spec.layout.size * Float32Array.BYTES_PER_ELEMENT;
        requireBytes(payload, expected);
        this.requireTrial(message.trial);
        const { round, start, count, rows, lossSum, correct, computeMs } = message;
        const values = rows === 0 ? null : float32Of(payload);
        const answer = this.trial.receivePartial(round, { start, count }, { rows, lossSum, correct, values });
        requireValid(answer.verdict);
        if (answer.verdict === 'used') {
          member.examples += rows;
          this.meter.computed(computeMs);
        }
        this.carryOut(answer.effects);
        return;
      }
      case 'evaluated': {
        const classes = this.spec.dataset.classNames.length;
        requireBytes(payload, classes ** 2 * Uint32Array.BYTES_PER_ELEMENT);
        this.requireTrial(message.trial);
        const { round, chunk, rows, lossSum } = message;
        const confusion = new Uint32Array(payload.slice().buffer);
        const answer = this.trial.receiveChunk(round, chunk, { rows, lossSum, confusion });
        requireValid(answer.verdict);
        this.carryOut(answer.effects);
        return;
      }
      default:
        assertNever(message);
    }
  }

  closed(session: Session, reason: string): void {
    const member = [...this.members.values()].find((candidate) => candidate.session === session);
    if (member === undefined) return;
    this.members.delete(member.worker);
    if (this.state.kind === 'over') return;
    const { name } = member.hello;
    this.record({ type: 'worker-left', worker: member.worker, name, reason });
    this.options.observer.workerLeft(name, reason);
    if (this.state.kind === 'running') {
      this.stop(new AtelierError('run-failed', `worker ${name} was lost: ${reason}`));
    }
  }

  // ---- trial effects ---------------------------------------------------------------------------------------

  private start(): void {
    this.state = { kind: 'running' };
    const slots = this.slots();
    this.record({ type: 'started', workers: this.members.size });
    this.options.observer.started(this.members.size, slots);
    this.epochStartedAt = this.options.clock.now();
    this.carryOut(this.trial.start());
  }

  private carryOut(effects: readonly TrialEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case 'compute':
          this.compute(effect.round, effect.weights);
          break;
        case 'stepped':
          this.onStepped(effect.progress);
          break;
        case 'epoch-ended': {
          const now = this.options.clock.now();
          const record = { ...effect.record, seconds: (now - this.epochStartedAt) / 1000 };
          this.epochStartedAt = now;
          this.epochSeconds.push(record.seconds);
          this.write(() => this.options.directory.appendEpoch(this.trial.index, record));
          this.options.observer.epochEnded(this.trial.index, record);
          break;
        }
        case 'finished':
          this.end('done', null);
          break;
        case 'failed':
          this.stop(effect.error);
          break;
        default:
          assertNever(effect);
      }
    }
  }

  /** Leases the units of a round and broadcasts it: one frame, encoded once. */
  private compute(round: Round, weights: Float32Array): void {
    const leases = shareUnits(
      round.units,
      [...this.members.values()].map(({ worker, hello }) => ({ worker, slots: hello.slots })),
    );
    const { trial, epoch, round: number } = round;
    this.recordLeases(trial, leases, round.kind);
    const frame =
      round.kind === 'step'
        ? encodeToWorker(
            { type: 'step', trial, round: number, epoch, stepInEpoch: round.stepInEpoch, leases },
            bytesOf(weights),
          )
        : encodeToWorker(
            { type: 'evaluate', trial, round: number, split: round.split, leases },
            bytesOf(weights),
          );
    if (round.kind === 'evaluate') this.options.observer.evaluating(round.split);
    this.open.set(trial, { round, leases, startedAt: this.options.clock.now(), slots: this.slots() });
    for (const lease of leases) void this.members.get(lease.worker)?.session.sendFrame(frame);
  }

  private onStepped(progress: StepProgress): void {
    const open = this.open.get(progress.trial);
    invariant(open !== undefined, 'a step that ended had begun');
    this.meter.stepped(this.options.clock.now() - open.startedAt, progress.rowsInStep, open.slots);
    if (progress.epoch === 0 && progress.stepInEpoch === 0) {
      this.record({ type: 'first-step', secondsAfterStart: performance.now() / 1000 });
    }
    this.options.observer.stepped(progress, this.meter.imagesPerSecond);
  }

  private end(status: Summary['status'], error: AtelierError | null): void {
    if (this.state.kind === 'over') return;
    this.state = { kind: 'over', status, error };
    this.record({ type: 'ended', status, reason: error?.message ?? null });
    for (const { session } of this.members.values()) {
      session.send({ type: 'finished', reason: error?.message ?? 'the run is done' });
      session.close(CloseCode.finished, 'the run is over');
    }
    this.settle({ status, error });
  }

  // ---- bookkeeping -----------------------------------------------------------------------------------------

  private lastLeases = '';
  private readonly warnings = new Set<string>();

  /** Tells people once what several workers may say. */
  private warn({ worker, hello }: Member, message: string): void {
    if (this.warnings.has(message) || this.warnings.size >= MAX_WARNINGS) return;
    this.warnings.add(message);
    this.record({ type: 'warning', worker, name: hello.name, message });
    this.options.observer.warned(hello.name, message);
  }

  /** Step leases go into the log when they change. */
  private recordLeases(trial: number, leases: readonly Lease[], kind: Round['kind']): void {
    if (kind !== 'step') return;
    const named = leases.map(({ worker, start, count }) => ({
      worker: this.roster[worker]?.hello.name ?? String(worker),
      start,
      count,
    }));
    const text = JSON.stringify(named);
    if (text === this.lastLeases) return;
    this.lastLeases = text;
    this.record({ type: 'lease', trial, leases: named });
  }

  private record(event: RunEvent): void {
    this.write(() => this.options.directory.appendEvent(this.options.clock.now(), event));
  }

  /** Writes to the run directory; a full disk ends the run with a reason, not the process with a stack. */
  private write(action: () => void): void {
    try {
      action();
    } catch (cause) {
      const where = this.options.directory.path;
      this.stop(new AtelierError('run-failed', `cannot write to ${where}: ${messageOf(cause)}`, { cause }));
    }
  }

  private slots(): number {
    return [...this.members.values()].reduce((sum, { hello }) => sum + hello.slots, 0);
  }

  private memberOf(session: Session): Member {
    const member = session.worker === undefined ? undefined : this.members.get(session.worker);
    invariant(member !== undefined, 'a session that speaks is a member');
    return member;
  }

  private requireTrial(trial: number): void {
    if (trial !== this.trial.index) throw new AtelierError('protocol', `there is no trial ${trial}`);
  }
}

function requireBytes(payload: Uint8Array, expected: number): void {
  if (payload.byteLength !== expected) {
    throw new AtelierError('protocol', `payload of ${payload.byteLength} bytes where ${expected} belong`);
  }
}

function requireValid(verdict: Verdict): void {
  if (verdict === 'invalid') throw new AtelierError('protocol', 'an answer to nothing that was asked');
}
