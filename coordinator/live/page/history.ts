import type { RunState, WorkerFigures } from './state.js';

/** Points kept of a live curve; beyond, every second one goes. */
export const MAX_CURVE_POINTS = 200;
/** What the timeline of slots shows. */
export const TIMELINE_MS = 120_000;
/** Workers drawn in the timeline and listed. */
export const MAX_WORKERS_SHOWN = 64;

export type Point = readonly [x: number, y: number];

/** A curve that grows for ever in a bounded space: what is old becomes coarser. */
export class Curve {
  points: Point[] = [];
  private spacing = 0;

  add(x: number, y: number): void {
    // A run that was resumed goes back to its checkpoint.
    while ((this.points.at(-1)?.[0] ?? -Infinity) > x) this.points.pop();
    const before = this.points.at(-2);
    // The newest point is always there; it makes way if it stands too close to the one before.
    if (before !== undefined && x - before[0] < this.spacing) this.points.pop();
    else if (this.points.at(-1)?.[0] === x) this.points.pop();
    this.points.push([x, y]);
    if (this.points.length <= MAX_CURVE_POINTS) return;
    this.points = this.points.filter((_, index) => index % 2 === 0);
    const [first, last] = [this.points[0], this.points.at(-1)];
    this.spacing = ((last?.[0] ?? 0) - (first?.[0] ?? 0)) / MAX_CURVE_POINTS;
  }
}

/** A time in which nothing changed for a worker. */
export interface Stretch {
  readonly from: number;
  to: number;
  readonly busySlots: number;
  readonly slots: number;
  readonly state: WorkerFigures['state'];
}

/** What the page remembers of a run beyond its newest state. Times in milliseconds. */
export class History {
  /** Training loss by epochs passed, by trial. */
  readonly losses = new Map<number, Curve>();
  /** By the worker's name: one that was started again has another number. */
  readonly stretches = new Map<string, Stretch[]>();

  add(run: RunState, now: number): void {
    for (const { trial, epoch, step, steps, loss } of run.trials) {
      if (loss === null || steps === 0) continue;
      const curve = this.losses.get(trial) ?? new Curve();
      this.losses.set(trial, curve);
      curve.add(Math.max(0, epoch - 1) + step / steps, loss);
    }
    for (const worker of run.workers.slice(0, MAX_WORKERS_SHOWN)) this.addStretch(worker, now);
    for (const [name, stretches] of this.stretches) {
      const kept = stretches.filter(({ to }) => to > now - TIMELINE_MS);
      if (kept.length === 0) this.stretches.delete(name);
      else this.stretches.set(name, kept);
    }
  }

  private addStretch({ name, busySlots, slots, state }: WorkerFigures, now: number): void {
    const stretches = this.stretches.get(name) ?? [];
    this.stretches.set(name, stretches);
    const last = stretches.at(-1);
    if (last !== undefined) last.to = now;
    if (last?.busySlots === busySlots && last.slots === slots && last.state === state) return;
    stretches.push({ from: now, to: now, busySlots, slots, state });
  }
}
