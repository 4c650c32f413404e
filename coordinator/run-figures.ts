import type { LeaseCounts } from './scheduler.js';

/** Where a run stands; `waiting`: for workers. */
export const RUN_STATUSES = ['queued', 'waiting', 'running', 'done', 'failed', 'stopped'] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

/** Where a trial stands; `waiting`: for workers, or for other trials (`--fold-concurrency`). */
export const TRIAL_STATUSES = ['waiting', 'running', 'done', 'failed', 'stopped'] as const;
export type TrialStatus = (typeof TRIAL_STATUSES)[number];

export interface LossAndAccuracy {
  /** NaN when it was not finite: then the trial has failed by it. */
  readonly loss: number;
  readonly accuracy: number;
}

/** What a trial knows of itself at this moment. */
export interface TrialProgress {
  /** Null for a plain trial and for the final fit. */
  readonly fold: number | null;
  readonly epochsDone: number;
  readonly epochs: number;
  /** Of all epochs, those before a restart included. */
  readonly stepsDone: number;
  readonly steps: number;
  /** Running means of the epoch in work, or those of the last one. */
  readonly train: LossAndAccuracy | null;
  /** Of the last epoch that is over. */
  readonly validation: LossAndAccuracy | null;
  readonly test: LossAndAccuracy | null;
  /** Of the next step. */
  readonly learningRate: number;
  /** Training rows of the epochs that are over, each checked to have used every row once. */
  readonly ledgerRows: number;
}

/** What a run knows of a trial. */
export interface TrialFigures extends TrialProgress {
  readonly status: TrialStatus;
  /** Since this process began. */
  readonly counted: { readonly steps: number; readonly rows: number };
  /** `writtenAt`: milliseconds since the epoch. */
  readonly checkpoints: { readonly count: number; readonly bytes: number; readonly writtenAt: number };
}

/** What is known of a run at this moment. */
export interface RunFigures {
  readonly status: RunStatus;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** 0 to 1, in steps and evaluations. */
  readonly progress: number;
  /** Null before anything is known, and when it is over. */
  readonly etaSeconds: number | null;
  /** Over all steps of this process. */
  readonly imagesPerSecond: number;
  /** Workers that it wants; none when it is over. */
  readonly workersWanted: number;
  readonly leases: Readonly<LeaseCounts>;
  /** Tasks that were run again because their thread died. */
  readonly died: number;
  /** Answers that came too late to count. */
  readonly late: number;
  readonly trials: readonly TrialFigures[];
}
