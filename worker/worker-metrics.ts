import { Gauge } from 'prom-client';
import {
  exposition,
  METRIC_PREFIX,
  MetricTable,
  processRegistry,
  type Definition,
  type Exposition,
} from '../shared/metrics/metrics.js';
import type { WorkerFigures } from './worker-figures.js';

/*
 * A worker's own metrics. Their names differ from those by which the coordinator shows the same worker: who scrapes both
 * must not count it twice.
 */
const METRICS: readonly Definition<WorkerFigures>[] = [
  {
    name: 'pool_slots',
    type: 'gauge',
    help: 'Slots of this worker, by whether they compute at this moment.',
    labels: ['state'],
    read: ({ usage: { slots, busySlots } }, set) => {
      set(busySlots, 'busy');
      set(slots - busySlots, 'idle');
    },
  },
  {
    name: 'pool_compute_seconds_total',
    type: 'counter',
    help: 'Time that the slots of this worker computed, summed over them.',
    read: ({ usage }, set) => set(usage.computeMs / 1000),
  },
  {
    name: 'pool_rows_total',
    type: 'counter',
    help: 'Training rows that this worker computed since it started.',
    read: ({ usage }, set) => set(usage.rows),
  },
  {
    name: 'pool_tensors',
    type: 'gauge',
    help: 'Tensors that the slots of this worker hold.',
    read: ({ usage }, set) => set(usage.tensors),
  },
  {
    name: 'pool_tensor_bytes',
    type: 'gauge',
    help: 'Bytes of the tensors of this worker that tfjs keeps account of.',
    read: ({ usage }, set) => set(usage.tensorBytes),
  },
];

/** The page of metrics that a worker serves itself. */
export class WorkerMetrics {
  private readonly registry = processRegistry();
  private readonly table = new MetricTable(this.registry, METRICS);
  private readonly figures: WorkerFigures;
  private readonly lag = new Gauge({
    name: `${METRIC_PREFIX}event_loop_lag_seconds`,
    help: '99th percentile of the delay of the main thread of the process, of the latest seconds.',
    labelNames: ['process'],
    registers: [this.registry],
  });

  constructor(figures: WorkerFigures) {
    this.figures = figures;
  }

  render(): Promise<Exposition> {
    this.table.read([this.figures]);
    this.lag.set({ process: 'worker' }, this.figures.eventLoopLagMs / 1000);
    return exposition(this.registry);
  }
}
