import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How often the delay is sampled. Each time wakes the thread, which takes 0.06 ms of a core that computes. */
const RESOLUTION_MS = 100;
/** What is reported is of the latest one to two of these. */
const WINDOW_MS = 10_000;
const PERCENTILE = 99;
const NS_PER_MS = 1e6;

/** How late this thread is with what is due: the 99th percentile of the latest seconds. Anyone may ask at any time. */
export class EventLoopLag {
  private readonly histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  private windowStart = performance.now();
  private before = 0;

  constructor() {
    this.histogram.enable();
  }

  get milliseconds(): number {
    const current = this.histogram.count === 0 ? 0 : this.histogram.percentile(PERCENTILE) / NS_PER_MS;
    // The histogram holds the time between two samples.
    const lag = Math.max(0, current - RESOLUTION_MS);
    const value = Math.max(lag, this.before);
    if (performance.now() - this.windowStart > WINDOW_MS) {
      this.windowStart = performance.now();
      this.before = lag;
      this.histogram.reset();
    }
    return value;
  }

  stop(): void {
    this.histogram.disable();
  }
}
