import type { AtelierError } from '../shared/errors.js';
import type { EpochRecord } from '../shared/summary.js';
import type { Range } from '../shared/tree.js';
import type { WrittenCheckpoint } from './checkpoint-store.js';
import type { Worker } from './cluster.js';
import type { StepTimes } from './step-timer.js';
import type { StepProgress, Verdict } from './trial.js';

/** Who watches a run: the terminal, metrics. Every method is called synchronously and must not throw. */
export interface RunObserver {
  workerJoined(worker: Worker): void;
  workerLeft(worker: Worker, reason: string): void;
  warned(source: string, message: string): void;
  /** The run has the workers it wanted and goes on. */
  started(workers: number, slots: number): void;
  /** The run has fewer workers than it needs, and waits. */
  waiting(workers: number, wanted: number): void;
  stepped(progress: StepProgress, imagesPerSecond: number, times: StepTimes): void;
  evaluating(trial: number, split: 'validation' | 'test'): void;
  /** @param weights parameters, then non-trainable state; the trial goes on with them: copy what is kept */
  epochEnded(trial: number, record: EpochRecord, weights: Float32Array): void;
  trialEnded(trial: number, error: AtelierError | null): void;
  checkpointed(trial: number, written: WrittenCheckpoint): void;
  /** Many times a step; for logs. */
  leased?(worker: Worker, units: LeasedUnits): void;
  answered?(worker: Worker, units: LeasedUnits, verdict: Verdict): void;
}

/** Units of a round, and the lease by which a worker has them. */
export interface LeasedUnits {
  readonly trial: number;
  readonly round: number;
  /** From 1, of the trial and of the epoch; null: an evaluation, or a round that is over. */
  readonly epoch: number | null;
  readonly step: number | null;
  /** As `leaseName` calls it. */
  readonly lease: string;
  readonly units: Range;
}

/** Tells several observers, one after the other, what each of them wants to know. */
export function observeAll(observers: readonly Partial<RunObserver>[]): RunObserver {
  const tell =
    <Name extends keyof RunObserver>(name: Name) =>
    (...args: Parameters<Required<RunObserver>[Name]>): void => {
      for (const observer of observers) {
        (observer[name] as ((...all: typeof args) => void) | undefined)?.apply(observer, args);
      }
    };
  return {
    workerJoined: tell('workerJoined'),
    workerLeft: tell('workerLeft'),
    warned: tell('warned'),
    started: tell('started'),
    waiting: tell('waiting'),
    stepped: tell('stepped'),
    evaluating: tell('evaluating'),
    epochEnded: tell('epochEnded'),
    trialEnded: tell('trialEnded'),
    checkpointed: tell('checkpointed'),
    // Where nobody wants to hear of every lease, nothing is said.
    ...(observers.some(({ leased }) => leased !== undefined) ? { leased: tell('leased') } : {}),
    ...(observers.some(({ answered }) => answered !== undefined) ? { answered: tell('answered') } : {}),
  };
}
