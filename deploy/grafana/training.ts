import { mean, quantile, rate, RUN, stateNumber, STATES, TRIAL } from './queries.js';
import { heatmap, stat, states, table, timeseries, type DashboardSpec, type TimeseriesSpec } from './spec.js';

const figure = (metric: 'loss' | 'accuracy', split: string): string =>
  `max by (run, trial) (atelier_trial_${metric}{${TRIAL},split="${split}"})`;

/** One fold beside the next: the same panel for each value of the variable `trial`. */
const ofEachTrial = (metric: 'loss' | 'accuracy', description: string): TimeseriesSpec =>
  timeseries({
    title: `${metric === 'loss' ? 'Loss' : 'Accuracy'} of trial $trial`,
    description,
    unit: metric === 'loss' ? 'none' : 'percentunit',
    repeat: 'trial',
    width: 24,
    height: 7,
    queries: [
      { expr: `max by (run, trial, split) (atelier_trial_${metric}{${TRIAL}})`, legend: '{{split}}' },
    ],
  });

/** The folds of a cross-validation side by side, and where the time of a step goes. */
export const training: DashboardSpec = {
  uid: 'atelier-training',
  title: 'Atelier / Training',
  description: 'One run: its trials (folds) side by side, their curves, the anatomy of a step, checkpoints.',
  variables: ['run', 'trial'],
  oneRun: true,
  rows: [
    {
      title: 'The run',
      panels: [
        stat({
          title: 'Progress',
          description: 'Steps and evaluations done of all that the run needs.',
          unit: 'percentunit',
          queries: [{ expr: `max(atelier_run_progress_ratio{${RUN}})`, legend: 'done' }],
        }),
        stat({
          title: 'Time left',
          description: 'By the speed of now. 0 when the run is over.',
          unit: 's',
          queries: [{ expr: `max(atelier_run_eta_seconds{${RUN}}) or vector(0)`, legend: 'left' }],
        }),
        stat({
          title: 'Images per second',
          description: 'Training rows that the steps of all trials used.',
          unit: 'images/s',
          queries: [{ expr: `sum(max by (run) (atelier_images_per_second{${RUN}}))`, legend: 'images' }],
        }),
        stat({
          title: 'Validation accuracy, mean',
          description: 'Over the trials shown, after the last epoch of each.',
          unit: 'percentunit',
          queries: [{ expr: `avg(${figure('accuracy', 'validation')})`, legend: 'mean' }],
        }),
        stat({
          title: 'Validation accuracy, spread',
          description:
            'Standard deviation over the trials shown. report.html has the interval that allows for rows which folds share.',
          unit: 'percentunit',
          queries: [{ expr: `stddev(${figure('accuracy', 'validation')})`, legend: 'standard deviation' }],
        }),
        stat({
          title: 'Oldest checkpoint',
          description:
            'How much work of a trial would be lost if the coordinator died now; 0 when no trial trains.',
          unit: 's',
          queries: [{ expr: `max(atelier_checkpoint_age_seconds{${TRIAL}}) or vector(0)`, legend: 'age' }],
        }),
      ],
    },
    {
      title: 'All trials in one',
      panels: [
        timeseries({
          title: 'Loss in training',
          description: 'Mean of an example over the epoch so far. One that leaves the others has diverged.',
          unit: 'none',
          queries: [{ expr: figure('loss', 'train'), legend: 'trial {{trial}}' }],
        }),
        timeseries({
          title: 'Loss in validation',
          description: 'On rows that the trial never trains on. Rising while training falls: it overfits.',
          unit: 'none',
          queries: [{ expr: figure('loss', 'validation'), legend: 'trial {{trial}}' }],
        }),
        timeseries({
          title: 'Accuracy in training',
          description: 'Share of examples that were right, over the epoch so far.',
          unit: 'percentunit',
          max: 1,
          queries: [{ expr: figure('accuracy', 'train'), legend: 'trial {{trial}}' }],
        }),
        timeseries({
          title: 'Accuracy in validation',
          description: 'On rows that the trial never trains on, after each epoch.',
          unit: 'percentunit',
          max: 1,
          queries: [{ expr: figure('accuracy', 'validation'), legend: 'trial {{trial}}' }],
        }),
        table({
          title: 'Trials',
          description: 'Where each trial is, and how good it is.',
          unit: 'none',
          queries: [
            { expr: stateNumber('trial', 'atelier_trial_status', TRIAL), legend: 'State', states: STATES },
            { expr: `max by (trial) (atelier_trial_epoch{${TRIAL}})`, legend: 'Epochs done' },
            { expr: `max by (trial) (atelier_trial_epochs{${TRIAL}})`, legend: 'Epochs' },
            { expr: `max by (trial) (atelier_trial_step{${TRIAL}})`, legend: 'Steps done' },
            { expr: `max by (trial) (atelier_trial_steps{${TRIAL}})`, legend: 'Steps' },
            { expr: `max by (trial) (atelier_trial_loss{${TRIAL},split="train"})`, legend: 'Loss' },
            {
              expr: `max by (trial) (atelier_trial_loss{${TRIAL},split="validation"})`,
              legend: 'Validation loss',
            },
            {
              expr: `max by (trial) (atelier_trial_accuracy{${TRIAL},split="validation"})`,
              legend: 'Validation accuracy',
              unit: 'percentunit',
            },
            { expr: `max by (trial) (atelier_ledger_rows{${TRIAL}})`, legend: 'Rows in the ledger' },
          ],
        }),
        states({
          title: 'State of trials',
          description: 'With --fold-concurrency trials wait for others.',
          unit: 'none',
          states: STATES,
          queries: [{ expr: stateNumber('trial', 'atelier_trial_status', TRIAL), legend: 'trial {{trial}}' }],
        }),
        timeseries({
          title: 'Learning rate',
          description: 'What the schedule says of the next step.',
          unit: 'short',
          queries: [
            { expr: `max by (trial) (atelier_trial_learning_rate{${TRIAL}})`, legend: 'trial {{trial}}' },
          ],
        }),
      ],
    },
    {
      title: 'Folds side by side: loss',
      panels: [ofEachTrial('loss', 'Training, validation and test loss of one trial.')],
    },
    {
      title: 'Folds side by side: accuracy',
      panels: [ofEachTrial('accuracy', 'Training, validation and test accuracy of one trial.')],
    },
    {
      title: 'Steps',
      panels: [
        timeseries({
          title: 'Where the time of a step goes',
          description:
            'Mean seconds of a step by phase. compute: slots at work; wait: for the last partial; reduce, optimizer: the coordinator; broadcast: parameters on their way.',
          unit: 's',
          stacked: true,
          min: 0,
          queries: [
            {
              expr: mean('phase', 'atelier_step_seconds', `${RUN},phase!="total"`),
              legend: '{{phase}}',
            },
          ],
        }),
        timeseries({
          title: 'Time of a step',
          description:
            'From its beginning to the updated parameters. A 99th percentile far above the median: stragglers.',
          unit: 's',
          min: 0,
          queries: [0.5, 0.95, 0.99].map((q) => ({
            expr: quantile(q, '', 'atelier_step_seconds', `${RUN},phase="total"`),
            legend: `p${q * 100}`,
          })),
        }),
        heatmap({
          title: 'Steps by their time',
          description: 'How many steps took how long.',
          unit: 's',
          queries: [
            { expr: rate('le', `atelier_step_seconds_bucket{${RUN},phase="total"}`), legend: '{{le}}' },
          ],
        }),
        timeseries({
          title: 'Steps per second',
          description: 'By trial. Trials share the slots, so that all end together.',
          unit: 'steps/s',
          min: 0,
          queries: [{ expr: rate('trial', `atelier_steps_total{${TRIAL}}`), legend: 'trial {{trial}}' }],
        }),
        timeseries({
          title: 'Rows per second',
          description: 'Training rows used by steps, by trial.',
          unit: 'rows/s',
          stacked: true,
          min: 0,
          queries: [{ expr: rate('trial', `atelier_rows_total{${TRIAL}}`), legend: 'trial {{trial}}' }],
        }),
        timeseries({
          title: 'Leases',
          description:
            'Leases a second, those computed again, second leases that won, answers that came too late.',
          unit: 'ops',
          min: 0,
          queries: [
            { expr: `sum(rate(atelier_leases_total{${RUN}}[$__rate_interval]))`, legend: 'leases' },
            {
              expr: `sum by (reason) (rate(atelier_lease_retries_total{${RUN}}[$__rate_interval])) or vector(0)`,
              legend: 'again {{reason}}',
            },
            {
              expr: `sum(rate(atelier_speculative_wins_total{${RUN}}[$__rate_interval])) or vector(0)`,
              legend: 'second lease won',
            },
            {
              expr: `sum(rate(atelier_late_partials_total{${RUN}}[$__rate_interval])) or vector(0)`,
              legend: 'late',
            },
          ],
        }),
      ],
    },
    {
      title: 'Checkpoints',
      panels: [
        timeseries({
          title: 'Age of the newest checkpoint',
          description:
            'By trial: what a resumed run would compute again. Growing without end: the disk is full or slow.',
          unit: 's',
          width: 8,
          min: 0,
          queries: [
            { expr: `max by (trial) (atelier_checkpoint_age_seconds{${TRIAL}})`, legend: 'trial {{trial}}' },
          ],
        }),
        timeseries({
          title: 'Size of a checkpoint',
          description: 'Parameters, optimizer and position of one trial.',
          unit: 'bytes',
          width: 8,
          min: 0,
          queries: [
            { expr: `max by (trial) (atelier_checkpoint_bytes{${TRIAL}})`, legend: 'trial {{trial}}' },
          ],
        }),
        timeseries({
          title: 'Time to write a checkpoint',
          description: 'Beside the training, which does not wait for it. Seconds: a slow disk.',
          unit: 's',
          width: 8,
          min: 0,
          queries: [
            { expr: quantile(0.95, '', 'atelier_checkpoint_seconds', RUN), legend: 'p95' },
            { expr: mean('run', 'atelier_checkpoint_seconds', RUN), legend: 'mean' },
          ],
        }),
        timeseries({
          title: 'Checkpoints written',
          description: 'Since the coordinator began, by trial.',
          unit: 'none',
          width: 24,
          height: 6,
          min: 0,
          queries: [
            { expr: `max by (trial) (atelier_checkpoints_total{${TRIAL}})`, legend: 'trial {{trial}}' },
          ],
        }),
      ],
    },
  ],
};
