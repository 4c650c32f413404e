import type { Summary } from '../shared/summary.js';

/** Step durations kept for percentiles: the newest of these. */
const MAX_SAMPLES = 65_536;

/** Measures a run: steps of all its trials, and how busy the slots were. Times in milliseconds. */
export class Meter {
  private readonly stepMs: number[] = [];
  private steps = 0;
  private rows = 0;
  private computeMs = 0;
  /** Time in which at least one trial had a step in work. */
  private trainingMs = 0;
  private openSteps = 0;
  private trainingSince = 0;
  /** Slots that could have computed x time. */
  private slotMs = 0;
  private slots = 0;
  private slotsSince = 0;

  stepOpened(now: number): void {
    if (this.openSteps++ === 0) this.trainingSince = now;
  }

  stepClosed(now: number): void {
    if (--this.openSteps === 0) this.trainingMs += now - this.trainingSince;
  }

  stepped(durationMs: number, rows: number): void {
    this.stepMs[this.steps++ % MAX_SAMPLES] = durationMs;
    this.rows += rows;
  }

  /** From now on so many slots can compute for the run. */
  slotsChanged(now: number, slots: number): void {
    this.slotMs += this.slots * (now - this.slotsSince);
    this.slots = slots;
    this.slotsSince = now;
  }

  /** Compute time that one answer reports. */
  computed(milliseconds: number): void {
    this.computeMs += milliseconds;
  }

  imagesPerSecond(now: number): number {
    const ms = this.trainingMs + (this.openSteps > 0 ? now - this.trainingSince : 0);
    return ms === 0 ? 0 : this.rows / (ms / 1000);
  }

  report(now: number): Summary['throughput'] {
    this.slotsChanged(now, this.slots);
    const sorted = this.stepMs.toSorted((a, b) => a - b);
    const percentile = (p: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? 0;
    return {
      imagesPerSecond: this.imagesPerSecond(now),
      stepMsP50: percentile(0.5),
      stepMsP95: percentile(0.95),
      slotUtilization: this.slotMs === 0 ? 0 : this.computeMs / this.slotMs,
    };
  }
}
