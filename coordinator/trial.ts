import { AtelierError, assertNever, invariant } from '../shared/errors.js';
import type { GradientSum } from '../shared/gradient-sum.js';
import { weightsSha256 } from '../shared/layout.js';
import type { CompiledModel } from '../shared/models/compile.js';
import type { Split } from '../shared/protocol/messages.js';
import type { RowDigest } from '../shared/row-digest.js';
import type { ShardPlan } from '../shared/shards.js';
import type { EpochRecord, Evaluation, TrialSummary } from '../shared/summary.js';
import { isTreeNode, TreeSum, type Range } from '../shared/tree.js';
import type { VectorMemory } from '../shared/vector/memory.js';
import { wireOf, type WireFormat } from '../shared/wire.js';
import { EvaluationSum, type ChunkResult } from './evaluation-sum.js';
import { GradientBuffers } from './gradient-buffers.js';
import type { LossAndAccuracy, TrialProgress } from './run-figures.js';
import { RowLedger, type LedgerState } from './row-ledger.js';
import type { OptimizerState } from './optimizer/optimizer.js';
import type { UpdateRule } from './optimizer/update-rule.js';
import { ResultWeights, type ResultOptions } from './result-weights.js';
import { applyUpdate } from './update.js';

/** What workers are asked for next. `units` are shards of a step, or chunks of an evaluation. */
export type Round =
  | { kind: 'step'; trial: number; round: number; units: number; epoch: number; stepInEpoch: number }
  | { kind: 'evaluate'; trial: number; round: number; units: number; epoch: number; split: Split };

/** What a trial asks its surroundings to do. */
export type TrialEffect =
  | { type: 'compute'; round: Round }
  | { type: 'stepped'; progress: StepProgress }
  /** The weights are the trial's own, and as said until its next step. */
  | { type: 'epoch-ended'; record: EpochRecord; weights: Float32Array }
  | { type: 'finished' }
  | { type: 'failed'; error: AtelierError };

/** Where a trial stands: the round that comes next. */
export type Position =
  | { kind: 'step'; epoch: number; stepInEpoch: number }
  | { kind: 'evaluate'; epoch: number; split: Split }
  | { kind: 'over' };

/** All that a trial's further course depends on. What is in `arrays` is large, the rest is JSON. */
export interface TrialState {
  readonly position: Position;
  readonly epochTotals: EpochTotals;
  readonly records: readonly EpochRecord[];
  readonly validation: Evaluation | null;
  readonly test: Evaluation | null;
  readonly ledger: LedgerState;
  readonly optimizer: OptimizerState['numbers'];
  /** `weights`, the optimizer's arrays, and what the result is made of. */
  readonly arrays: Readonly<Record<string, Float32Array>>;
}

export interface EpochTotals {
  readonly rows: number;
  readonly lossSum: number;
  readonly correct: number;
  /** Time spent on the epoch so far, without what was lost by a restart. */
  readonly seconds: number;
}

/** The running figures of an epoch, as of the step just done. */
export interface StepProgress {
  readonly trial: number;
  readonly epoch: number;
  readonly stepInEpoch: number;
  readonly stepsPerEpoch: number;
  readonly rowsInStep: number;
  /** Sum of the losses of this step's rows: a fingerprint of the weights before it. */
  readonly stepLossSum: number;
  readonly loss: number;
  readonly accuracy: number;
  /** What the update of the weights took. */
  readonly updateMs: number;
  /** When it began, by the trial's own clock. */
  readonly updateBeganAt: number;
}

/**
 * How an answer was taken:
 * - `used`: it counted;
 * - `late`: it belongs to a round that is over, or its units are already there: dropped, harmless;
 * - `invalid`: it cannot be right, whoever sent it broke the protocol; nothing was changed.
 */
export type Verdict = 'used' | 'late' | 'invalid';

const NO_TOTALS: EpochTotals = { rows: 0, lossSum: 0, correct: 0, seconds: 0 };

/** The name of the parameters and state among a state's arrays. */
const WEIGHTS = 'weights';

interface StepPhase {
  readonly kind: 'step';
  readonly round: Round & { kind: 'step' };
  readonly sum: TreeSum<GradientSum>;
  /** Of the rows used, for each shard that is in. */
  readonly digests: RowDigest[];
}

type Phase =
  | { kind: 'idle'; position: Position }
  | StepPhase
  | { kind: 'evaluate'; round: Round & { kind: 'evaluate' }; sum: EvaluationSum }
  | { kind: 'over' };

export interface TrialOptions {
  readonly trial: number;
  readonly fold: number | null;
  readonly model: CompiledModel;
  readonly plan: ShardPlan;
  readonly seed: number;
  readonly epochs: number;
  readonly classes: number;
  readonly validationRows: number;
  /** 0: the trial has no test at its end. */
  readonly testRows: number;
  /** Rows of one evaluation chunk. */
  readonly evaluationRows: number;
  readonly rule: UpdateRule;
  /** Left out: float32. */
  readonly wire?: WireFormat;
  /** Which weights are evaluated and kept, and when the trial stops early. */
  readonly result: ResultOptions;
  /** Initial parameters and state; the trial takes them over. */
  readonly weights: Float32Array;
  /** Where gradients are held; the weights may be there too. */
  readonly memory: VectorMemory;
  /** So many places where workers of this host leave gradients may be mapped into it; left out: none. */
  readonly places?: number;
  /**
   * Called as soon as the weights are those of the next step, with the number that its round will have, before any books are kept: nobody
   * should wait for these.
   */
  readonly updated?: (round: number) => void;
  /** Milliseconds from anywhere; for durations alone. */
  readonly now: () => number;
}

/**
 * One model being trained: a state machine without sockets or files. It goes step by step through its epochs,
 * evaluates on the validation rows after each and on the test rows at the end. Its answers do not depend on
 * who computed what or in which order it came.
 */
export class Trial {
  private readonly options: TrialOptions;
  private readonly weights: Float32Array;
  /** Where partials are held until they are added. */
  readonly gradients: GradientBuffers;
  private readonly result: ResultWeights;
  private phase: Phase;
  private nextRound = 0;
  private epochTotals: EpochTotals = NO_TOTALS;
  private epochResumedAt = 0;
  private epochRecords: EpochRecord[] = [];
  private validation: Evaluation | null = null;
  private test: Evaluation | null = null;
  private readonly ledger: RowLedger;
  private failedBy: AtelierError | null = null;
  /** The loss by which training diverged. */
  private notFinite: 'train' | Split | null = null;

  /** @param state where to go on; a new trial begins at the beginning */
  constructor(options: TrialOptions, state?: TrialState) {
    this.options = options;
    this.weights = options.weights;
    this.gradients = new GradientBuffers(options.memory, {
      size: options.weights.length,
      wire: wireOf(options.wire),
      places: options.places ?? 0,
    });
    this.result = new ResultWeights(options.result, options.weights);
    this.ledger = new RowLedger(options.plan, { seed: options.seed, trial: options.trial }, state?.ledger);
    this.phase = { kind: 'idle', position: { kind: 'step', epoch: 0, stepInEpoch: 0 } };
    if (state === undefined) return;
    const { [WEIGHTS]: weights, ...arrays } = state.arrays;
    invariant(weights?.length === this.weights.length, 'a state has the weights of its model');
    this.weights.set(weights);
    options.rule.optimizer.restore({ numbers: state.optimizer, arrays });
    this.result.restore({ numbers: state.optimizer, arrays });
    this.epochTotals = state.epochTotals;
    this.epochRecords = [...state.records];
    this.validation = state.validation;
    this.test = state.test;
    this.phase =
      state.position.kind === 'over' ? { kind: 'over' } : { kind: 'idle', position: state.position };
  }

  get index(): number {
    return this.options.trial;
  }

  get fold(): number | null {
    return this.options.fold;
  }

  /** Parameters and state that the round in work takes, or, when the trial is over, its result; a view, not a copy. */
  get currentWeights(): Float32Array {
    const { position } = this;
    if (position.kind === 'step') return this.weights;
    const isValidation = position.kind === 'evaluate' && position.split === 'validation';
    return isValidation ? this.result.validated : this.result.result;
  }

  get isOver(): boolean {
    return this.phase.kind === 'over';
  }

  /** Why it ended before its time; null if it did not. */
  get failure(): AtelierError | null {
    return this.failedBy;
  }

  get records(): readonly EpochRecord[] {
    return this.epochRecords;
  }

  /** Training steps that are done, of all epochs. */
  get stepsDone(): number {
    const { plan } = this.options;
    const position = this.position;
    if (position.kind === 'over') return this.epochRecords.length * plan.stepsPerEpoch;
    if (position.kind === 'evaluate') return (position.epoch + 1) * plan.stepsPerEpoch;
    return position.epoch * plan.stepsPerEpoch + position.stepInEpoch;
  }

  /** Rounds that are done: steps and evaluations. */
  get roundsDone(): number {
    const position = this.position;
    if (position.kind === 'over') return this.totalRounds;
    const evaluations = this.evaluatesEpochs ? this.epochRecords.length : 0;
    return this.stepsDone + evaluations;
  }

  /** Rounds still to come, the one in work included. */
  get remainingRounds(): number {
    return this.totalRounds - this.roundsDone;
  }

  private get totalRounds(): number {
    const { epochs, plan, testRows } = this.options;
    return epochs * (plan.stepsPerEpoch + (this.evaluatesEpochs ? 1 : 0)) + (testRows > 0 ? 1 : 0);
  }

  private get evaluatesEpochs(): boolean {
    return this.options.validationRows > 0;
  }

  /** The round that is in work, or comes next. */
  get position(): Position {
    const { phase } = this;
    switch (phase.kind) {
      case 'idle':
        return phase.position;
      case 'step':
        return { kind: 'step', epoch: phase.round.epoch, stepInEpoch: phase.round.stepInEpoch };
      case 'evaluate':
        return { kind: 'evaluate', epoch: phase.round.epoch, split: phase.round.split };
      case 'over':
        return { kind: 'over' };
    }
  }

  /** A copy of the state before the round in work: going on from it leads to the same bits. */
  snapshot(): TrialState {
    const { numbers, arrays } = this.options.rule.optimizer.snapshot();
    const result = this.result.snapshot();
    return {
      position: this.position,
      epochTotals: { ...this.epochTotals, seconds: this.secondsOfEpoch() },
      records: [...this.epochRecords],
      validation: this.validation,
      test: this.test,
      ledger: this.ledger.snapshot(),
      optimizer: { ...numbers, ...result.numbers },
      arrays: { ...arrays, ...result.arrays, [WEIGHTS]: this.weights.slice() },
    };
  }

  summary(): TrialSummary {
    return {
      fold: this.options.fold,
      status: this.failedBy !== null ? 'failed' : this.isOver ? 'done' : 'stopped',
      reason: this.failedBy?.message ?? null,
      weightsSha256: weightsSha256(this.currentWeights),
      epochs: [...this.epochRecords],
      validation: this.validation,
      test: this.test,
      ledger: this.ledger.summary(),
    };
  }

  /** How far it is and how well it does, for people and metrics. */
  progress(): TrialProgress {
    const { fold, epochs, plan, rule } = this.options;
    const { rows, lossSum, correct } = this.epochTotals;
    const last = this.epochRecords.at(-1);
    const running = rows > 0 ? { loss: lossSum / rows, accuracy: correct / rows } : (last ?? null);
    const validated =
      last === undefined || last.valLoss === null || last.valAccuracy === null
        ? null
        : { loss: last.valLoss, accuracy: last.valAccuracy };
    const shown = (split: 'train' | Split, figures: LossAndAccuracy | null): LossAndAccuracy | null =>
      this.notFinite === split
        ? { loss: Number.NaN, accuracy: figures?.accuracy ?? 0 }
        : figures && { loss: figures.loss, accuracy: figures.accuracy };
    return {
      fold,
      epochsDone: this.epochRecords.length,
      epochs,
      stepsDone: this.stepsDone,
      steps: epochs * plan.stepsPerEpoch,
      train: shown('train', running),
      validation: shown('validation', validated),
      test: shown('test', this.test),
      learningRate: rule.learningRate(this.stepsDone),
      ledgerRows: this.epochRecords.reduce((sum, record) => sum + record.rows, 0),
    };
  }

  /** Begins with other parameters than fresh ones: the study's fault. */
  inherit(weights: Float32Array): void {
    invariant(this.roundsDone === 0, 'only a trial that has not begun inherits');
    this.weights.set(weights);
  }

  /** Begins, or goes on where the state given says. A trial that is over has nothing to do. */
  start(): TrialEffect[] {
    if (this.phase.kind === 'over') return [];
    invariant(this.phase.kind === 'idle', 'a trial starts once');
    this.epochResumedAt = this.options.now();
    const { position } = this.phase;
    if (position.kind === 'evaluate') return [this.beginEvaluation(position.epoch, position.split)];
    invariant(position.kind === 'step', 'a trial that is not over has a next round');
    return [this.beginStep(position.epoch, position.stepInEpoch)];
  }

  /**
   * The gradient sum of one tree node of the current step.
   * @param digests of the rows used, one for each shard of the node
   */
  receivePartial(
    round: number,
    node: Range,
    sum: GradientSum,
    digests: readonly RowDigest[],
  ): { verdict: Verdict; effects: TrialEffect[] } {
    const { phase, options } = this;
    if (phase.kind !== 'step' || round !== phase.round.round) return this.unexpected(round);
    if (
      sum.correct > sum.rows ||
      !isTreeNode(node, options.plan.shards) ||
      !this.ledger.isOfStep(phase.round, node, sum.rows, digests)
    ) {
      return { verdict: 'invalid', effects: [] };
    }
    if (phase.sum.overlaps(node)) return { verdict: 'late', effects: [] };
    const total = phase.sum.add(node, this.gradients.hold(sum));
    digests.forEach((digest, i) => (phase.digests[node.start + i] = digest));
    return { verdict: 'used', effects: total === undefined ? [] : this.finishStep(phase, total) };
  }

  /** The result of one chunk of the current evaluation. */
  receiveChunk(
    round: number,
    chunk: number,
    result: ChunkResult,
  ): { verdict: Verdict; effects: TrialEffect[] } {
    const { phase } = this;
    if (phase.kind !== 'evaluate' || round !== phase.round.round) return this.unexpected(round);
    if (!phase.sum.fits(chunk, result)) return { verdict: 'invalid', effects: [] };
    if (phase.sum.has(chunk)) return { verdict: 'late', effects: [] };
    phase.sum.add(chunk, result);
    if (!phase.sum.complete) return { verdict: 'used', effects: [] };
    return { verdict: 'used', effects: this.finishEvaluation(phase.round, phase.sum.total()) };
  }

  private unexpected(round: number): { verdict: Verdict; effects: TrialEffect[] } {
    return { verdict: round < this.nextRound ? 'late' : 'invalid', effects: [] };
  }

  private secondsOfEpoch(): number {
    if (this.phase.kind === 'idle' || this.phase.kind === 'over') return this.epochTotals.seconds;
    return this.epochTotals.seconds + (this.options.now() - this.epochResumedAt) / 1000;
  }

  private beginStep(epoch: number, stepInEpoch: number): TrialEffect {
    const { trial, plan } = this.options;
    const round = {
      kind: 'step',
      trial,
      round: this.nextRound++,
      units: plan.shards,
      epoch,
      stepInEpoch,
    } as const;
    this.gradients.reset();
    const sum = new TreeSum({ start: 0, count: plan.shards }, this.gradients.combine);
    this.phase = { kind: 'step', round, sum, digests: [] };
    return { type: 'compute', round };
  }

  private finishStep({ round, digests }: StepPhase, sum: GradientSum): TrialEffect[] {
    const { epoch, stepInEpoch } = round;
    const { model, rule, plan, trial } = this.options;
    const before = this.options.now();
    try {
      applyUpdate(this.weights, sum, model, rule, epoch * plan.stepsPerEpoch + stepInEpoch);
    } catch (error) {
      if (!(error instanceof AtelierError)) throw error;
      const where = `epoch ${epoch + 1}, step ${stepInEpoch + 1}: ${error.message}`;
      this.notFinite = 'train';
      return this.fail(new AtelierError(error.code, where, { cause: error }));
    }
    const updateMs = this.options.now() - before;
    const isLastOfEpoch = stepInEpoch + 1 === plan.stepsPerEpoch;
    if (!isLastOfEpoch) this.options.updated?.(this.nextRound);
    this.result.stepped();
    this.ledger.endStep(digests);
    const sofar = this.epochTotals;
    const totals = {
      rows: sofar.rows + sum.rows,
      lossSum: sofar.lossSum + sum.lossSum,
      correct: sofar.correct + sum.correct,
      seconds: sofar.seconds,
    };
    this.epochTotals = totals;
    const progress: StepProgress = {
      trial,
      epoch,
      stepInEpoch,
      stepsPerEpoch: plan.stepsPerEpoch,
      rowsInStep: sum.rows,
      stepLossSum: sum.lossSum,
      loss: totals.lossSum / totals.rows,
      accuracy: totals.correct / totals.rows,
      updateMs,
      updateBeganAt: before,
    };
    const next = isLastOfEpoch ? this.afterSteps(epoch) : [this.beginStep(epoch, stepInEpoch + 1)];
    return [{ type: 'stepped', progress }, ...next];
  }

  private afterSteps(epoch: number): TrialEffect[] {
    const { plan, validationRows } = this.options;
    invariant(this.epochTotals.rows === plan.rows.length, 'an epoch uses every training row once');
    this.ledger.endEpoch(epoch);
    if (validationRows > 0) return [this.beginEvaluation(epoch, 'validation')];
    return this.endEpoch(epoch, null);
  }

  private beginEvaluation(epoch: number, split: Split): TrialEffect {
    const { trial, classes, evaluationRows, validationRows, testRows } = this.options;
    const rows = split === 'test' ? testRows : validationRows;
    const sum = new EvaluationSum(rows, evaluationRows, classes);
    const round = {
      kind: 'evaluate',
      trial,
      round: this.nextRound++,
      units: sum.chunks,
      epoch,
      split,
    } as const;
    this.phase = { kind: 'evaluate', round, sum };
    return { type: 'compute', round };
  }

  private finishEvaluation(
    { epoch, split }: Round & { kind: 'evaluate' },
    result: Evaluation,
  ): TrialEffect[] {
    if (!Number.isFinite(result.loss)) {
      this.notFinite = split;
      const message = `epoch ${epoch + 1}: the ${split} loss is not finite: training diverged. Try a smaller --learning-rate.`;
      return this.fail(new AtelierError('run-failed', message));
    }
    switch (split) {
      case 'validation':
        return this.endEpoch(epoch, result);
      case 'test':
        this.test = result;
        return this.finish();
      default:
        return assertNever(split);
    }
  }

  private endEpoch(epoch: number, validation: Evaluation | null): TrialEffect[] {
    const { rows, lossSum, correct } = this.epochTotals;
    const record = {
      epoch: epoch + 1,
      loss: lossSum / rows,
      accuracy: correct / rows,
      valLoss: validation?.loss ?? null,
      valAccuracy: validation?.accuracy ?? null,
      rows,
      seconds: this.secondsOfEpoch(),
      weightsSha256: weightsSha256(this.weights),
    };
    this.epochRecords.push(record);
    this.epochTotals = NO_TOTALS;
    this.epochResumedAt = this.options.now();
    const { isResult, isLast } = this.result.epochEnded(this.epochRecords);
    if (isResult) this.validation = validation;
    return [{ type: 'epoch-ended', record, weights: this.weights }, ...this.afterEpoch(epoch, isLast)];
  }

  private afterEpoch(epoch: number, isLast: boolean): TrialEffect[] {
    if (!isLast && epoch + 1 < this.options.epochs) return [this.beginStep(epoch + 1, 0)];
    return this.options.testRows > 0 ? [this.beginEvaluation(epoch, 'test')] : this.finish();
  }

  private finish(): TrialEffect[] {
    this.phase = { kind: 'over' };
    return [{ type: 'finished' }];
  }

  private fail(error: AtelierError): TrialEffect[] {
    this.phase = { kind: 'over' };
    this.failedBy = error;
    return [{ type: 'failed', error }];
  }
}
