import { rate, rateOrZero, RUN, stateNumber, STATES } from './queries.js';
import { barGauge, stat, states, table, timeseries, type DashboardSpec } from './spec.js';

/** Is it alive, when will it end, is it learning, did anything go wrong? */
export const overview: DashboardSpec = {
  uid: 'atelier-overview',
  title: 'Atelier / Overview',
  description: 'All runs of a coordinator: how far they are, whether they learn, who works for them.',
  variables: ['run'],
  rows: [
    {
      title: 'At a glance',
      panels: [
        stat({
          title: 'Runs going on',
          description: 'Runs that train or wait for workers.',
          unit: 'none',
          queries: [
            {
              expr: `sum(max by (run, status) (atelier_run_status{${RUN},status=~"queued|waiting|running"})) or vector(0)`,
              legend: 'runs',
            },
          ],
        }),
        stat({
          title: 'Time left',
          description: 'Until the last of the chosen runs ends, by the speed of now.',
          unit: 's',
          queries: [{ expr: `max(atelier_run_eta_seconds{${RUN}}) or vector(0)`, legend: 'left' }],
        }),
        stat({
          title: 'Images per second',
          description:
            'Training rows that steps have used, over all chosen runs. What a cluster is bought for.',
          unit: 'images/s',
          queries: [
            { expr: `sum(max by (run) (atelier_images_per_second{${RUN}})) or vector(0)`, legend: 'images' },
          ],
        }),
        stat({
          title: 'Workers ready',
          description:
            'Workers that compute or could. Compare with the workers wanted: see the dashboard Workers.',
          unit: 'none',
          thresholds: [
            { from: null, color: 'red' },
            { from: 1, color: 'green' },
          ],
          queries: [{ expr: 'max(atelier_workers{state="ready"}) or vector(0)', legend: 'ready' }],
        }),
        stat({
          title: 'Slots at work',
          description:
            'Share of the slots that compute. Low while work waits: the network or the coordinator is slow.',
          unit: 'percentunit',
          queries: [
            {
              expr: 'max(atelier_slots{state="busy"}) / clamp_min(max(atelier_slots{state="busy"}) + max(atelier_slots{state="idle"}), 1) or vector(0)',
              legend: 'at work',
            },
          ],
        }),
        stat({
          title: 'Lost leases in the last hour',
          description:
            'Parts of steps that were computed again because their worker died, stalled or was late.',
          unit: 'none',
          thresholds: [
            { from: null, color: 'green' },
            { from: 1, color: 'orange' },
            { from: 100, color: 'red' },
          ],
          queries: [
            { expr: `sum(increase(atelier_lease_retries_total{${RUN}}[1h])) or vector(0)`, legend: 'leases' },
          ],
        }),
      ],
    },
    {
      title: 'Runs',
      panels: [
        table({
          title: 'Runs',
          description: 'One line a run. Images per second and time left are of runs that go on.',
          unit: 'none',
          queries: [
            { expr: stateNumber('run', 'atelier_run_status', RUN), legend: 'State', states: STATES },
            {
              expr: `max by (run) (atelier_run_progress_ratio{${RUN}})`,
              legend: 'Progress',
              unit: 'percentunit',
            },
            { expr: `max by (run) (atelier_run_eta_seconds{${RUN}})`, legend: 'Time left', unit: 's' },
            {
              expr: `max by (run) (atelier_images_per_second{${RUN}})`,
              legend: 'Images per second',
              unit: 'images/s',
            },
            {
              expr: `avg by (run) (max by (run, trial) (atelier_trial_accuracy{${RUN},split="validation"}))`,
              legend: 'Validation accuracy',
              unit: 'percentunit',
            },
            {
              expr: `max by (run) (atelier_run_start_time_seconds{${RUN}}) * 1000`,
              legend: 'Started',
              unit: 'dateTimeFromNow',
            },
          ],
        }),
        barGauge({
          title: 'Progress',
          description: 'Steps and evaluations done of all that the run needs.',
          unit: 'percentunit',
          max: 1,
          queries: [{ expr: `max by (run) (atelier_run_progress_ratio{${RUN}})`, legend: '{{run}}' }],
        }),
        states({
          title: 'State of runs',
          description: 'Waiting means that fewer workers are there than the run wants.',
          unit: 'none',
          states: STATES,
          queries: [{ expr: stateNumber('run', 'atelier_run_status', RUN), legend: '{{run}}' }],
        }),
      ],
    },
    {
      title: 'Learning',
      panels: [
        timeseries({
          title: 'Validation accuracy',
          description: 'Mean over the folds of a run.',
          unit: 'percentunit',
          max: 1,
          queries: [
            {
              expr: `avg by (run) (max by (run, trial) (atelier_trial_accuracy{${RUN},split="validation"}))`,
              legend: '{{run}}',
            },
          ],
        }),
        timeseries({
          title: 'Validation loss',
          description:
            'Mean over the folds of a run. Rising while the training loss falls: the network overfits.',
          unit: 'none',
          queries: [
            {
              expr: `avg by (run) (max by (run, trial) (atelier_trial_loss{${RUN},split="validation"}))`,
              legend: '{{run}}',
            },
          ],
        }),
      ],
    },
    {
      title: 'Speed',
      panels: [
        timeseries({
          title: 'Images per second',
          description:
            'Training rows used by steps, by run. A fall without a lost worker: look for a straggler.',
          unit: 'images/s',
          min: 0,
          queries: [
            { expr: `max by (run) (atelier_images_per_second{${RUN}})`, legend: '{{run}}' },
            { expr: rate('run', `atelier_rows_total{${RUN}}`), legend: '{{run}}, by the row counter' },
          ],
        }),
        timeseries({
          title: 'Slots',
          description:
            'Slots at work and idle, and how many the work that waits could use. Idle slots beside demand are lost speed.',
          unit: 'none',
          min: 0,
          queries: [
            { expr: 'max by (state) (atelier_slots)', legend: '{{state}}' },
            { expr: 'max(atelier_slots_demand)', legend: 'demand' },
          ],
        }),
        timeseries({
          title: 'Workers',
          description: 'Workers by state, and how many the coordinator wants.',
          unit: 'none',
          min: 0,
          queries: [
            { expr: 'max by (state) (atelier_workers)', legend: '{{state}}' },
            { expr: 'max(atelier_workers_desired)', legend: 'desired' },
          ],
        }),
        timeseries({
          title: 'What went wrong',
          description:
            'Leases computed again, answers that came too late, workers that left, frames and logins refused.',
          unit: 'ops',
          min: 0,
          queries: [
            { expr: rateOrZero('reason', `atelier_lease_retries_total{${RUN}}`), legend: 'retry {{reason}}' },
            {
              expr: `sum(rate(atelier_late_partials_total{${RUN}}[$__rate_interval])) or vector(0)`,
              legend: 'late',
            },
            { expr: rateOrZero('reason', 'atelier_worker_leaves_total'), legend: 'left {{reason}}' },
            { expr: rateOrZero('reason', 'atelier_frames_rejected_total'), legend: 'frame {{reason}}' },
            { expr: rateOrZero('reason', 'atelier_logins_refused_total'), legend: 'login {{reason}}' },
          ],
        }),
        timeseries({
          title: 'Alerts that fire',
          description: 'Alerts of deploy/prometheus/rules, by name. Each has a page in docs/runbooks.',
          unit: 'none',
          width: 24,
          height: 5,
          min: 0,
          queries: [
            {
              expr: 'count by (alertname) (ALERTS{alertname=~"Atelier.+",alertstate="firing"}) or vector(0)',
              legend: '{{alertname}}',
            },
          ],
        }),
      ],
    },
  ],
};
