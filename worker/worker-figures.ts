import type { WorkerReport } from '../shared/protocol/messages.js';
import { EventLoopLag } from '../shared/metrics/event-loop-lag.js';

/** What a compute pool has done and holds. */
export interface PoolUsage {
  readonly slots: number;
  readonly busySlots: number;
  /** Time that slots computed, summed over them, since the pool was made. */
  readonly computeMs: number;
  /** Training rows whose gradients were computed. */
  readonly rows: number;
  readonly tensors: number;
  readonly tensorBytes: number;
}

/** How a worker does: read by its session for the coordinator, and by its own page of metrics. */
export class WorkerFigures {
  private readonly read: () => PoolUsage;
  private readonly now: () => number;
  private readonly lag = new EventLoopLag();
  /** Where this worker serves metrics itself, if it does. */
  metrics: WorkerReport['metrics'] = null;
  private last: { readonly at: number; readonly rows: number; readonly computeMs: number };

  /** @param now milliseconds */
  constructor(usage: () => PoolUsage, now = () => performance.now()) {
    this.read = usage;
    this.now = now;
    this.last = { at: now(), rows: 0, computeMs: 0 };
  }

  get usage(): PoolUsage {
    return this.read();
  }

  get eventLoopLagMs(): number {
    return this.lag.milliseconds;
  }

  /** For the coordinator; rates are of the time since the report before. */
  report(): WorkerReport {
    const { slots, busySlots, computeMs, rows, tensors, tensorBytes } = this.read();
    const at = this.now();
    const elapsedMs = Math.max(1, at - this.last.at);
    const busyMs = computeMs - this.last.computeMs;
    const rowsPerSecond = ((rows - this.last.rows) / elapsedMs) * 1000;
    this.last = { at, rows, computeMs };
    return {
      ...{ tensors, tensorBytes, busySlots, rows, rowsPerSecond, metrics: this.metrics },
      eventLoopLagMs: this.lag.milliseconds,
      // A task counts when it is over: what began before the report before may be more than all of the time.
      busyRatio: Math.min(1, busyMs / (elapsedMs * slots)),
      residentBytes: process.memoryUsage.rss(),
    };
  }

  close(): void {
    this.lag.stop();
  }
}
