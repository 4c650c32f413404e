/** Step durations kept for percentiles: the newest of these. */
const MAX_SAMPLES = 65_536;

/** Measures a run's training steps. */
export class Meter {
  private readonly stepMs: number[] = [];
  private steps = 0;
  private rows = 0;
  private totalStepMs = 0;
  private computeMs = 0;
  private slotMs = 0;

  /** @param slots slots that held a lease in this step */
  stepped(durationMs: number, rows: number, slots: number): void {
    this.stepMs[this.steps++ % MAX_SAMPLES] = durationMs;
    this.rows += rows;
    this.totalStepMs += durationMs;
    this.slotMs += durationMs * slots;
  }

  /** Compute time one worker reported for one answer of a step. */
  computed(milliseconds: number): void {
    this.computeMs += milliseconds;
  }

  get imagesPerSecond(): number {
    return this.totalStepMs === 0 ? 0 : this.rows / (this.totalStepMs / 1000);
  }

  report(): { imagesPerSecond: number; stepMsP50: number; stepMsP95: number; slotUtilization: number } {
    const sorted = this.stepMs.toSorted((a, b) => a - b);
    const percentile = (p: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
    return {
      imagesPerSecond: this.imagesPerSecond,
      stepMsP50: percentile(0.5),
      stepMsP95: percentile(0.95),
      slotUtilization: this.slotMs === 0 ? 0 : this.computeMs / this.slotMs,
    };
  }
}
