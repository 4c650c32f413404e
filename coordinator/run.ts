import { performance } from 'node:perf_hooks';
import { Bitmap } from '../shared/bitmap.js';
import type { Clock } from '../shared/clock.js';
import { exampleRecipe, type RunConfig } from '../shared/config.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError, assertNever, invariant, messageOf } from '../shared/errors.js';
import type { LeftGradients } from '../shared/exchange.js';
import { leaseName } from '../shared/lease-name.js';
import type { CompiledModel } from '../shared/models/compile.js';
import {
  encodeToWorker,
  type PartialMessage,
  type Received,
  type RunSpec,
  type Work,
} from '../shared/protocol/messages.js';
import { SUMMARY_SCHEMA_VERSION, type EpochRecord, type Summary } from '../shared/summary.js';
import type { Range } from '../shared/tree.js';
import { wireOf } from '../shared/wire.js';
import type { CheckpointStore } from './checkpoint-store.js';
import type { Answer, Cluster, ClusterCounts, Tenant, Worker } from './cluster.js';
import { foldStatistics, weightsOfRun } from './fold-statistics.js';
import type { GradientBuffers, Place } from './gradient-buffers.js';
import { Meter } from './meter.js';
import type { RunDirectory, RunEvent } from './run-directory.js';
import { RoundFrames, type RoundFrame } from './round-frames.js';
import type { LeasedUnits, RunObserver } from './run-observer.js';
import type { RunFigures, TrialFigures, TrialStatus } from './run-figures.js';
import type { LeaseCounts } from './scheduler.js';
import type { StepLog } from './step-log.js';
import { StepTimer } from './step-timer.js';
import type { Round, StepProgress, Trial, TrialEffect, TrialState, Verdict } from './trial.js';
import { EVALUATION_ROWS, type TrialPlan } from './trial-plan.js';

/** Warnings shown and kept; further ones say nothing new. */
const MAX_WARNINGS = 100;
/** How often workers may fail at the same round before the run does. */
const MAX_FAILURES = 3;

/** What a run writes; a `RunDirectory`, or what a test puts in its place. */
export interface RunJournal {
  readonly path: string;
  appendEvent: RunDirectory['appendEvent'];
  appendEpoch: RunDirectory['appendEpoch'];
  amendManifest: RunDirectory['amendManifest'];
  stepLog(fold: number | null, stepsDone: number): Pick<StepLog, 'add' | 'flush'>;
  checkpoints(fold: number | null, keep: number): Pick<CheckpointStore, 'write' | 'settled'>;
}

export interface RunOptions {
  readonly config: RunConfig;
  readonly model: CompiledModel;
  readonly dataset: Dataset;
  /** Of `planTrials`. */
  readonly plans: readonly TrialPlan[];
  readonly directory: RunJournal;
  readonly cluster: Cluster;
  readonly observer: RunObserver;
  readonly clock: Clock;
  /** Training starts when this many workers are ready, and goes on while there are `minWorkersToGoOn`. */
  readonly minWorkers: number;
  readonly minWorkersToGoOn: number;
  /** Where the run goes on; null for a new one. */
  readonly resumed: Resumption | null;
}

/** What a run directory says of the run that is resumed. */
export interface Resumption {
  /** The state of each trial that has one, by its number. */
  readonly states: ReadonlyMap<number, TrialState>;
  readonly fingerprint: string | null;
  /** How often it has been resumed, this time included. */
  readonly resumes: number;
}

export interface RunEnd {
  readonly status: Summary['status'];
  readonly error: AtelierError | null;
}

/** A trial and what the run keeps of it. */
interface TrialRecord {
  readonly plan: TrialPlan;
  readonly trial: Trial;
  readonly steps: ReturnType<RunJournal['stepLog']>;
  readonly checkpoints: ReturnType<RunJournal['checkpoints']>;
  /** The round in work, and its frame once somebody needs it. */
  open: OpenRound | undefined;
  /** The encoded `trial` message, once a worker needs it. */
  frame: Buffer | undefined;
  readonly frames: RoundFrames;
  started: boolean;
  bestLoss: number;
  /** Since this process began. */
  readonly counted: { steps: number; rows: number };
  checkpointed: TrialFigures['checkpoints'];
}

interface OpenRound {
  readonly round: Round;
  readonly startedAt: number;
  readonly timer: StepTimer;
  frame: RoundFrame | undefined;
}

interface RosterEntry {
  readonly worker: Worker;
  examples: number;
}

type State =
  | { kind: 'waiting'; cancelTimeout: () => void }
  | { kind: 'running' }
  | { kind: 'ending'; end: RunEnd }
  | { kind: 'over'; end: RunEnd };

/**
 * One run: its trials, and the run directory. It turns what workers answer into trial events, and carries out what
 * the trials ask for. Which worker computes what is the cluster's business.
 */
export class Run implements Tenant {
  readonly spec: RunSpec;
  readonly dataset: Dataset;
  /** Resolves when the run is over and all is written, however it ended; never rejects. */
  readonly ended: Promise<RunEnd>;
  private settle: (end: RunEnd) => void = () => undefined;
  private readonly options: RunOptions;
  /** As the cluster knows it. */
  readonly number: number;
  private readonly trials: readonly TrialRecord[];
  /** Everyone who ever computed for the run, by worker number. */
  private readonly roster = new Map<number, RosterEntry>();
  private readonly meter = new Meter();
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** The same moment on the clock that durations are taken from. */
  private readonly beganAt: number;
  /** The cluster's counts when the run began: its own are what has come since. */
  private readonly countsBefore: ClusterCounts;
  /** Its figures are as of then, whenever they are asked for. */
  private endedAt = 0;
  private fingerprint: string | null;
  private fingerprintsSeen = new Set<string>();
  private failures = 0;
  private late = 0;
  private slotRetries = 0;
  /** Since when it computes; for the time it still takes. */
  private runningSince: number | undefined;
  private readonly roundsAtStart: number;
  private readonly leases: Readonly<LeaseCounts>;
  private firstStep = true;
  private state: State;

  constructor(options: RunOptions) {
    this.options = options;
    this.startedAt = options.clock.now();
    this.beganAt = options.clock.monotonic();
    this.ended = new Promise((resolve) => (this.settle = resolve));
    const { config, model, dataset, directory, plans, resumed, cluster } = options;
    this.countsBefore = { ...cluster.counts };
    this.dataset = dataset;
    this.fingerprint = resumed?.fingerprint ?? null;
    this.spec = {
      seed: config.seed,
      batchSize: config.batchSize,
      shards: config.shards,
      evaluationRows: EVALUATION_ROWS,
      step: config.step,
      ...(cluster.trace === null ? {} : { timed: true as const }),
      ...(config.wire === 'float32' ? {} : { wire: config.wire }),
      recipe: exampleRecipe(config),
      dataset: dataset.info,
      layout: model.layout,
      topology: { ...model.training },
    };
    this.trials = plans.map((plan) => {
      const state = resumed?.states.get(plan.trial);
      const trial = plan.make(state, (round) => this.leaveAhead(plan.trial, round));
      return {
        plan,
        trial,
        steps: directory.stepLog(plan.fold, trial.stepsDone),
        checkpoints: directory.checkpoints(plan.fold, config.keepCheckpoints),
        open: undefined,
        frame: undefined,
        frames: new RoundFrames(model.layout.size, wireOf(config.wire), (round, weights) =>
          cluster.leaveWeights(this.number, plan.trial, round, weights),
        ),
        started: false,
        counted: { steps: 0, rows: 0 },
        checkpointed: { count: 0, bytes: 0, writtenAt: this.startedAt },
        bestLoss: Math.min(Infinity, ...trial.records.map(({ valLoss }) => valLoss ?? Infinity)),
      };
    });
    this.number = cluster.attach(this);
    for (const { plan } of this.trials) cluster.addTrial(this.number, plan.trial);
    this.leases = cluster.leaseCounts(this.number);
    this.roundsAtStart = this.roundsDone;
    this.state = { kind: 'waiting', cancelTimeout: this.waitTimeout(options.minWorkers) };
    if (resumed !== null) {
      this.record({ type: 'resumed', roundsDone: this.trials.map(({ trial }) => trial.roundsDone) });
    }
    // A run that was already over has nothing to wait for.
    if (this.trials.every(({ trial }) => trial.isOver)) this.end({ status: 'done', error: null });
  }

  /** Ends the run before its time; what it has done is in its checkpoints. */
  stop(error: AtelierError): void {
    this.end({ status: error.code === 'stopped' ? 'stopped' : 'failed', error });
  }

  /** The trials' parameters and state as of now. */
  get weights(): readonly { fold: number | null; weights: Float32Array }[] {
    return this.trials.map(({ trial }) => ({ fold: trial.fold, weights: trial.currentWeights }));
  }

  /** How far the run has come, for people. */
  get progress(): string {
    const { roundsDone, roundsLeft } = this;
    return `${roundsDone} of ${roundsDone + roundsLeft} steps and evaluations are done`;
  }

  /** Steps and evaluations that are done, of all trials. */
  get roundsDone(): number {
    return this.trials.reduce((sum, { trial }) => sum + trial.roundsDone, 0);
  }

  get roundsLeft(): number {
    return this.trials.reduce((sum, { trial }) => sum + trial.remainingRounds, 0);
  }

  /** The trials as of now. */
  get trialsNow(): readonly { readonly trial: Trial; readonly started: boolean }[] {
    return this.trials;
  }

  /** While its last checkpoints are written a run is still running. */
  get status(): 'waiting' | 'running' | RunEnd['status'] {
    if (this.state.kind === 'over') return this.state.end.status;
    return this.state.kind === 'waiting' ? 'waiting' : 'running';
  }

  /** Why it did not end as `done`, once it is over. */
  get reason(): string | null {
    return this.state.kind === 'over' ? (this.state.end.error?.message ?? null) : null;
  }

  get secondsPassed(): number {
    return (this.options.clock.monotonic() - this.beganAt) / 1000;
  }

  /** Of all trials, as of now. */
  get weightsSha256(): string {
    return weightsOfRun(this.trials.map(({ trial }) => trial.summary()));
  }

  /** What the cluster lived through since the run began. */
  get counts(): Summary['elasticity'] & { retries: number } {
    const { counts } = this.options.cluster;
    const { countsBefore: before, leases } = this;
    return {
      workersLost: counts.workersLost - before.workersLost,
      reconnects: counts.reconnects - before.reconnects,
      speculated: leases.speculated,
      late: this.late,
      resumes: this.options.resumed?.resumes ?? 0,
      retries: leases.returned + this.slotRetries,
    };
  }

  /** What is known of the run at this moment, for people and metrics. */
  figures(): RunFigures {
    const { state, options, roundsDone, roundsLeft } = this;
    const isOver = state.kind === 'ending' || state.kind === 'over';
    const now = isOver ? this.endedAt : options.clock.monotonic();
    const doneHere = roundsDone - this.roundsAtStart;
    const etaSeconds =
      isOver || this.runningSince === undefined || doneHere === 0
        ? null
        : ((now - this.runningSince) / 1000 / doneHere) * roundsLeft;
    return {
      status: isOver ? state.end.status : state.kind,
      startedAt: this.startedAt,
      progress: roundsDone / Math.max(1, roundsDone + roundsLeft),
      etaSeconds,
      imagesPerSecond: this.meter.imagesPerSecond(now),
      workersWanted: isOver ? 0 : options.minWorkers,
      leases: this.leases,
      died: this.slotRetries,
      late: this.late,
      trials: this.trials.map((record) => ({
        ...record.trial.progress(),
        status: this.statusOf(record),
        counted: record.counted,
        checkpoints: record.checkpointed,
      })),
    };
  }

  private statusOf({ trial, started }: TrialRecord): TrialStatus {
    if (trial.failure !== null) return 'failed';
    if (trial.isOver) return 'done';
    if (this.isOver) return 'stopped';
    return started && this.state.kind === 'running' ? 'running' : 'waiting';
  }

  /** A local worker process ended and was started again. */
  workerRestarted(name: string, reason: string): void {
    this.record({ type: 'worker-restarted', name, reason });
    this.options.observer.warned(name, `${reason}, starting it again`);
  }

  summary(): Summary {
    const { state, options } = this;
    invariant(state.kind === 'over' || state.kind === 'ending', 'a summary is of a run that is over');
    const trials = this.trials.map(({ trial }) => trial.summary());
    const { retries, ...elasticity } = this.counts;
    return {
      schemaVersion: SUMMARY_SCHEMA_VERSION,
      status: state.end.status,
      reason: state.end.error?.message ?? null,
      config: options.config,
      weightsSha256: weightsOfRun(trials),
      trials,
      folds: foldStatistics(trials, options.config),
      throughput: this.meter.report(this.endedAt),
      workers: [...this.roster.values()].map(({ worker: { hello }, examples }) => ({
        name: hello.name,
        host: hello.host,
        slots: hello.slots,
        tensorflow: hello.versions.tensorflow,
        node: hello.versions.node,
        examples,
      })),
      retries,
      elasticity,
      durationSeconds: (this.endedAt - this.beganAt) / 1000,
    };
  }

  // ---- Tenant ----------------------------------------------------------------------------------------------

  trialFrame(run: number, trial: number): Buffer {
    const record = this.trialOf(trial);
    if (record.frame !== undefined) return record.frame;
    const { training, validation } = record.plan;
    const bitmap = (rows: Uint32Array): Uint8Array => Bitmap.of(this.dataset.info.trainRows, rows).bytes;
    record.frame = encodeToWorker({ type: 'trial', run, trial }, bitmap(training), bitmap(validation));
    return record.frame;
  }

  roundFrame(_run: number, trial: number): RoundFrame {
    const record = this.trialOf(trial);
    const { open } = record;
    invariant(open !== undefined, 'only rounds in work are leased');
    return (open.frame ??= this.frameOf(record, open.round));
  }

  private frameOf({ frames, trial }: TrialRecord, round: Round): RoundFrame {
    const message = {
      type: 'round',
      run: this.number,
      trial: trial.index,
      round: round.round,
      work: workOf(round),
    } as const;
    return frames.encode(message, trial.currentWeights);
  }

  roundSent(_run: number, trial: number, milliseconds: number): void {
    this.trialOf(trial).open?.timer.sent(milliseconds);
    const { trace } = this.options.cluster;
    trace?.did('broadcast', trace.now() - milliseconds, { trial });
  }

  leased(worker: Worker, trial: number, { start, count, lease }: Range & { readonly lease: number }): void {
    const { observer } = this.options;
    const { open } = this.trialOf(trial);
    if (observer.leased === undefined || open === undefined) return;
    observer.leased(worker, this.leasedUnits(trial, open.round.round, lease, { start, count }));
  }

  private leasedUnits(trial: number, round: number, lease: number | undefined, units: Range): LeasedUnits {
    const open = this.trialOf(trial).open?.round;
    const { epoch, step } =
      open?.round === round && open.kind === 'step'
        ? { epoch: open.epoch + 1, step: open.stepInEpoch + 1 }
        : { epoch: null, step: null };
    const name = leaseName({ run: this.number, trial, round, lease });
    return { trial, round, epoch, step, lease: name, units };
  }

  refusal(worker: Worker, fingerprint: string): string | null {
    const { config, directory, observer } = this.options;
    if (this.fingerprint === null) {
      this.fingerprint = fingerprint;
      this.write(() => directory.amendManifest({ numericsFingerprint: fingerprint }));
    }
    if (fingerprint === this.fingerprint) return null;
    const message =
      `its gradients differ in bits from this run's (numerics fingerprint ${fingerprint.slice(0, 12)}, ` +
      `the run has ${this.fingerprint.slice(0, 12)}): another processor, TensorFlow, Atelier or --step`;
    if (config.allowMixedNumerics) {
      if (!this.fingerprintsSeen.has(fingerprint)) {
        this.fingerprintsSeen.add(fingerprint);
        this.write(() => directory.amendManifest({ otherFingerprints: [...this.fingerprintsSeen] }));
        this.warned(worker, `${message}; let in by --allow-mixed-numerics`);
      }
      return null;
    }
    this.record({ type: 'worker-refused', name: worker.hello.name, reason: message });
    observer.warned(worker.hello.name, `refused: ${message}. --allow-mixed-numerics lets it in`);
    return `${message}. --allow-mixed-numerics on the coordinator lets it in`;
  }

  joined(worker: Worker, preparedMs: number): void {
    const { number, hello, resumed } = worker;
    this.roster.set(number, { worker, examples: this.roster.get(number)?.examples ?? 0 });
    const { name, host, slots } = hello;
    this.record({ type: 'worker-joined', worker: number, name, host, slots, resumed, preparedMs });
    this.options.observer.workerJoined(worker);
    this.strengthChanged();
  }

  resized(worker: Worker): void {
    if (this.isOver) return;
    this.roster.set(worker.number, { worker, examples: this.roster.get(worker.number)?.examples ?? 0 });
    this.strengthChanged();
  }

  left(worker: Worker, reason: string): void {
    if (this.isOver) return;
    this.record({ type: 'worker-left', worker: worker.number, name: worker.hello.name, reason });
    this.options.observer.workerLeft(worker, reason);
    this.strengthChanged();
  }

  partialBytes(partial: PartialMessage): number | undefined {
    return this.trials[partial.trial]?.trial.gradients.payloadBytes(partial);
  }

  placeToReceive({ trial }: PartialMessage): Place | null {
    return this.gradientsOf(trial)?.placeToReceive() ?? null;
  }

  placeLeft({ trial }: PartialMessage, offset: number, left: LeftGradients): Place | null {
    return this.gradientsOf(trial)?.placeLeft(offset, left) ?? null;
  }

  private gradientsOf(trial: number): GradientBuffers | undefined {
    return this.isOver ? undefined : this.trials[trial]?.trial.gradients;
  }

  answered(worker: Worker, { message, payload }: Received<Answer>): Verdict {
    if (this.isOver) return 'late';
    const record = this.trialOf(message.trial);
    const { observer } = this.options;
    const units =
      message.type === 'partial'
        ? { start: message.start, count: message.count }
        : { start: message.chunk, count: 1 };
    // As of before: the answer may open the next round.
    const leased = observer.answered && this.leasedUnits(message.trial, message.round, message.lease, units);
    let answer: { verdict: Verdict; effects: TrialEffect[] };
    if (message.type === 'partial') {
      const { gradients } = record.trial;
      requireBytes(payload, gradients.payloadBytes(message));
      const { round, start, count, rows, lossSum, correct, rowDigests } = message;
      const values = gradients.valuesOf(message, payload);
      const sum = { rows, lossSum, correct, values };
      const before = performance.now();
      answer = record.trial.receivePartial(round, { start, count }, sum, rowDigests);
      if (answer.verdict === 'used') {
        const { number, hello } = worker;
        const takenMs = performance.now() - before;
        this.options.cluster.trace?.did('reduce', before, { trial: message.trial, start, count });
        record.open?.timer.answered({ number, slots: hello.slots }, count, message.computeMs, takenMs);
      }
    } else {
      requireBytes(payload, this.spec.dataset.classNames.length ** 2 * Uint32Array.BYTES_PER_ELEMENT);
      const { round, chunk, rows, lossSum } = message;
      const confusion = new Uint32Array(payload.slice().buffer);
      answer = record.trial.receiveChunk(round, chunk, { rows, lossSum, confusion });
    }
    if (leased !== undefined) observer.answered?.(worker, leased, answer.verdict);
    if (answer.verdict === 'used') {
      this.meter.computed(message.computeMs);
      this.slotRetries += message.retries;
      const entry = this.roster.get(worker.number);
      if (entry !== undefined && message.type === 'partial') entry.examples += message.rows;
      this.carryOut(record, answer.effects);
    } else if (answer.verdict === 'late') {
      this.late++;
    }
    return answer.verdict;
  }

  warned(worker: Worker, message: string): void {
    this.warn(worker.hello.name, message);
  }

  failed(worker: Worker, message: string): void {
    this.failures++;
    const text = `worker ${worker.hello.name} failed: ${message}`;
    // What fails before anybody could compute, or again and again, will fail on the next worker too.
    if (this.roster.size === 0 || this.failures >= MAX_FAILURES)
      this.stop(new AtelierError('run-failed', text));
    else this.warn(worker.hello.name, `failed, its part is computed elsewhere: ${message}`);
  }

  // ---- strength --------------------------------------------------------------------------------------------

  private strengthChanged(): void {
    const { cluster, observer, clock, minWorkers, minWorkersToGoOn } = this.options;
    const { workers, slots } = cluster.strength(this.number);
    this.meter.slotsChanged(clock.monotonic(), slots);
    if (this.state.kind === 'waiting') {
      const begun = this.trials.some(({ started }) => started);
      if (workers < (begun ? minWorkersToGoOn : minWorkers)) return;
      this.state.cancelTimeout();
      this.state = { kind: 'running' };
      this.runningSince ??= clock.monotonic();
      cluster.hold(this.number, false);
      this.record({ type: 'started', workers });
      observer.started(workers, slots);
      if (!begun) this.startTrials();
    } else if (this.state.kind === 'running' && workers < minWorkersToGoOn) {
      this.state = { kind: 'waiting', cancelTimeout: this.waitTimeout(minWorkersToGoOn) };
      cluster.hold(this.number, true);
      this.record({ type: 'waiting', workers, wanted: minWorkersToGoOn });
      observer.waiting(workers, minWorkersToGoOn);
    }
  }

  private waitTimeout(wanted: number): () => void {
    const { clock, config } = this.options;
    return clock.after(config.waitSeconds * 1000, () => {
      const message = `fewer than ${wanted} workers for ${config.waitSeconds} s (--wait-seconds)`;
      this.stop(new AtelierError('run-failed', message));
    });
  }

  /** Starts as many trials as may run at once. */
  private startTrials(): void {
    const { foldConcurrency, studyFaults } = this.options.config;
    const limit = studyFaults ? 1 : (foldConcurrency ?? Infinity);
    let active = this.trials.filter(({ started, trial }) => started && !trial.isOver).length;
    for (const record of this.trials) {
      if (active >= limit) return;
      if (record.started || record.trial.isOver) continue;
      const before = this.trials[record.plan.trial - 1];
      if (studyFaults && before !== undefined && record.trial.roundsDone === 0) {
        record.trial.inherit(before.trial.currentWeights);
      }
      record.started = true;
      active++;
      this.carryOut(record, record.trial.start());
    }
  }

  // ---- trial effects ---------------------------------------------------------------------------------------

  private carryOut(record: TrialRecord, effects: readonly TrialEffect[]): void {
    const { observer, directory } = this.options;
    const { trial } = record;
    for (const effect of effects) {
      if (this.isOver) return;
      switch (effect.type) {
        case 'compute':
          this.openRound(record, effect.round);
          break;
        case 'stepped':
          this.onStepped(record, effect.progress);
          break;
        case 'epoch-ended':
          this.write(() => directory.appendEpoch(trial.index, trial.fold, effect.record));
          this.checkpoint(record, isBest(record, effect.record));
          observer.epochEnded(trial.index, effect.record, effect.weights);
          break;
        case 'finished':
        case 'failed':
          this.onTrialEnded(record, effect.type === 'failed' ? effect.error : null);
          break;
        default:
          assertNever(effect);
      }
    }
  }

  /** First of all the parameters of the next step are left where the last ones were: slots that wait for them begin beside what follows. */
  private leaveAhead(trial: number, round: number): void {
    const record = this.trialOf(trial);
    if (record.open?.frame?.isLeft !== true) return;
    const before = performance.now();
    record.frames.leaveAhead(round, record.trial.currentWeights);
    this.roundSent(this.number, trial, performance.now() - before);
  }

  private openRound(record: TrialRecord, round: Round): void {
    const { cluster, clock, observer } = this.options;
    const now = clock.monotonic();
    this.closeRound(record);
    record.open = { round, startedAt: now, timer: new StepTimer(), frame: undefined };
    const { round: number, kind, units } = round;
    if (kind === 'step') this.meter.stepOpened(now);
    else observer.evaluating(round.trial, round.split);
    const remaining = record.trial.remainingRounds;
    cluster.openRound(this.number, round.trial, { round: number, kind, units, remaining });
  }

  private closeRound(record: TrialRecord): void {
    const { clock, cluster } = this.options;
    const { open } = record;
    if (open?.round.kind === 'step') this.meter.stepClosed(clock.monotonic());
    if (open !== undefined) cluster.trace?.round(record.plan.fold, open.round, open.timer.openedAt);
    record.open?.frame?.release();
    record.open = undefined;
  }

  private onStepped(record: TrialRecord, progress: StepProgress): void {
    const { clock, config, observer, cluster } = this.options;
    const now = clock.monotonic();
    const { updateBeganAt, updateMs } = progress;
    cluster.trace?.did('optimizer', updateBeganAt, { trial: progress.trial }, updateBeganAt + updateMs);
    this.failures = 0;
    record.steps.add(progress.stepLossSum);
    invariant(record.open !== undefined, 'a step that ended had begun');
    this.meter.stepped(now - record.open.startedAt, progress.rowsInStep);
    if (this.firstStep) {
      this.firstStep = false;
      this.record({ type: 'first-step', secondsAfterStart: performance.now() / 1000 });
    }
    record.counted.steps++;
    record.counted.rows += progress.rowsInStep;
    observer.stepped(progress, this.meter.imagesPerSecond(now), record.open.timer.finish(progress.updateMs));
    const { checkpointSteps } = config;
    if (checkpointSteps !== null && record.trial.stepsDone % checkpointSteps === 0)
      this.checkpoint(record, false);
  }

  private onTrialEnded(record: TrialRecord, error: AtelierError | null): void {
    const { cluster, observer } = this.options;
    const { trial } = record;
    this.closeRound(record);
    cluster.closeRound(this.number, trial.index);
    if (error !== null) {
      this.record({ type: 'trial-failed', trial: trial.index, reason: error.message });
      if (this.trials.length === 1) {
        this.stop(error);
        return;
      }
    } else {
      this.checkpoint(record, false);
    }
    observer.trialEnded(trial.index, error);
    this.startTrials();
    if (this.trials.some(({ trial: { isOver } }) => !isOver)) return;
    const failed = this.trials.map(({ trial: { failure } }) => failure).filter((failure) => failure !== null);
    if (failed.length === 0) this.end({ status: 'done', error: null });
    else {
      const message = `${failed.length} of ${this.trials.length} trials failed: ${failed[0]?.message ?? ''}`;
      this.end({ status: 'failed', error: new AtelierError('run-failed', message) });
    }
  }

  private end(end: RunEnd): void {
    if (this.isOver) return;
    if (this.state.kind === 'waiting') this.state.cancelTimeout();
    this.state = { kind: 'ending', end };
    for (const record of this.trials) {
      this.closeRound(record);
      if (end.status !== 'done' && record.started && !record.trial.isOver) this.checkpoint(record, false);
    }
    this.endedAt = this.options.clock.monotonic();
    this.meter.slotsChanged(this.endedAt, 0);
    this.options.cluster.detach(this.number);
    void this.finish(end);
  }

  private async finish(end: RunEnd): Promise<void> {
    for (const { checkpoints } of this.trials) await checkpoints.settled();
    // A failed last checkpoint may have changed how it ended.
    const last = this.state.kind === 'ending' ? this.state.end : end;
    this.record({ type: 'ended', status: last.status, reason: last.error?.message ?? null });
    this.state = { kind: 'over', end: last };
    this.settle(last);
  }

  // ---- what is written -------------------------------------------------------------------------------------

  private checkpoint(record: TrialRecord, best: boolean): void {
    const { trial, steps, checkpoints } = record;
    const { directory } = this.options;
    this.write(() => steps.flush());
    const checkpoint = { trial: trial.index, identity: record.plan.identity, state: trial.snapshot() };
    checkpoints.write(trial.roundsDone, checkpoint, {
      best,
      onWritten: (written) => {
        const { count } = record.checkpointed;
        const writtenAt = this.options.clock.now();
        record.checkpointed = { count: count + 1, bytes: written.bytes, writtenAt };
        this.record({ type: 'checkpoint', trial: trial.index, file: written.file });
        this.options.observer.checkpointed(trial.index, written);
      },
      onError: (cause) => this.cannotWrite(directory.path, cause),
    });
  }

  private readonly warnings = new Set<string>();

  /** Tells people once what several workers may say. */
  private warn(source: string, message: string): void {
    if (this.warnings.has(message) || this.warnings.size >= MAX_WARNINGS) return;
    this.warnings.add(message);
    this.record({ type: 'warning', name: source, message });
    this.options.observer.warned(source, message);
  }

  private record(event: RunEvent): void {
    this.write(() => this.options.directory.appendEvent(this.options.clock.now(), event));
  }

  /** Writes to the run directory; a full disk ends the run with a reason, not the process with a stack. */
  private write(action: () => void): void {
    try {
      action();
    } catch (cause) {
      this.cannotWrite(this.options.directory.path, cause);
    }
  }

  private cannotWrite(path: string, cause: unknown): void {
    const message = `cannot write to ${path}: ${messageOf(cause)}. Make room, then go on with --resume`;
    const error = new AtelierError('run-failed', message, { cause });
    // While ending there is nobody left to stop.
    if (this.state.kind === 'ending') this.state = { kind: 'ending', end: { status: 'failed', error } };
    else this.stop(error);
  }

  private get isOver(): boolean {
    return this.state.kind === 'ending' || this.state.kind === 'over';
  }

  private trialOf(trial: number): TrialRecord {
    const record = this.trials[trial];
    if (record === undefined) throw new AtelierError('protocol', `there is no trial ${trial}`);
    return record;
  }
}

function workOf(round: Round): Work {
  return round.kind === 'step'
    ? { kind: 'step', epoch: round.epoch, stepInEpoch: round.stepInEpoch }
    : { kind: 'evaluate', split: round.split };
}

/** Is this the lowest validation loss of the trial so far? */
function isBest(record: TrialRecord, { valLoss }: EpochRecord): boolean {
  if (valLoss === null || valLoss >= record.bestLoss) return false;
  record.bestLoss = valLoss;
  return true;
}

function requireBytes(payload: Uint8Array, expected: number): void {
  if (payload.byteLength !== expected) {
    throw new AtelierError('protocol', `payload of ${payload.byteLength} bytes where ${expected} belong`);
  }
}
