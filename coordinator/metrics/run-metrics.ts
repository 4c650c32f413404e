import type { Definition, SetSeries } from '../../shared/metrics/metrics.js';
import {
  RUN_STATUSES,
  TRIAL_STATUSES,
  type LossAndAccuracy,
  type RunFigures,
  type TrialFigures,
} from '../run-figures.js';
import { trialLabel } from './labels.js';

/** A run as it is shown. */
export interface ShownRun {
  /** Its label. */
  readonly run: string;
  readonly figures: RunFigures;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

type Metric = Definition<ShownRun>;

/** One series for each trial; null leaves it out. */
function ofTrial(
  name: string,
  help: string,
  value: (trial: TrialFigures, shown: ShownRun) => number | null,
  type: 'gauge' | 'counter' = 'gauge',
): Metric {
  return {
    ...{ name, type, help, labels: ['run', 'trial'] },
    read: (shown, set) => {
      for (const trial of shown.figures.trials) {
        const figure = value(trial, shown);
        if (figure !== null) set(figure, shown.run, trialLabel(trial.fold));
      }
    },
  };
}

function bySplit(name: string, help: string, value: (figures: LossAndAccuracy) => number): Metric {
  return {
    ...{ name, type: 'gauge', help, labels: ['run', 'trial', 'split'] },
    read: ({ run, figures }, set) => {
      for (const trial of figures.trials) {
        for (const split of ['train', 'validation', 'test'] as const) {
          const of = trial[split];
          if (of !== null) set(value(of), run, trialLabel(trial.fold), split);
        }
      }
    },
  };
}

const oneOf = (set: SetSeries, all: readonly string[], status: string, ...labels: string[]): void => {
  for (const each of all) set(Number(each === status), ...labels, each);
};

function ofRun(
  name: string,
  help: string,
  value: (figures: RunFigures) => number | null,
  type: 'gauge' | 'counter' = 'gauge',
): Metric {
  return {
    ...{ name, type, help, labels: ['run'] },
    read: ({ run, figures }, set) => {
      const figure = value(figures);
      if (figure !== null) set(figure, run);
    },
  };
}

const isTraining = (trial: TrialFigures): boolean => trial.status === 'running' || trial.status === 'waiting';

export const RUN_METRICS: readonly Metric[] = [
  {
    name: 'run_status',
    type: 'gauge',
    help: 'Where the run stands: 1 for its status, 0 for the others.',
    labels: ['run', 'status'],
    read: ({ run, figures }, set) => oneOf(set, RUN_STATUSES, figures.status, run),
  },
  ofRun(
    'run_progress_ratio',
    'Part of the steps and evaluations of the run that is done, 0 to 1.',
    (run) => run.progress,
  ),
  ofRun('run_eta_seconds', 'Time the run still takes at the speed so far.', (run) => run.etaSeconds),
  ofRun(
    'run_start_time_seconds',
    'When this process began with the run, since the Unix epoch.',
    (run) => run.startedAt / 1000,
  ),
  ofRun(
    'images_per_second',
    'Training rows over the time of training steps, since this process began.',
    (run) => run.imagesPerSecond,
  ),
  ofRun('leases_total', 'Leases given to workers.', (run) => run.leases.leases, 'counter'),
  {
    name: 'lease_retries_total',
    type: 'counter',
    help: 'Units leased or computed again: their holder was lost, was late, or its thread died.',
    labels: ['run', 'reason'],
    read: ({ run, figures: { leases, died } }, set) => {
      set(leases.returned, run, 'lost');
      set(leases.speculated, run, 'late');
      set(died, run, 'died');
    },
  },
  ofRun(
    'speculative_wins_total',
    'Units for which the second lease was faster than the first.',
    (run) => run.leases.wins,
    'counter',
  ),
  ofRun(
    'late_partials_total',
    'Answers dropped because another had come, or their round was over.',
    (run) => run.late,
    'counter',
  ),
  {
    name: 'trial_status',
    type: 'gauge',
    help: 'Where the trial stands: 1 for its status, 0 for the others.',
    labels: ['run', 'trial', 'status'],
    read: ({ run, figures }, set) => {
      for (const { fold, status } of figures.trials)
        oneOf(set, TRIAL_STATUSES, status, run, trialLabel(fold));
    },
  },
  ofTrial('trial_epoch', 'Epochs of the trial that are done.', ({ epochsDone }) => epochsDone),
  ofTrial('trial_epochs', 'Epochs that the trial has at most.', ({ epochs }) => epochs),
  ofTrial(
    'trial_step',
    'Steps of the trial that are done, of all epochs, those before a restart included.',
    ({ stepsDone }) => stepsDone,
  ),
  ofTrial('trial_steps', 'Steps that the trial has at most, of all epochs.', ({ steps }) => steps),
  bySplit(
    'trial_loss',
    'Mean cross-entropy of an example. train: of the epoch in work so far; validation: of the last epoch; NaN: not finite.',
    ({ loss }) => loss,
  ),
  bySplit(
    'trial_accuracy',
    'Part of the examples that is classified correctly, 0 to 1. train: of the epoch in work so far; validation: of the last epoch.',
    ({ accuracy }) => accuracy,
  ),
  ofTrial('trial_learning_rate', 'Learning rate of the next step.', ({ learningRate }) => learningRate),
  ofTrial('steps_total', 'Steps done by this process.', ({ counted }) => counted.steps, 'counter'),
  ofTrial('rows_total', 'Training rows used by this process.', ({ counted }) => counted.rows, 'counter'),
  ofTrial(
    'ledger_rows',
    'Training rows of the epochs that are over, each used exactly once an epoch.',
    ({ ledgerRows }) => ledgerRows,
  ),
  ofTrial(
    'checkpoints_total',
    'Checkpoints written by this process.',
    ({ checkpoints }) => checkpoints.count,
    'counter',
  ),
  ofTrial(
    'checkpoint_age_seconds',
    'Since the last checkpoint, or since the run began; only while the trial trains.',
    (trial, { now }) => (isTraining(trial) ? Math.max(0, now - trial.checkpoints.writtenAt) / 1000 : null),
  ),
  ofTrial('checkpoint_bytes', 'Size of the last checkpoint.', ({ checkpoints }) =>
    checkpoints.count > 0 ? checkpoints.bytes : null,
  ),
];
