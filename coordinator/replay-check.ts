import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { AtelierError } from '../shared/errors.js';
import { EpochRecord, type Summary } from '../shared/summary.js';
import type { RunDirectory } from './run-directory.js';
import type { RunObserver } from './run-observer.js';
import { StepLog } from './step-log.js';
import type { TrialPlan } from './trial-plan.js';
import type { TrialState } from './trial.js';

/** What a run directory has on record of a run, to compare a replay with. */
export interface RunRecord {
  readonly fingerprint: string | null;
  /** Where the replay of each trial begins; a trial that is not there begins at the beginning. */
  readonly states: ReadonlyMap<number, TrialState>;
  /** Loss sums of each trial's steps. */
  readonly steps: ReadonlyMap<number, Float64Array>;
  /** Epoch hashes of each trial, by epoch from 1. */
  readonly epochs: ReadonlyMap<number, ReadonlyMap<number, string>>;
  /** Final hashes of each trial that ended. */
  readonly final: ReadonlyMap<number, string>;
}

const MetricsLine = EpochRecord.extend({ trial: z.int().min(0) });

/**
 * Reads what a run has left.
 * @param fromStep a trial begins at its newest whole checkpoint that is not beyond this step
 * @throws AtelierError `usage` when there is nothing to compare with, `refused` for another dataset or model
 */
export async function readRecord(
  directory: RunDirectory,
  plans: readonly TrialPlan[],
  fromStep: number,
): Promise<RunRecord> {
  const { numericsFingerprint } = directory.readManifest();
  const states = new Map<number, TrialState>();
  const steps = new Map<number, Float64Array>();
  for (const plan of plans) {
    steps.set(plan.trial, StepLog.read(directory.stepLogPath(plan.fold)));
    const store = directory.checkpoints(plan.fold, 1);
    const fits = (state: TrialState): boolean => plan.make(state).stepsDone <= fromStep;
    // The identity is checked even where no checkpoint is taken.
    const found = await store.newest(plan.identity, () => undefined, fromStep > 0 ? fits : undefined);
    if (fromStep > 0 && found !== undefined) states.set(plan.trial, found.checkpoint.state);
  }
  const epochs = readEpochs(directory);
  const summary = directory.readSummary();
  const ended = (summary?.trials ?? []).map((trial, i) => [i, trial] as const);
  const final = new Map(
    ended.filter(([, { status }]) => status === 'done').map(([i, { weightsSha256 }]) => [i, weightsSha256]),
  );
  if (epochs.size === 0 && final.size === 0 && [...steps.values()].every(({ length }) => length === 0)) {
    throw new AtelierError(
      'usage',
      `${directory.path} has no metrics and no steps: there is nothing to compare`,
    );
  }
  const fingerprint = typeof numericsFingerprint === 'string' ? numericsFingerprint : null;
  return { fingerprint, states, steps, epochs, final };
}

function readEpochs(directory: RunDirectory): Map<number, Map<number, string>> {
  const epochs = new Map<number, Map<number, string>>();
  let text = '';
  try {
    text = readFileSync(join(directory.path, 'metrics.jsonl'), 'utf8');
  } catch {
    // A run that was stopped in its first epoch has none.
  }
  for (const line of text.split('\n').filter((part) => part !== '')) {
    const parsed = MetricsLine.safeParse(JSON.parse(line));
    if (!parsed.success) throw new AtelierError('data', `metrics.jsonl: ${z.prettifyError(parsed.error)}`);
    const { trial, epoch, weightsSha256 } = parsed.data;
    epochs.set(trial, (epochs.get(trial) ?? new Map<number, string>()).set(epoch, weightsSha256));
  }
  return epochs;
}

/** What a replay has found to be the same so far. */
export interface ReplayReport {
  steps: number;
  epochs: number;
  trials: number;
  /** The first thing that differs; null if nothing does. */
  difference: string | null;
}

/** Compares a replay with what was recorded, step by step, and stops it at the first difference. */
export class ReplayCheck {
  private readonly record: RunRecord;
  readonly report: ReplayReport = { steps: 0, epochs: 0, trials: 0, difference: null };

  constructor(record: RunRecord) {
    this.record = record;
  }

  observer(stop: (error: AtelierError) => void): RunObserver {
    const ignore = (): void => undefined;
    return {
      workerJoined: ignore,
      workerLeft: ignore,
      warned: ignore,
      started: ignore,
      waiting: ignore,
      evaluating: ignore,
      trialEnded: ignore,
      checkpointed: ignore,
      stepped: ({ trial, epoch, stepInEpoch, stepsPerEpoch, stepLossSum }) => {
        const step = epoch * stepsPerEpoch + stepInEpoch;
        const recorded = this.record.steps.get(trial)?.[step];
        if (recorded === undefined) return;
        if (Object.is(recorded, stepLossSum)) this.report.steps++;
        else {
          const where = `step ${step + 1} (epoch ${epoch + 1}, step ${stepInEpoch + 1})`;
          stop(this.differs(`${nameOf(trial)}${where}: loss sum ${stepLossSum}, recorded ${recorded}`));
        }
      },
      epochEnded: (trial, { epoch, weightsSha256 }) => {
        const recorded = this.record.epochs.get(trial)?.get(epoch);
        if (recorded === undefined) return;
        if (recorded === weightsSha256) this.report.epochs++;
        else
          stop(
            this.differs(`${nameOf(trial)}epoch ${epoch}: weights ${weightsSha256}, recorded ${recorded}`),
          );
      },
    };
  }

  /** Compares what the trials ended with. Returns what is wrong. */
  finish({ trials, status }: Summary): AtelierError | null {
    if (status !== 'done' || this.report.difference !== null) return null;
    for (const [i, { weightsSha256 }] of trials.entries()) {
      const recorded = this.record.final.get(i);
      if (recorded === undefined) continue;
      if (recorded === weightsSha256) this.report.trials++;
      else return this.differs(`${nameOf(i)}final weights ${weightsSha256}, recorded ${recorded}`);
    }
    return null;
  }

  private differs(what: string): AtelierError {
    this.report.difference ??= what;
    return new AtelierError('run-failed', `not the same: ${this.report.difference}`);
  }
}

const nameOf = (trial: number): string => `trial ${trial}, `;
