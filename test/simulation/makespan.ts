/**
 * The scheduler alone, on simulated slots: how long all folds take against what no schedule can beat. Time is
 * in milliseconds; the answers of workers and the coordinator's own work take no time.
 */
import { Scheduler, type Assignment } from '../../coordinator/scheduler.js';
import { Purpose, RandomStream } from '../../shared/rng.js';

const UNIT_MS = 10;

export interface MakespanCase {
  readonly folds: number;
  readonly slots: number;
  /** Slots are up to this much faster than the slowest. */
  readonly spread: number;
  readonly steps: number;
  readonly shards: number;
  readonly seed: number;
}

export interface Makespan {
  readonly makespan: number;
  /**
   * max(total work over the speed of the slots, longest chain on the fastest slots). No more slots count than there
   * can be units in work at once, folds x shards: the fastest.
   */
  readonly bound: number;
  readonly ratio: number;
}

interface Busy {
  readonly end: number;
  readonly order: number;
  readonly assignment: Assignment;
}

/** Runs `folds` jobs of `steps` rounds of `shards` equal units on one-slot workers of unequal speeds. */
export function makespanOf({ folds, slots, spread, steps, shards, seed }: MakespanCase): Makespan {
  const random = new RandomStream({ seed, purpose: Purpose.probe, trial: 2, epoch: folds, shard: slots });
  const unitMs = Array.from({ length: slots }, () => UNIT_MS / (1 + (spread - 1) * random.uniform()));
  const scheduler = new Scheduler();
  for (let worker = 0; worker < slots; worker++) scheduler.join(worker, 1, 0);
  const done = new Array<number>(folds).fill(0);
  const missing = new Array<number>(folds).fill(0);
  const open = (job: number): void => {
    const round = done[job] as number;
    missing[job] = shards;
    scheduler.open(job, { round, kind: 'step', units: shards, remaining: steps - round });
  };
  for (let job = 0; job < folds; job++) {
    scheduler.addJob(job, 0);
    open(job);
  }
  // A worker's leases are computed one after the other, as its slot does.
  const freeAt = new Array<number>(slots).fill(0);
  const events: Busy[] = [];
  const counted = new Map<number, Set<number>>();
  let now = 0;
  let order = 0;
  const dispatch = (): void => {
    for (const assignment of scheduler.assign(now)) {
      const { worker, count } = assignment;
      const end = Math.max(now, freeAt[worker] as number) + count * (unitMs[worker] as number);
      freeAt[worker] = end;
      events.push({ end, order: order++, assignment });
    }
  };
  dispatch();
  while (events.length > 0) {
    let first = 0;
    events.forEach(({ end, order: nth }, i) => {
      const best = events[first] as Busy;
      if (end < best.end || (end === best.end && nth < best.order)) first = i;
    });
    const [event] = events.splice(first, 1) as [Busy];
    now = event.end;
    const { worker, job, round, start, count } = event.assignment;
    const isCurrent = round === done[job];
    const units = counted.get(job) ?? new Set<number>();
    counted.set(job, units);
    const used = isCurrent && !units.has(start);
    scheduler.answered(worker, job, round, { start, count }, used, now);
    if (used) {
      for (let unit = start; unit < start + count; unit++) units.add(unit);
      missing[job] = shards - units.size;
      if (missing[job] === 0) {
        counted.delete(job);
        done[job] = round + 1;
        if (round + 1 < steps) open(job);
        else scheduler.pause(job);
        if (done.every((rounds) => rounds === steps)) break;
      }
    }
    dispatch();
  }
  const fastest = [...unitMs].sort((a, b) => a - b);
  const speed = fastest.slice(0, folds * shards).reduce((sum, ms) => sum + 1 / ms, 0);
  const bound = Math.max((folds * steps * shards) / speed, steps * stepFloor(fastest, shards));
  return { makespan: now, bound, ratio: now / bound };
}

/** The shortest time in which the given slots can compute one step of indivisible units. */
function stepFloor(unitMs: readonly number[], shards: number): number {
  const ends = [...unitMs];
  let last = 0;
  for (let unit = 0; unit < shards; unit++) {
    let best = 0;
    ends.forEach((end, i) => {
      if (end < (ends[best] as number)) best = i;
    });
    last = ends[best] as number;
    ends[best] = last + (unitMs[best] as number);
  }
  return last;
}

export function allCases(steps: number): MakespanCase[] {
  const cases: MakespanCase[] = [];
  for (const folds of [5, 10]) {
    for (let slots = 1; slots <= 64; slots++) {
      for (const spread of [1, 1.3, 2]) cases.push({ folds, slots, spread, steps, shards: 8, seed: slots });
    }
  }
  return cases;
}
