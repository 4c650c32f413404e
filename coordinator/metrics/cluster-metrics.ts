import type { Counts } from '../../shared/counts.js';
import type { Definition } from '../../shared/metrics/metrics.js';
import { WORKER_STATES, type ClusterFigures, type WorkerFigures } from '../cluster-figures.js';
import { LOGIN_REFUSALS, type LoginRefusal } from '../security/admission.js';
import { REJECTIONS, type Traffic } from '../traffic.js';
import { labelOf, workerLabels } from './labels.js';

/** Workers and their connections, as they are shown. */
export interface ShownCluster {
  readonly figures: ClusterFigures;
  readonly traffic: Traffic;
  readonly logins: Counts<LoginRefusal>;
  /** The most that any run wants. */
  readonly workersWanted: number;
}

type Metric = Definition<ShownCluster>;

/** One series for each worker; null leaves it out. */
function ofWorker(
  name: string,
  help: string,
  value: (worker: WorkerFigures) => number | null | undefined,
  type: 'gauge' | 'counter' = 'gauge',
): Metric {
  return {
    ...{ name, type, help, labels: ['worker'] },
    read: ({ figures: { workers } }, set) => {
      const labels = workerLabels(workers);
      workers.forEach((worker, i) => {
        const figure = value(worker);
        if (figure !== null && figure !== undefined) set(figure, labels[i] ?? '');
      });
    },
  };
}

const isHere = ({ state }: WorkerFigures): boolean => state !== 'lost';

export const CLUSTER_METRICS: readonly Metric[] = [
  {
    name: 'workers',
    type: 'gauge',
    help: 'Workers by state; lost ones are counted for five minutes, or until they are back.',
    labels: ['state'],
    read: ({ figures: { workers } }, set) => {
      for (const state of WORKER_STATES)
        set(workers.filter((worker) => worker.state === state).length, state);
    },
  },
  {
    name: 'workers_desired',
    type: 'gauge',
    help: 'Workers that a run in work wants; of several runs the most.',
    read: ({ workersWanted }, set) => set(workersWanted),
  },
  {
    name: 'slots',
    type: 'gauge',
    help: 'Slots of workers that are ready: busy ones hold a lease.',
    labels: ['state'],
    read: ({ figures: { slots } }, set) => {
      set(slots.busy, 'busy');
      set(slots.idle, 'idle');
    },
  },
  {
    name: 'slots_demand',
    type: 'gauge',
    help: 'Units of open rounds that no slot holds: slots that would have work if they were there.',
    read: ({ figures: { demand } }, set) => set(demand),
  },
  {
    name: 'worker_joins_total',
    type: 'counter',
    help: 'Workers that joined or came back.',
    read: ({ figures: { joins } }, set) => set(joins),
  },
  {
    name: 'worker_leaves_total',
    type: 'counter',
    help: 'Workers whose connection ended before the run, by why.',
    labels: ['reason'],
    read: ({ figures: { leaves } }, set) => {
      for (const [reason, count] of leaves) set(count, reason);
    },
  },
  ofWorker(
    'worker_heartbeat_age_seconds',
    'Since the last frame of the worker; lost workers are shown for five minutes.',
    ({ silentMs }) => Math.max(0, silentMs) / 1000,
  ),
  ofWorker('worker_slots', 'Slots of the worker.', (worker) => (isHere(worker) ? worker.slots : null)),
  ofWorker('worker_leases', 'Units that the worker owes.', (worker) =>
    isHere(worker) ? worker.owedUnits : null,
  ),
  ofWorker('socket_buffered_bytes', 'Waiting to be sent to the worker.', (worker) =>
    isHere(worker) ? worker.bufferedBytes : null,
  ),
  {
    name: 'worker_info',
    type: 'gauge',
    help: 'Always 1: the versions of a worker.',
    labels: ['worker', 'version', 'node', 'tensorflow'],
    read: ({ figures: { workers } }, set) => {
      const labels = workerLabels(workers);
      workers.forEach(({ versions }, i) =>
        set(
          1,
          labels[i] ?? '',
          labelOf(versions.atelier),
          labelOf(versions.node),
          labelOf(versions.tensorflow),
        ),
      );
    },
  },
  ofWorker(
    'slot_busy_ratio',
    'Part of the latest two seconds in which the slots of the worker computed, 0 to 1.',
    ({ report }) => report?.busyRatio,
  ),
  ofWorker(
    'worker_rows_per_second',
    'Training rows that the worker computed, a second, in the latest two seconds.',
    ({ report }) => report?.rowsPerSecond,
  ),
  ofWorker(
    'worker_rows_total',
    'Training rows that the worker computed since it started.',
    ({ report }) => report?.rows,
    'counter',
  ),
  ofWorker('worker_tensors', 'Tensors that the slots of the worker hold.', ({ report }) => report?.tensors),
  ofWorker(
    'worker_tensor_bytes',
    'Bytes of the tensors of the worker that tfjs keeps account of.',
    ({ report }) => report?.tensorBytes,
  ),
  ofWorker(
    'worker_event_loop_lag_seconds',
    '99th percentile of the delay of the thread that holds the socket of the worker, of the latest seconds.',
    ({ report }) => report && report.eventLoopLagMs / 1000,
  ),
  ofWorker(
    'worker_resident_memory_bytes',
    'Resident memory of the process of the worker.',
    ({ report }) => report?.residentBytes,
  ),
  {
    name: 'bytes_total',
    type: 'counter',
    help: 'Bytes of frames between coordinator and workers, by direction as the coordinator sees it.',
    labels: ['direction', 'type'],
    read: ({ traffic }, set) => {
      for (const direction of ['in', 'out'] as const)
        for (const [type, bytes] of traffic[direction].bytes.entries()) set(bytes, direction, type);
    },
  },
  {
    name: 'frames_total',
    type: 'counter',
    help: 'Frames between coordinator and workers, by direction as the coordinator sees it.',
    labels: ['direction', 'type'],
    read: ({ traffic }, set) => {
      for (const direction of ['in', 'out'] as const)
        for (const [type, frames] of traffic[direction].frames.entries()) set(frames, direction, type);
    },
  },
  {
    name: 'frames_rejected_total',
    type: 'counter',
    help: 'Frames that were not taken and ended their connection.',
    labels: ['reason'],
    read: ({ traffic }, set) => {
      for (const reason of REJECTIONS) set(traffic.rejected.of(reason), reason);
    },
  },
  {
    name: 'logins_refused_total',
    type: 'counter',
    help: 'Requests that were not let in.',
    labels: ['reason'],
    read: ({ logins }, set) => {
      for (const reason of LOGIN_REFUSALS) set(logins.of(reason), reason);
    },
  },
];
