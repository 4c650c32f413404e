import { AtelierError, assertNever, invariant } from '../shared/errors.js';
import { addGradientSums, type GradientSum } from '../shared/gradient-sum.js';
import { weightsSha256 } from '../shared/layout.js';
import type { CompiledModel } from '../shared/models/compile.js';
import type { Split } from '../shared/protocol/messages.js';
import type { ShardPlan } from '../shared/shards.js';
import type { EpochRecord, Evaluation, TrialSummary } from '../shared/summary.js';
import { isTreeNode, TreeSum, type Range } from '../shared/tree.js';
import { EvaluationSum, type ChunkResult } from './evaluation-sum.js';
import type { Optimizer } from './optimizer/optimizer.js';
import { applyUpdate } from './update.js';

/** What workers are asked for next. `units` are shards of a step, or chunks of an evaluation. */
export type Round =
  | { kind: 'step'; trial: number; round: number; units: number; epoch: number; stepInEpoch: number }
  | { kind: 'evaluate'; trial: number; round: number; units: number; epoch: number; split: Split };

/** What a trial asks its surroundings to do. */
export type TrialEffect =
  | { type: 'compute'; round: Round; weights: Float32Array }
  | { type: 'stepped'; progress: StepProgress }
  | { type: 'epoch-ended'; record: Omit<EpochRecord, 'seconds'> }
  | { type: 'finished' }
  | { type: 'failed'; error: AtelierError };

/** The running figures of an epoch, as of the step just done. */
export interface StepProgress {
  readonly trial: number;
  readonly epoch: number;
  readonly stepInEpoch: number;
  readonly stepsPerEpoch: number;
  readonly rowsInStep: number;
  readonly loss: number;
  readonly accuracy: number;
}

/**
 * How an answer was taken:
 * - `used`: it counted;
 * - `late`: it belongs to a round that is over, or its units are already there: dropped, harmless;
 * - `invalid`: it cannot be right, whoever sent it broke the protocol; nothing was changed.
 */
export type Verdict = 'used' | 'late' | 'invalid';

type Phase =
  | { kind: 'idle' }
  | { kind: 'step'; round: Round & { kind: 'step' }; sum: TreeSum<GradientSum> }
  | { kind: 'evaluate'; round: Round & { kind: 'evaluate' }; sum: EvaluationSum }
  | { kind: 'over' };

export interface TrialOptions {
  readonly trial: number;
  readonly fold: number | null;
  readonly model: CompiledModel;
  readonly plan: ShardPlan;
  readonly epochs: number;
  readonly classes: number;
  readonly validationRows: number;
  readonly testRows: number;
  /** Rows of one evaluation chunk. */
  readonly evaluationRows: number;
  readonly optimizer: Optimizer;
  /** Initial parameters and state; the trial takes them over. */
  readonly weights: Float32Array;
}

/**
 * One model being trained: a state machine without clock, sockets or files. It goes step by step through its
 * epochs, evaluates on the validation rows after each and on the test rows at the end. Its answers do not
 * depend on who computed what or in which order it came.
 */
export class Trial {
  private readonly options: TrialOptions;
  private readonly weights: Float32Array;
  private phase: Phase = { kind: 'idle' };
  private nextRound = 0;
  private epochTotals = { rows: 0, lossSum: 0, correct: 0 };
  private readonly records: Omit<EpochRecord, 'seconds'>[] = [];
  private validation: Evaluation | null = null;
  private test: Evaluation | null = null;

  constructor(options: TrialOptions) {
    this.options = options;
    this.weights = options.weights;
  }

  get index(): number {
    return this.options.trial;
  }

  get currentWeights(): Float32Array {
    return this.weights;
  }

  summary(seconds: readonly number[]): TrialSummary {
    return {
      fold: this.options.fold,
      weightsSha256: weightsSha256(this.weights),
      epochs: this.records.map((record, i) => ({ ...record, seconds: seconds[i] ?? 0 })),
      validation: this.validation,
      test: this.test,
    };
  }

  start(): TrialEffect[] {
    invariant(this.phase.kind === 'idle', 'a trial starts once');
    return [this.beginStep(0, 0)];
  }

  /** The gradient sum of one tree node of the current step. */
  receivePartial(round: number, node: Range, sum: GradientSum): { verdict: Verdict; effects: TrialEffect[] } {
    const { phase, options } = this;
    if (phase.kind !== 'step' || round !== phase.round.round) return this.unexpected(round);
    if (
      sum.correct > sum.rows ||
      !isTreeNode(node, options.plan.shards) ||
      sum.rows !== this.expectedRows(node, phase.round.stepInEpoch)
    ) {
      return { verdict: 'invalid', effects: [] };
    }
    if (phase.sum.overlaps(node)) return { verdict: 'late', effects: [] };
    const total = phase.sum.add(node, sum);
    return { verdict: 'used', effects: total === undefined ? [] : this.finishStep(phase.round, total) };
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

  private expectedRows(node: Range, stepInEpoch: number): number {
    let rows = 0;
    for (let shard = node.start; shard < node.start + node.count; shard++) {
      rows += this.options.plan.microBatchRows(shard, stepInEpoch);
    }
    return rows;
  }

  private beginStep(epoch: number, stepInEpoch: number): TrialEffect {
    const { trial, plan } = this.options;
    if (stepInEpoch === 0) this.epochTotals = { rows: 0, lossSum: 0, correct: 0 };
    const round = {
      kind: 'step',
      trial,
      round: this.nextRound++,
      units: plan.shards,
      epoch,
      stepInEpoch,
    } as const;
    const sum = new TreeSum({ start: 0, count: plan.shards }, addGradientSums);
    this.phase = { kind: 'step', round, sum };
    return { type: 'compute', round, weights: this.weights };
  }

  private finishStep({ epoch, stepInEpoch }: Round & { kind: 'step' }, sum: GradientSum): TrialEffect[] {
    const { model, optimizer, plan, trial } = this.options;
    try {
      applyUpdate(this.weights, sum, model, optimizer);
    } catch (error) {
      if (!(error instanceof AtelierError)) throw error;
      const where = `epoch ${epoch + 1}, step ${stepInEpoch + 1}: ${error.message}`;
      return this.fail(new AtelierError(error.code, where, { cause: error }));
    }
    const totals = this.epochTotals;
    totals.rows += sum.rows;
    totals.lossSum += sum.lossSum;
    totals.correct += sum.correct;
    const progress: StepProgress = {
      trial,
      epoch,
      stepInEpoch,
      stepsPerEpoch: plan.stepsPerEpoch,
      rowsInStep: sum.rows,
      loss: totals.lossSum / totals.rows,
      accuracy: totals.correct / totals.rows,
    };
    const next =
      stepInEpoch + 1 < plan.stepsPerEpoch
        ? [this.beginStep(epoch, stepInEpoch + 1)]
        : this.afterSteps(epoch);
    return [{ type: 'stepped', progress }, ...next];
  }

  private afterSteps(epoch: number): TrialEffect[] {
    const { plan, validationRows } = this.options;
    invariant(this.epochTotals.rows === plan.rows.length, 'an epoch uses every training row once');
    if (validationRows > 0) return [this.beginEvaluation(epoch, 'validation')];
    return this.endEpoch(epoch);
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
    return { type: 'compute', round, weights: this.weights };
  }

  private finishEvaluation(
    { epoch, split }: Round & { kind: 'evaluate' },
    result: Evaluation,
  ): TrialEffect[] {
    if (!Number.isFinite(result.loss)) {
      const message = `epoch ${epoch + 1}: the ${split} loss is not finite: training diverged. Try a smaller --learning-rate.`;
      return this.fail(new AtelierError('run-failed', message));
    }
    switch (split) {
      case 'validation':
        this.validation = result;
        return this.endEpoch(epoch);
      case 'test':
        this.test = result;
        this.phase = { kind: 'over' };
        return [{ type: 'finished' }];
      default:
        return assertNever(split);
    }
  }

  private endEpoch(epoch: number): TrialEffect[] {
    const { rows, lossSum, correct } = this.epochTotals;
    const record = {
      epoch: epoch + 1,
      loss: lossSum / rows,
      accuracy: correct / rows,
      valLoss: this.validation?.loss ?? null,
      valAccuracy: this.validation?.accuracy ?? null,
      rows,
      weightsSha256: weightsSha256(this.weights),
    };
    this.records.push(record);
    const last = epoch + 1 === this.options.epochs;
    const next = last ? this.beginEvaluation(epoch, 'test') : this.beginStep(epoch + 1, 0);
    return [{ type: 'epoch-ended', record }, next];
  }

  private fail(error: AtelierError): TrialEffect[] {
    this.phase = { kind: 'over' };
    return [{ type: 'failed', error }];
  }
}
