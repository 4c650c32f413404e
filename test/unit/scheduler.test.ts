import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  Scheduler,
  STRAGGLER_GRACE_MS,
  UNKNOWN_SPEED_MS,
  type Assignment,
  type JobRound,
} from '../../coordinator/scheduler.js';

const GROUP = 0;
const step = (round: number, units = 8, remaining = 1): JobRound => ({
  round,
  kind: 'step',
  units,
  remaining,
});
const sizes = (assignments: readonly Assignment[]): Record<number, number> => {
  const counts: Record<number, number> = {};
  for (const { worker, count } of assignments) counts[worker] = (counts[worker] ?? 0) + count;
  return counts;
};
const unitsOf = (assignments: readonly Assignment[]): number[] =>
  assignments
    .flatMap(({ start, count }) => Array.from({ length: count }, (_, i) => start + i))
    .sort((a, b) => a - b);

/** A scheduler with one job and workers 0, 1, ... of so many slots. */
function withWorkers(...slots: number[]): Scheduler {
  const scheduler = new Scheduler();
  slots.forEach((count, worker) => scheduler.join(worker, count, GROUP));
  scheduler.addJob(0, GROUP);
  return scheduler;
}

/** Has a round computed: a unit takes `msPerUnit[worker]` on each worker. Returns when it was done. */
function compute(scheduler: Scheduler, round: JobRound, now: number, msPerUnit: readonly number[]): number {
  scheduler.open(0, round);
  const answers = scheduler
    .assign(now)
    .map((lease) => ({ lease, at: now + lease.count * (msPerUnit[lease.worker] ?? 1) }))
    .sort((a, b) => a.at - b.at);
  for (const { lease, at } of answers) scheduler.answered(lease.worker, 0, round.round, lease, true, at);
  return answers.at(-1)?.at ?? now;
}

describe('one job', () => {
  test('is spread over all slots, each unit once, in ranges that follow the workers', () => {
    const scheduler = withWorkers(2, 1, 1);
    scheduler.open(0, step(0));
    const leases = scheduler.assign(0);
    expect(sizes(leases)).toEqual({ 0: 4, 1: 2, 2: 2 });
    expect(leases.map(({ worker, start }) => [worker, start])).toEqual([
      [0, 0],
      [1, 4],
      [2, 6],
    ]);
  });

  test('is shared out in proportion to the speeds that were measured', () => {
    const scheduler = withWorkers(1, 1);
    let now = 0;
    for (let round = 0; round < 10; round++) now = compute(scheduler, step(round, 16), now, [10, 30]);
    scheduler.open(0, step(10, 16));
    expect(sizes(scheduler.assign(now))).toEqual({ 0: 12, 1: 4 });
  });

  test('gives a worker a share again when it has become fast', () => {
    const scheduler = withWorkers(1, 1);
    let now = 0;
    for (let round = 0; round < 5; round++) now = compute(scheduler, step(round), now, [10, 500]);
    scheduler.open(0, step(5));
    expect(sizes(scheduler.assign(now))).toEqual({ 0: 8 });
    scheduler.answered(0, 0, 5, { start: 0, count: 8 }, true, now + 80);
    now += 80;
    for (let round = 6; round < 200; round++) now = compute(scheduler, step(round), now, [10, 10]);
    scheduler.open(0, step(200));
    expect(sizes(scheduler.assign(now))).toEqual({ 0: 4, 1: 4 });
  });

  test('gives nothing more while all of it is leased', () => {
    const scheduler = withWorkers(2, 2);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    expect(scheduler.assign(1)).toEqual([]);
  });

  test('takes back what a worker holds that quits it, and leaves it what it holds of other runs', () => {
    const OTHER = GROUP + 1;
    const scheduler = withWorkers(4);
    scheduler.join(0, 4, OTHER);
    scheduler.addJob(1, OTHER);
    for (const job of [0, 1]) scheduler.open(job, step(0));
    const held = scheduler.assign(0);
    expect(new Set(held.map(({ job }) => job))).toEqual(new Set([0, 1]));
    scheduler.quit(0, GROUP);
    const remaining = held.filter(({ job }) => job === 1).reduce((sum, { count }) => sum + count, 0);
    expect(scheduler.owedBy(0)).toBe(remaining);
    expect(scheduler.assign(1).filter(({ job }) => job === 0)).toEqual([]);
    scheduler.join(1, 4, GROUP);
    expect(unitsOf(scheduler.assign(1).filter(({ job }) => job === 0))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('gives a worker that joins a part of the next round', () => {
    const scheduler = withWorkers(1);
    scheduler.open(0, step(0));
    expect(sizes(scheduler.assign(0))).toEqual({ 0: 8 });
    scheduler.join(1, 1, GROUP);
    expect(scheduler.assign(1)).toEqual([]);
    scheduler.answered(0, 0, 0, { start: 0, count: 8 }, true, 80);
    scheduler.open(0, step(1));
    expect(sizes(scheduler.assign(80))).toEqual({ 0: 4, 1: 4 });
  });
});

describe('as many jobs as slots or more', () => {
  test('have their rounds computed whole, by one worker each', () => {
    const scheduler = withWorkers(1, 1);
    for (const job of [1, 2, 3]) scheduler.addJob(job, GROUP);
    for (const job of [0, 1, 2, 3]) scheduler.open(job, step(0));
    const leases = scheduler.assign(0);
    expect(leases.every(({ start, count }) => start === 0 && count === 8)).toBe(true);
    // One in work and one waiting for each worker.
    expect(sizes(leases)).toEqual({ 0: 16, 1: 16 });
    expect(new Set(leases.map(({ job }) => job))).toEqual(new Set([0, 1, 2, 3]));
  });

  test('are served by the rounds they have left, the longest chain first', () => {
    const scheduler = withWorkers(1);
    for (const job of [1, 2]) scheduler.addJob(job, GROUP);
    scheduler.open(0, step(0, 8, 3));
    scheduler.open(1, step(0, 8, 9));
    scheduler.open(2, step(0, 8, 6));
    expect(scheduler.assign(0).map(({ job }) => job)).toEqual([1, 2]);
  });
});

describe('a job of a group', () => {
  test('goes to workers that are ready for the group alone', () => {
    const scheduler = withWorkers(1);
    scheduler.join(1, 1, 7);
    scheduler.addJob(1, 7);
    scheduler.open(0, step(0));
    scheduler.open(1, step(0));
    expect(scheduler.assign(0).map(({ worker, job }) => [worker, job])).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  test('that is held is not leased until it is let go', () => {
    const scheduler = withWorkers(1);
    scheduler.open(0, step(0));
    expect(scheduler.assign(0, (group) => group === GROUP)).toEqual([]);
    expect(sizes(scheduler.assign(0))).toEqual({ 0: 8 });
  });

  test('that is held gets no second holder either', () => {
    const scheduler = withWorkers(1, 1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.answered(1, 0, 0, { start: 4, count: 4 }, true, 10);
    expect(scheduler.assign(UNKNOWN_SPEED_MS, () => true)).toEqual([]);
  });
});

describe('a worker that leaves', () => {
  test('has its units leased to another at once', () => {
    const scheduler = withWorkers(1, 1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.answered(1, 0, 0, { start: 4, count: 4 }, true, 10);
    scheduler.leave(0);
    expect(scheduler.assign(10)).toMatchObject([{ worker: 1, start: 0, count: 4, speculative: false }]);
    expect(scheduler.counts.returned).toBe(4);
  });

  test('gives back only what it has not answered', () => {
    const scheduler = withWorkers(1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.answered(0, 0, 0, { start: 0, count: 4 }, true, 10);
    scheduler.leave(0);
    scheduler.join(1, 1, GROUP);
    expect(unitsOf(scheduler.assign(11))).toEqual([4, 5, 6, 7]);
  });

  test('and drains first gets no new leases but may answer what it holds', () => {
    const scheduler = withWorkers(1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.drain(0);
    expect(scheduler.isBusy(0)).toBe(true);
    scheduler.answered(0, 0, 0, { start: 0, count: 8 }, true, 10);
    expect(scheduler.isBusy(0)).toBe(false);
    scheduler.open(0, step(1));
    expect(scheduler.assign(10)).toEqual([]);
  });
});

describe('a round of which a part is to be computed here', () => {
  test('has that part leased and nothing else', () => {
    const scheduler = withWorkers(1, 1);
    scheduler.open(0, step(0), { start: 2, count: 3 });
    expect(scheduler.freeUnits).toBe(3);
    expect(unitsOf(scheduler.assign(0))).toEqual([2, 3, 4]);
  });

  test('is spread as if it were all there is', () => {
    const scheduler = withWorkers(1, 1, 1, 1);
    scheduler.open(0, step(0, 64), { start: 8, count: 4 });
    expect(sizes(scheduler.assign(0))).toEqual({ 0: 1, 1: 1, 2: 1, 3: 1 });
  });

  test('may get more parts, and no lease reaches from one into another', () => {
    const scheduler = withWorkers(8);
    scheduler.open(0, step(0), { start: 0, count: 2 });
    scheduler.extend(0, { start: 2, count: 3 });
    const leases = scheduler.assign(0).map(({ start, count }) => [start, count]);
    expect(leases).toEqual([
      [0, 2],
      [2, 3],
    ]);
  });

  test('is computed again where what was done is asked for again', () => {
    const scheduler = withWorkers(1);
    scheduler.open(0, step(0), { start: 3, count: 1 });
    const answer = (): void => {
      const leases = scheduler.assign(0);
      expect(unitsOf(leases)).toEqual([3]);
      for (const lease of leases) scheduler.answered(0, 0, 0, lease, true, 1);
      expect(scheduler.assign(1)).toEqual([]);
    };
    answer();
    scheduler.extend(0, { start: 3, count: 1 });
    answer();
  });
});

describe('a worker that returns units', () => {
  test('owes them no more, and others get them', () => {
    const scheduler = withWorkers(4, 4);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.returned(0, 0, 0, { start: 0, count: 3 });
    expect(scheduler.owedBy(0)).toBe(1);
    expect(scheduler.freeUnits).toBe(3);
    expect(scheduler.countsOf(GROUP).returned).toBe(3);
    expect(unitsOf(scheduler.assign(1))).toEqual([0, 1, 2]);
  });

  test('of a round that is over is idle again', () => {
    const scheduler = withWorkers(8);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.open(0, step(1));
    expect(scheduler.owedBy(0)).toBe(8);
    scheduler.returned(0, 0, 0, { start: 0, count: 8 });
    expect(scheduler.isBusy(0)).toBe(false);
    expect(unitsOf(scheduler.assign(2))).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
});

describe('a worker whose slots change', () => {
  test('has its share of the next round by what it has then, at the speed of its slots', () => {
    const scheduler = withWorkers(4, 4);
    compute(scheduler, step(0), 0, [1, 1]);
    compute(scheduler, step(1), 100, [1, 1]);
    scheduler.resize(0, 12);
    scheduler.open(0, step(2, 16));
    expect(sizes(scheduler.assign(200))).toEqual({ 0: 12, 1: 4 });
    expect(scheduler.busySlots).toBe(16);
  });
});

describe('a worker that is slow', () => {
  /** Two workers of the same measured speed, 10 ms a unit; both hold half of round 2 since `now`. */
  function halfDone(): { scheduler: Scheduler; now: number; overdueAt: number } {
    const scheduler = withWorkers(1, 1);
    let now = 0;
    for (let round = 0; round < 2; round++) now = compute(scheduler, step(round), now, [10, 10]);
    scheduler.open(0, step(2));
    expect(sizes(scheduler.assign(now))).toEqual({ 0: 4, 1: 4 });
    scheduler.answered(1, 0, 2, { start: 4, count: 4 }, true, now + 40);
    const overdueAt = scheduler.nextDeadline(now);
    if (overdueAt === undefined) throw new Error('a lease in work has a deadline');
    expect(overdueAt).toBeGreaterThan(now + 40 + STRAGGLER_GRACE_MS);
    return { scheduler, now, overdueAt };
  }

  test('is waited for until its lease is overdue, then an idle worker gets the same units', () => {
    const { scheduler, overdueAt } = halfDone();
    expect(scheduler.nextDeadline(overdueAt - 50)).toBe(overdueAt);
    expect(scheduler.assign(overdueAt - 1)).toEqual([]);
    expect(scheduler.assign(overdueAt)).toMatchObject([{ worker: 1, start: 0, count: 4, speculative: true }]);
    expect(scheduler.counts.speculated).toBe(4);
    expect(scheduler.assign(overdueAt + 1)).toEqual([]);
  });

  test('gets nothing more until it answers', () => {
    const { scheduler, overdueAt } = halfDone();
    scheduler.assign(overdueAt);
    scheduler.answered(1, 0, 2, { start: 0, count: 4 }, true, overdueAt + 40);
    scheduler.open(0, step(3));
    expect(sizes(scheduler.assign(overdueAt + 40))).toEqual({ 1: 8 });
    scheduler.answered(1, 0, 3, { start: 0, count: 8 }, true, overdueAt + 120);
    scheduler.answered(0, 0, 2, { start: 0, count: 4 }, true, overdueAt + 120);
    scheduler.open(0, step(4));
    expect(Object.keys(sizes(scheduler.assign(overdueAt + 120)))).toContain('0');
  });

  test('whose speed is unknown is given the time for that', () => {
    const scheduler = withWorkers(1, 1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.answered(1, 0, 0, { start: 4, count: 4 }, true, 1);
    expect(scheduler.assign(UNKNOWN_SPEED_MS - 1)).toEqual([]);
    expect(scheduler.assign(UNKNOWN_SPEED_MS)).toMatchObject([{ worker: 1, speculative: true }]);
  });

  test('is helped by two others at most', () => {
    const scheduler = withWorkers(1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    for (const worker of [1, 2, 3, 4]) scheduler.join(worker, 1, GROUP);
    const helpers: number[] = [];
    let now = 0;
    for (let wave = 0; wave < 5; wave++) {
      now += UNKNOWN_SPEED_MS;
      helpers.push(...scheduler.assign(now).map(({ worker }) => worker));
    }
    expect(helpers).toEqual([1, 2]);
  });

  test('that owes an answer for too long is named, one that answers in parts is not', () => {
    const scheduler = withWorkers(1, 1);
    scheduler.open(0, step(0));
    scheduler.assign(0);
    scheduler.answered(1, 0, 0, { start: 4, count: 2 }, true, 900);
    expect(scheduler.stuck(1_000, 1_000)).toEqual([]);
    expect(scheduler.stuck(1_001, 1_000)).toEqual([0]);
  });
});

type Action = { kind: 'answer' | 'assign' | 'join' | 'leave' | 'drain' | 'time'; pick: number };

const action: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom('answer', 'answer', 'answer', 'assign', 'join', 'leave', 'drain', 'time'),
  pick: fc.nat(1_000),
});

/** A cluster that does what it likes, and checks what the scheduler promises. */
class AnyCluster {
  readonly scheduler = new Scheduler();
  readonly done: Set<number>[];
  private readonly slots = new Map<number, number>();
  private leases: Assignment[] = [];
  private next = 0;
  private now = 0;

  constructor(
    readonly jobs: number,
    readonly units: number,
  ) {
    this.done = Array.from({ length: jobs }, () => new Set());
    for (let job = 0; job < jobs; job++) {
      this.scheduler.addJob(job, GROUP);
      this.scheduler.open(job, step(0, units));
    }
  }

  act({ kind, pick }: Action): void {
    const workers = [...this.slots.keys()];
    const worker = workers[pick % Math.max(1, workers.length)];
    if (kind === 'time') this.now += pick * 50;
    else if (kind === 'join' && workers.length < 5) this.join(1 + (pick % 3));
    else if (kind === 'answer' && this.leases.length > 0) this.answer(pick % this.leases.length, pick);
    else if (kind === 'leave' && worker !== undefined) this.leave(worker);
    else if (kind === 'drain' && worker !== undefined) this.scheduler.drain(worker);
    this.assign();
  }

  join(slots: number): void {
    this.slots.set(this.next, slots);
    this.scheduler.join(this.next++, slots, GROUP);
  }

  /** Of a lease the first unit, or all. */
  answer(index: number, pick: number): void {
    const lease = this.leases[index] as Assignment;
    const part = pick % 2 === 0 ? { start: lease.start, count: 1 } : lease;
    this.scheduler.answered(lease.worker, lease.job, 0, part, true, this.now);
    for (let unit = part.start; unit < part.start + part.count; unit++) this.done[lease.job]?.add(unit);
    const rest = { ...lease, start: lease.start + part.count, count: lease.count - part.count };
    this.leases = this.leases.flatMap((other, i) => (i !== index ? [other] : rest.count > 0 ? [rest] : []));
  }

  leave(worker: number): void {
    this.slots.delete(worker);
    this.leases = this.leases.filter((lease) => lease.worker !== worker);
    this.scheduler.leave(worker);
  }

  assign(): void {
    const leases = this.scheduler.assign(this.now);
    for (const { worker, job, start, count, speculative } of leases) {
      expect(this.slots.has(worker)).toBe(true);
      for (let unit = start; unit < start + count; unit++) {
        expect(unit).toBeLessThan(this.units);
        const holders = this.leases.filter(
          (l) => l.job === job && l.start <= unit && unit < l.start + l.count,
        );
        expect(holders.every((holder) => holder.worker !== worker)).toBe(true);
        expect(holders.length).toBeLessThanOrEqual(speculative ? 2 : 0);
        expect(this.done[job]?.has(unit)).toBe(false);
      }
    }
    this.leases.push(...leases);
  }

  /** From here on nothing goes wrong. */
  finish(): void {
    this.join(2);
    this.assign();
    for (let left = 10 * this.jobs * this.units; this.leases.length > 0 && left > 0; left--) {
      this.answer(0, 1);
      this.assign();
    }
  }
}

test('every unit ends done, whatever the order of answers, joins and leaves', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 9 }),
      fc.array(action, { maxLength: 60 }),
      (jobs, units, actions) => {
        const cluster = new AnyCluster(jobs, units);
        for (const each of actions) cluster.act(each);
        cluster.finish();
        expect(cluster.done.map(({ size }) => size)).toEqual(new Array(jobs).fill(units));
      },
    ),
    { numRuns: 500 },
  );
});

test('no slot idles while there is a unit that nobody computes', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 6 }),
      (slots, rounds) => {
        const scheduler = new Scheduler();
        slots.forEach((count, worker) => scheduler.join(worker, count, GROUP));
        rounds.forEach((units, job) => {
          scheduler.addJob(job, GROUP);
          scheduler.open(job, step(0, units));
        });
        const leases = scheduler.assign(0);
        const leased = leases.reduce((sum, { count }) => sum + count, 0);
        const total = rounds.reduce((sum, units) => sum + units, 0);
        const allSlots = slots.reduce((sum, count) => sum + count, 0);
        if (leased < total) expect(scheduler.busySlots).toBe(allSlots);
      },
    ),
    { numRuns: 500 },
  );
});

describe('two runs on one slot', () => {
  /** Computes 200 rounds of one unit; `ms` is what a unit of each run takes. Returns the time each has had. */
  function share(ms: readonly number[], remaining: readonly number[], begins: readonly number[]): number[] {
    const scheduler = new Scheduler();
    const time = ms.map(() => 0);
    const pending: Assignment[] = [];
    let now = 0;
    for (let turn = 0; turn < 200; turn++) {
      for (const [run, begin] of begins.entries()) {
        if (begin !== turn) continue;
        scheduler.join(0, 1, run);
        scheduler.addJob(run, run);
        scheduler.open(run, step(0, 1, remaining[run] ?? 1));
      }
      pending.push(...scheduler.assign(now));
      const lease = pending.shift();
      if (lease === undefined) throw new Error('the slot idles');
      const { job, round } = lease;
      now += ms[job] ?? 0;
      time[job] = (time[job] ?? 0) + (ms[job] ?? 0);
      scheduler.answered(0, job, round, lease, true, now);
      scheduler.open(job, step(round + 1, 1, (remaining[job] ?? 1) - round - 1));
    }
    return time;
  }

  test('have the same time, however long they still are', () => {
    const [one = 0, two = 0] = share([1, 1], [10_000, 1_000], [0, 0]);
    expect(Math.abs(one - two)).toBeLessThan(3);
  });

  test('have the same time from when the second begins: it catches nothing up', () => {
    const [one = 0, two = 0] = share([1, 1], [10_000, 10_000], [0, 100]);
    expect(Math.abs(one - 150)).toBeLessThan(3);
    expect(Math.abs(two - 50)).toBeLessThan(3);
  });
});
