import { rate, rateOrZero, WORKER } from './queries.js';
import { stat, table, timeseries, type DashboardSpec } from './spec.js';

/** What goes over the wire, who was turned away, and how the coordinator itself is. */
export const network: DashboardSpec = {
  uid: 'atelier-network',
  title: 'Atelier / Network and security',
  description:
    'Bytes and frames by type, what waits to be sent, refused frames and logins, the coordinator process.',
  variables: ['worker'],
  rows: [
    {
      title: 'Network',
      panels: [
        timeseries({
          title: 'Bytes in',
          description: 'What workers send, by type of message. Gradients (partial) should be most of it.',
          unit: 'Bps',
          stacked: true,
          min: 0,
          queries: [{ expr: rate('type', 'atelier_bytes_total{direction="in"}'), legend: '{{type}}' }],
        }),
        timeseries({
          title: 'Bytes out',
          description:
            'What the coordinator sends, by type of message. Parameters (round) should be most of it.',
          unit: 'Bps',
          stacked: true,
          min: 0,
          queries: [{ expr: rate('type', 'atelier_bytes_total{direction="out"}'), legend: '{{type}}' }],
        }),
        timeseries({
          title: 'Frames',
          description: 'Messages a second by direction and type.',
          unit: 'ops',
          min: 0,
          queries: [
            { expr: rate('direction, type', 'atelier_frames_total'), legend: '{{direction}} {{type}}' },
          ],
        }),
        timeseries({
          title: 'Waits to be sent',
          description:
            'Bytes in the socket buffer of each worker. Growing: its line is slower than the training.',
          unit: 'bytes',
          min: 0,
          queries: [
            { expr: `max by (worker) (atelier_socket_buffered_bytes{${WORKER}})`, legend: '{{worker}}' },
          ],
        }),
      ],
    },
    {
      title: 'Security',
      panels: [
        stat({
          title: 'Logins refused in the last hour',
          description: 'Wrong, expired or revoked tokens. Many: somebody tries, or a token has run out.',
          unit: 'none',
          width: 6,
          thresholds: [
            { from: null, color: 'green' },
            { from: 1, color: 'orange' },
            { from: 20, color: 'red' },
          ],
          queries: [
            { expr: 'sum(increase(atelier_logins_refused_total[1h])) or vector(0)', legend: 'logins' },
          ],
        }),
        stat({
          title: 'Frames rejected in the last hour',
          description: 'Frames that break the protocol; each ends its connection.',
          unit: 'none',
          width: 6,
          thresholds: [
            { from: null, color: 'green' },
            { from: 1, color: 'red' },
          ],
          queries: [
            { expr: 'sum(increase(atelier_frames_rejected_total[1h])) or vector(0)', legend: 'frames' },
          ],
        }),
        timeseries({
          title: 'Refused',
          description: 'Logins and frames a second, by reason.',
          unit: 'ops',
          min: 0,
          queries: [
            { expr: rateOrZero('reason', 'atelier_logins_refused_total'), legend: 'login: {{reason}}' },
            { expr: rateOrZero('reason', 'atelier_frames_rejected_total'), legend: 'frame: {{reason}}' },
          ],
        }),
      ],
    },
    {
      title: 'The coordinator',
      panels: [
        table({
          title: 'What runs',
          description: 'Versions of Atelier, Node and TensorFlow. All workers of a run should be alike.',
          unit: 'none',
          height: 6,
          queries: [{ expr: 'max by (version, node, tensorflow) (atelier_build_info)', legend: 'Running' }],
        }),
        timeseries({
          title: 'Event loop lag',
          description: 'How late the coordinator is. Above 100 ms workers wait for it.',
          unit: 's',
          width: 8,
          min: 0,
          queries: [{ expr: 'max by (process) (atelier_event_loop_lag_seconds)', legend: '{{process}}' }],
        }),
        timeseries({
          title: 'Memory',
          description: 'Resident memory and heap of each process that is scraped.',
          unit: 'bytes',
          width: 8,
          min: 0,
          queries: [
            {
              expr: 'max by (instance) (atelier_process_resident_memory_bytes)',
              legend: '{{instance}} resident',
            },
            { expr: 'max by (instance) (atelier_nodejs_heap_size_used_bytes)', legend: '{{instance}} heap' },
          ],
        }),
        timeseries({
          title: 'Processor',
          description: 'Seconds of processor time a second. At 1 the main thread of a coordinator is full.',
          unit: 'none',
          width: 8,
          min: 0,
          queries: [{ expr: rate('instance', 'atelier_process_cpu_seconds_total'), legend: '{{instance}}' }],
        }),
        timeseries({
          title: 'Free disk space',
          description: 'Where the runs are. A full disk stops a run; its checkpoints are safe.',
          unit: 'bytes',
          width: 24,
          height: 6,
          min: 0,
          queries: [{ expr: 'min by (instance) (atelier_disk_free_bytes)', legend: '{{instance}}' }],
        }),
      ],
    },
  ],
};
