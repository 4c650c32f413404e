import { rateOrZero, WORKER } from './queries.js';
import { stat, table, timeseries, type DashboardSpec } from './spec.js';

/** Who computes, who is slow, who has gone. */
export const workers: DashboardSpec = {
  uid: 'atelier-workers',
  title: 'Atelier / Workers',
  description:
    'The workers of a coordinator: who is there, who is slow, who came and went, what they hold in memory.',
  variables: ['worker'],
  rows: [
    {
      title: 'Who is there',
      panels: [
        stat({
          title: 'Ready',
          description: 'Workers that compute or could.',
          unit: 'none',
          thresholds: [
            { from: null, color: 'red' },
            { from: 1, color: 'green' },
          ],
          queries: [{ expr: 'max(atelier_workers{state="ready"}) or vector(0)', legend: 'ready' }],
        }),
        stat({
          title: 'Wanted',
          description: 'How many workers the coordinator wants. An autoscaler reads the same figure.',
          unit: 'none',
          queries: [{ expr: 'max(atelier_workers_desired) or vector(0)', legend: 'desired' }],
        }),
        stat({
          title: 'Lost',
          description: 'Workers that are remembered but not connected. They may come back.',
          unit: 'none',
          thresholds: [
            { from: null, color: 'green' },
            { from: 1, color: 'red' },
          ],
          queries: [{ expr: 'max(atelier_workers{state="lost"}) or vector(0)', legend: 'lost' }],
        }),
        stat({
          title: 'Longest silence',
          description: 'Since the last frame of a worker. At 15 s the coordinator takes it for dead.',
          unit: 's',
          thresholds: [
            { from: null, color: 'green' },
            { from: 5, color: 'orange' },
            { from: 10, color: 'red' },
          ],
          queries: [{ expr: 'max(atelier_worker_heartbeat_age_seconds) or vector(0)', legend: 'silence' }],
        }),
        stat({
          title: 'Slots',
          description: 'Compute threads of all workers.',
          unit: 'none',
          queries: [{ expr: 'sum(max by (state) (atelier_slots)) or vector(0)', legend: 'slots' }],
        }),
        stat({
          title: 'Slowest worker',
          description:
            'Its rows a second, relative to the median. Under a half: a straggler, the others wait for it.',
          unit: 'percentunit',
          thresholds: [
            { from: null, color: 'red' },
            { from: 0.5, color: 'orange' },
            { from: 0.8, color: 'green' },
          ],
          queries: [
            {
              expr: 'min(max by (worker) (atelier_worker_rows_per_second)) / clamp_min(quantile(0.5, max by (worker) (atelier_worker_rows_per_second)), 1)',
              legend: 'of the median',
            },
          ],
        }),
        timeseries({
          title: 'Workers by state',
          description: 'Joining: getting ready; leaving: finishing what it owes; lost: not connected.',
          unit: 'none',
          stacked: true,
          min: 0,
          queries: [{ expr: 'max by (state) (atelier_workers)', legend: '{{state}}' }],
        }),
        timeseries({
          title: 'Comings and goings',
          description:
            'Joins and leaves a second, by reason. Many: a network that breaks, or a queue that takes machines away.',
          unit: 'ops',
          min: 0,
          queries: [
            {
              expr: 'sum(rate(atelier_worker_joins_total[$__rate_interval])) or vector(0)',
              legend: 'joined',
            },
            { expr: rateOrZero('reason', 'atelier_worker_leaves_total'), legend: 'left {{reason}}' },
          ],
        }),
      ],
    },
    {
      title: 'Who is slow',
      panels: [
        table({
          title: 'Workers',
          description: 'One line a worker. The slowest and the most silent are worth a look.',
          unit: 'none',
          queries: [
            {
              expr: `max by (worker) (atelier_worker_rows_per_second{${WORKER}})`,
              legend: 'Rows per second',
              unit: 'rows/s',
            },
            {
              expr: `max by (worker) (atelier_slot_busy_ratio{${WORKER}})`,
              legend: 'Slots at work',
              unit: 'percentunit',
            },
            { expr: `max by (worker) (atelier_worker_slots{${WORKER}})`, legend: 'Slots' },
            { expr: `max by (worker) (atelier_worker_leases{${WORKER}})`, legend: 'Units it owes' },
            {
              expr: `max by (worker) (atelier_worker_rows_total{${WORKER}})`,
              legend: 'Rows in all',
              unit: 'short',
            },
            {
              expr: `max by (worker) (atelier_worker_heartbeat_age_seconds{${WORKER}})`,
              legend: 'Silence',
              unit: 's',
            },
            {
              expr: `max by (worker) (atelier_worker_event_loop_lag_seconds{${WORKER}})`,
              legend: 'Event loop lag',
              unit: 's',
            },
            {
              expr: `max by (worker) (atelier_socket_buffered_bytes{${WORKER}})`,
              legend: 'Waits to be sent',
              unit: 'bytes',
            },
            {
              expr: `max by (worker) (atelier_worker_tensor_bytes{${WORKER}})`,
              legend: 'Tensors',
              unit: 'bytes',
            },
          ],
        }),
        timeseries({
          title: 'Rows per second',
          description: 'By worker. One far below the others: another program on its machine, or heat.',
          unit: 'rows/s',
          min: 0,
          queries: [
            { expr: `max by (worker) (atelier_worker_rows_per_second{${WORKER}})`, legend: '{{worker}}' },
          ],
        }),
        timeseries({
          title: 'Slots at work',
          description: 'Share of the time in which the slots of a worker computed.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: [{ expr: `max by (worker) (atelier_slot_busy_ratio{${WORKER}})`, legend: '{{worker}}' }],
        }),
        timeseries({
          title: 'Silence',
          description:
            'Seconds since the last frame of each worker. Above 2 s: its machine or the network is in trouble.',
          unit: 's',
          min: 0,
          queries: [
            {
              expr: `max by (worker) (atelier_worker_heartbeat_age_seconds{${WORKER}})`,
              legend: '{{worker}}',
            },
          ],
        }),
        timeseries({
          title: 'Slots and demand',
          description: 'Idle slots while demand is above those at work: the coordinator cannot keep up.',
          unit: 'none',
          min: 0,
          queries: [
            { expr: 'max by (state) (atelier_slots)', legend: '{{state}}' },
            { expr: 'max(atelier_slots_demand)', legend: 'demand' },
          ],
        }),
      ],
    },
    {
      title: 'Inside',
      panels: [
        table({
          title: 'Versions',
          description:
            'What each worker runs. All workers of a run should be alike: others may give other bits.',
          unit: 'none',
          height: 6,
          queries: [
            {
              expr: `max by (worker, version, node, tensorflow) (atelier_worker_info{${WORKER}})`,
              legend: 'Running',
            },
          ],
        }),
        timeseries({
          title: 'Memory',
          description:
            'Resident memory of each worker. Growing without end: a leak; at the limit of its container it is killed.',
          unit: 'bytes',
          min: 0,
          queries: [
            {
              expr: `max by (worker) (atelier_worker_resident_memory_bytes{${WORKER}})`,
              legend: '{{worker}}',
            },
          ],
        }),
        timeseries({
          title: 'Tensors',
          description: 'Tensors that a worker holds. Growing without end: a leak.',
          unit: 'none',
          min: 0,
          queries: [{ expr: `max by (worker) (atelier_worker_tensors{${WORKER}})`, legend: '{{worker}}' }],
        }),
        timeseries({
          title: 'Bytes of tensors',
          description: 'Memory of the tensors that a worker holds.',
          unit: 'bytes',
          min: 0,
          queries: [
            { expr: `max by (worker) (atelier_worker_tensor_bytes{${WORKER}})`, legend: '{{worker}}' },
          ],
        }),
        timeseries({
          title: 'Event loop lag',
          description: 'How late the socket thread of a worker is. Heartbeats come from there.',
          unit: 's',
          min: 0,
          queries: [
            {
              expr: `max by (worker) (atelier_worker_event_loop_lag_seconds{${WORKER}})`,
              legend: '{{worker}}',
            },
          ],
        }),
      ],
    },
  ],
};
