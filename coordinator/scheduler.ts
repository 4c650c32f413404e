import { invariant } from '../shared/errors.js';
import type { Range } from '../shared/tree.js';

/*
 * Who computes what, and when. A pure state machine: no sockets, no clock of its own, no chance.
 *
 * Goal: the shortest time until all jobs are done (makespan), which needs two things. No slot idles while a job
 * has a unit that nobody computes; and a job's barrier is short, so that its next round becomes available soon.
 *
 * - With fewer jobs than slots, a round is spread over its fair share of the slots, in proportion to their
 *   measured speed, so that all parts end together.
 * - With more jobs than slots, a round goes whole to one worker: one broadcast, one partial. A worker holds one
 *   lease in work and one more waiting, so that it computes for one job while another is at its barrier.
 * - Jobs that are already begun come first (their barrier waits), then those with the most rounds left (the
 *   longest chain), so that all end together.
 * - Runs (groups of jobs) take turns: of rounds that nobody has begun, those of the run that has had the least compute
 *   time come first. A run that comes later starts level with the one that has had least, so it catches nothing up.
 * - A lease that takes far longer than its holder's speed promises is overdue: its holder gets nothing more
 *   until it answers, and an idle worker gets the same units a second time. The first answer wins.
 */

/*
 * When is a lease overdue? As for a retransmission timer (Jacobson, "Congestion avoidance and control", SIGCOMM '88):
 * after the expected time and four mean deviations of what was expected before. On a quiet machine that is soon, on
 * a busy one late.
 */
const DEVIATIONS = 4;
/** A holder of whom nothing is known yet, and the bounds for all: deviations relative to the expected time. */
const FIRST_DEVIATION = 0.5;
const LEAST_DEVIATION = 0.1;
const MOST_DEVIATION = 1;
/** Scheduling of the operating system, and the way over the network. */
export const STRAGGLER_GRACE_MS = 10;
/** How long a lease whose holder's speed is unknown may take before it is overdue. */
export const UNKNOWN_SPEED_MS = 10_000;
/** What a unit of unknown cost counts for in the turns of runs. */
const UNKNOWN_UNIT_MS = 1;
/** The most workers that hold the same unit. */
const MAX_HOLDERS = 3;
/** Weight of the newest measurement in a worker's speed. */
const SPEED_WEIGHT = 0.25;
/** A worker whose lease was overdue counts as slower by this, at the most. */
const OVERDUE_GROWTH = 1.25;
/** How much a worker that got nothing gains in the estimate a round, so that it is tried again. */
const FORGET = 0.97;

/** Times that differ by no more than this part of them are the same. */
const SAME_TIME = 1e-9;

export type WorkKind = 'step' | 'evaluate';

/** A round of a job to be computed: `units` shards of a step, or chunks of an evaluation. */
export interface JobRound {
  readonly round: number;
  readonly kind: WorkKind;
  readonly units: number;
  /** Rounds the job still has, this one included: the length of its chain. */
  readonly remaining: number;
}

/** Worker `worker` is to compute units `start` .. `start + count - 1` of a round. */
export interface Assignment extends Range {
  readonly worker: number;
  readonly job: number;
  readonly round: number;
  /** Another worker holds the same units and takes too long. */
  readonly speculative: boolean;
}

interface Lease {
  readonly worker: number;
  readonly job: number;
  readonly round: number;
  readonly kind: WorkKind;
  readonly start: number;
  readonly count: number;
  /** Units without an answer yet, of this worker. */
  missing: Set<number>;
  readonly issuedAt: number;
  /** From its issue to its last answer; null when the holder's speed is unknown. */
  readonly expectedMs: number | null;
  readonly overdueAt: number;
  readonly speculative: boolean;
}

interface WorkerState {
  readonly id: number;
  slots: number;
  /** Groups it is ready to compute for. */
  readonly groups: Set<number>;
  /** Gets no new leases: it is leaving. */
  draining: boolean;
  /** Oldest first. */
  leases: Lease[];
  /** Time of one unit with all slots at work: wall time over units. Unknown until measured. */
  readonly msPerUnit: Map<string, number>;
  /** How far leases were off what was expected of them, relative to it: mean of the absolute values. */
  deviation: number;
  lastAnswerAt: number;
  /** When a lease was last answered in full. */
  lastLeaseAt: number;
}

interface JobState {
  readonly id: number;
  readonly group: number;
  current: JobRound | undefined;
  /** Units of the round that are, or were, to be computed here. */
  wanted: number;
  /** Where a range of units that are wanted begins or ends: no lease goes beyond. */
  cuts: Set<number>;
  /** Those that are not wanted count as done. */
  done: Uint8Array;
  /** Live leases that hold each unit. */
  holders: Uint8Array;
  undone: number;
  /** Units nobody holds. */
  free: number;
  begun: boolean;
}

/** What became of leases, counted. */
export interface LeaseCounts {
  leases: number;
  /** Units leased a second time because their holder was slow. */
  speculated: number;
  /** Units that came back because their holder was lost or gave them back. */
  returned: number;
  /** Units for which the second lease was faster. */
  wins: number;
}

const noLeases = (): LeaseCounts => ({ leases: 0, speculated: 0, returned: 0, wins: 0 });

export class Scheduler {
  private readonly workers = new Map<number, WorkerState>();
  private readonly jobs = new Map<number, JobState>();
  /** Slot time leased for each group, in milliseconds by the estimate at the time. */
  private readonly spent = new Map<number, number>();
  /** No live lease is overdue before this; looked at for each answer, so that not every worker need be. */
  private nothingOverdueBefore = Number.POSITIVE_INFINITY;
  /** Of all groups. */
  readonly counts: LeaseCounts = noLeases();
  private readonly countsByGroup = new Map<number, LeaseCounts>();

  /** A worker may compute for the jobs of a group from now on. */
  join(worker: number, slots: number, group: number): void {
    const known = this.workers.get(worker);
    if (known !== undefined) {
      known.groups.add(group);
      return;
    }
    this.workers.set(worker, {
      id: worker,
      slots,
      groups: new Set([group]),
      draining: false,
      leases: [],
      msPerUnit: new Map(),
      deviation: FIRST_DEVIATION,
      lastAnswerAt: 0,
      lastLeaseAt: 0,
    });
  }

  /** A worker's slots have changed. Unknown workers are ignored. */
  resize(worker: number, slots: number): void {
    const state = this.workers.get(worker);
    if (state === undefined) return;
    for (const [key, ms] of state.msPerUnit) state.msPerUnit.set(key, (ms * state.slots) / slots);
    state.slots = slots;
  }

  /** A worker is gone: what it held can be leased again. Unknown workers are ignored. */
  leave(worker: number): void {
    const state = this.workers.get(worker);
    if (state === undefined) return;
    this.workers.delete(worker);
    for (const lease of state.leases) this.giveBack(lease);
  }

  /** A worker computes no more for a group: what it held of that can be leased again. */
  quit(worker: number, group: number): void {
    const state = this.workers.get(worker);
    if (state === undefined || !state.groups.delete(group)) return;
    const isOfGroup = ({ job }: Lease): boolean => this.requireJob(job).group === group;
    for (const lease of state.leases.filter(isOfGroup)) this.giveBack(lease);
    state.leases = state.leases.filter((lease) => !isOfGroup(lease));
  }

  /** No new leases for this worker; those it has go on. */
  drain(worker: number): void {
    const state = this.workers.get(worker);
    if (state !== undefined) state.draining = true;
  }

  /** Does this worker owe an answer? */
  isBusy(worker: number): boolean {
    return (this.workers.get(worker)?.leases.length ?? 0) > 0;
  }

  /** @param group jobs of one run are in one group: the same units cost the same */
  addJob(job: number, group: number): void {
    if (!this.spent.has(group)) this.level(group);
    if (!this.countsByGroup.has(group)) this.countsByGroup.set(group, noLeases());
    this.jobs.set(job, {
      id: job,
      group,
      current: undefined,
      wanted: 0,
      cuts: new Set(),
      done: new Uint8Array(0),
      holders: new Uint8Array(0),
      undone: 0,
      free: 0,
      begun: false,
    });
  }

  /** A group that could not compute for a while has no claim to what it missed. */
  level(group: number): void {
    const others = [...this.spent].filter(([other]) => other !== group).map(([, spent]) => spent);
    const least = others.length === 0 ? 0 : Math.min(...others);
    this.spent.set(group, Math.max(this.spent.get(group) ?? 0, least));
  }

  hasJob(job: number): boolean {
    return this.jobs.has(job);
  }

  removeJob(job: number): void {
    const group = this.jobs.get(job)?.group;
    this.jobs.delete(job);
    if (group !== undefined && ![...this.jobs.values()].some((other) => other.group === group)) {
      this.spent.delete(group);
      this.countsByGroup.delete(group);
    }
    for (const worker of this.workers.values()) worker.leases = worker.leases.filter((l) => l.job !== job);
  }

  /**
   * A job's next round. The one before is over, complete or not.
   * @param part the units to be computed here, of all that the round has
   */
  open(job: number, round: JobRound, part: Range = { start: 0, count: round.units }): void {
    const state = this.requireJob(job);
    state.current = round;
    state.wanted = 0;
    state.cuts = new Set();
    state.done = new Uint8Array(round.units).fill(1);
    state.holders = new Uint8Array(round.units);
    state.undone = 0;
    state.free = 0;
    state.begun = false;
    this.extend(job, part);
  }

  /** More units of a job's round are to be computed here; they are not leased together with those before. */
  extend(job: number, { start, count }: Range): void {
    const state = this.requireJob(job);
    for (let unit = start; unit < start + count; unit++) {
      if (state.done[unit] !== 1) continue;
      state.done[unit] = 0;
      state.undone++;
      if (state.holders[unit] === 0) state.free++;
    }
    state.wanted += count;
    state.cuts.add(start).add(start + count);
  }

  /** A job has no round at the moment. */
  pause(job: number): void {
    const state = this.requireJob(job);
    state.current = undefined;
    state.undone = 0;
    state.free = 0;
  }

  /**
   * A worker answered for some units.
   * @param used whether the answer counted; units of one that did not are leased again unless others are in
   */
  answered(worker: number, job: number, round: number, units: Range, used: boolean, now: number): void {
    if (used) this.markDone(job, round, units);
    const state = this.workers.get(worker);
    if (state === undefined) return;
    for (const lease of state.leases) {
      if (lease.job !== job || lease.round !== round) continue;
      for (let unit = units.start; unit < units.start + units.count; unit++) {
        if (!lease.missing.delete(unit)) continue;
        this.release(lease, unit);
        if (used && lease.speculative) this.count(job, 'wins');
      }
      if (lease.missing.size === 0) this.measure(state, lease, now);
    }
    const before = state.leases.length;
    state.leases = state.leases.filter(({ missing }) => missing.size > 0);
    if (state.leases.length < before) state.lastLeaseAt = now;
    state.lastAnswerAt = now;
  }

  /** A worker will not answer for some units: they can be leased again. */
  returned(worker: number, job: number, round: number, units: Range): void {
    const state = this.workers.get(worker);
    if (state === undefined) return;
    for (const lease of state.leases) {
      if (lease.job !== job || lease.round !== round) continue;
      for (const unit of [...lease.missing]) {
        if (unit < units.start || unit >= units.start + units.count) continue;
        lease.missing.delete(unit);
        if (this.release(lease, unit)) this.count(job, 'returned');
      }
    }
    state.leases = state.leases.filter(({ missing }) => missing.size > 0);
  }

  /**
   * Leases for every worker that could compute more. Call it after anything has changed.
   * @param isHeld groups of which nothing is to be leased now
   */
  assign(now: number, isHeld: (group: number) => boolean = () => false): Assignment[] {
    const assignments: Assignment[] = [];
    // Most answers leave nothing to lease, and it is called for each: what follows takes the square of the number of workers.
    const isAnyFree = [...this.jobs.values()].some(({ free }) => free > 0);
    if (!isAnyFree && !this.isAnyOverdue(now)) return assignments;
    const eligible = [...this.workers.values()].filter(
      (worker) => !worker.draining && !isOverdue(worker, now),
    );
    this.assignTo(hasIdleSlot, eligible, now, isHeld, assignments);
    // Beyond a wave for every slot, the next lease may wait where the one before is computed, and hides the way there.
    // Less than a wave is better kept for whoever is idle first: the barrier of a round would wait for it.
    const free = this.readyJobs().reduce((sum, job) => sum + job.free, 0);
    const slots = eligible.reduce((sum, worker) => sum + worker.slots, 0);
    if (free >= slots) this.assignTo(hasNothingWaiting, eligible, now, isHeld, assignments);
    this.speculate(eligible, now, assignments, isHeld);
    return assignments;
  }

  private isAnyOverdue(now: number): boolean {
    if (now < this.nothingOverdueBefore) return false;
    this.nothingOverdueBefore = Number.POSITIVE_INFINITY;
    for (const { leases } of this.workers.values()) {
      for (const { overdueAt } of leases)
        this.nothingOverdueBefore = Math.min(this.nothingOverdueBefore, overdueAt);
    }
    return now >= this.nothingOverdueBefore;
  }

  /** When `assign` could do something although nothing else has happened; undefined if never. */
  nextDeadline(now: number): number | undefined {
    let next: number | undefined;
    for (const worker of this.workers.values()) {
      for (const lease of worker.leases) {
        if (!this.isCurrent(lease) || lease.overdueAt < now) continue;
        if (next === undefined || lease.overdueAt < next) next = lease.overdueAt;
      }
    }
    return next;
  }

  /** Workers that have owed the answer to a lease for longer than `limitMs`. */
  stuck(now: number, limitMs: number): number[] {
    return [...this.workers.values()]
      .filter(({ leases, lastAnswerAt }) =>
        leases.some((lease) => now - Math.max(lease.issuedAt, lastAnswerAt) > limitMs),
      )
      .map(({ id }) => id);
  }

  /** What a worker holds: slots at work, and leases. */
  loadOf(worker: number): { busySlots: number; leases: number } {
    const state = this.workers.get(worker);
    if (state === undefined) return { busySlots: 0, leases: 0 };
    return { busySlots: Math.min(state.slots, pendingUnits(state)), leases: state.leases.length };
  }

  /** Slots that hold a lease. */
  get busySlots(): number {
    let busy = 0;
    for (const worker of this.workers.values()) busy += Math.min(worker.slots, pendingUnits(worker));
    return busy;
  }

  /** Units of open rounds that nobody holds: slots that would have something to do if they were there. */
  get freeUnits(): number {
    let free = 0;
    for (const job of this.jobs.values()) free += job.free;
    return free;
  }

  /** Units that a worker owes. */
  owedBy(worker: number): number {
    const state = this.workers.get(worker);
    return state === undefined ? 0 : pendingUnits(state);
  }

  /** What became of the leases of a group; it stays as it is for whoever holds it when its jobs are gone. */
  countsOf(group: number): Readonly<LeaseCounts> {
    return this.countsByGroup.get(group) ?? noLeases();
  }

  private count(job: number, what: keyof LeaseCounts, by = 1): void {
    this.counts[what] += by;
    const ofGroup = this.countsByGroup.get(this.jobs.get(job)?.group ?? -1);
    if (ofGroup !== undefined) ofGroup[what] += by;
  }

  // ---- leasing ---------------------------------------------------------------------------------------------

  private assignTo(
    isHungry: (worker: WorkerState) => boolean,
    eligible: readonly WorkerState[],
    now: number,
    isHeld: (group: number) => boolean,
    out: Assignment[],
  ): void {
    for (const job of this.readyJobs()) {
      if (isHeld(job.group)) continue;
      const able = eligible.filter(({ groups }) => groups.has(job.group));
      const hungry = able.filter(isHungry);
      if (hungry.length > 0) this.assignJob(job, hungry, able, now, out);
    }
  }

  /** Jobs with units nobody holds, in the order in which they should get slots. */
  private readyJobs(): JobState[] {
    return [...this.jobs.values()]
      .filter(({ free }) => free > 0)
      .sort(
        (a, b) =>
          Number(b.begun) - Number(a.begun) ||
          this.spentBy(a) - this.spentBy(b) ||
          (b.current?.remaining ?? 0) - (a.current?.remaining ?? 0) ||
          a.id - b.id,
      );
  }

  private assignJob(
    job: JobState,
    hungry: readonly WorkerState[],
    eligible: readonly WorkerState[],
    now: number,
    out: Assignment[],
  ): void {
    const { current } = job;
    invariant(current !== undefined, 'a ready job has a round');
    const speedKey = keyOf(job.group, current.kind);
    const unitMs = this.unitTimes(eligible, speedKey);
    const rateOf = (worker: WorkerState): number => 1 / (unitMs.get(worker.id) ?? 1);
    const slots = eligible.reduce((sum, worker) => sum + worker.slots, 0);

    // The slots this round should be spread over: its share, rounded up so that the last wave is full too.
    const activeJobs = [...this.jobs.values()].filter((other) => other.undone > 0).length;
    const share = Math.min(job.wanted, Math.max(1, slots / activeJobs));
    const perSlot = Math.floor(job.wanted / share);
    const wanted = activeJobs === 1 ? slots : Math.min(slots, Math.ceil(job.wanted / perSlot));
    const fastestFirst = [...hungry].sort((a, b) => rateOf(b) - rateOf(a) || a.id - b.id);
    const picked: WorkerState[] = [];
    let pickedSlots = 0;
    for (const worker of fastestFirst) {
      if (pickedSlots >= wanted) break;
      picked.push(worker);
      pickedSlots += worker.slots;
    }
    // What is left waits for the next slots that become idle.
    const part = Math.min(1, pickedSlots / wanted);
    const units = part === 1 ? job.free : Math.min(job.free, Math.max(1, Math.round(job.wanted * part)));

    const loads = picked.map((worker) => ({
      worker,
      unitMs: unitMs.get(worker.id) ?? 1,
      backlogMs: pendingUnits(worker) * (unitMs.get(worker.id) ?? 1),
      known: worker.msPerUnit.has(speedKey),
    }));
    const counts = shareOut(units, loads);
    // In the order of their numbers, so that the ranges of a steady cluster stay the same.
    const order = loads.map((load, i) => ({ count: counts[i] ?? 0, ...load }));
    order.sort((a, b) => a.worker.id - b.worker.id);
    for (const { worker, count, unitMs: ms, backlogMs, known } of order) {
      for (const range of takeFree(job, count)) {
        const expectedMs = backlogMs + waves(range.count, worker.slots) * worker.slots * ms;
        this.lease(
          job,
          worker,
          range,
          { now, expectedMs: known ? expectedMs : null, speculative: false },
          out,
        );
      }
    }
    for (const worker of hungry) {
      const measured = worker.msPerUnit.get(speedKey);
      if (measured !== undefined && activeJobs === 1 && !hasLeaseOf(worker, job)) {
        worker.msPerUnit.set(speedKey, measured * FORGET);
      }
    }
  }

  /** Gives idle workers what an overdue worker has not answered. */
  private speculate(
    eligible: readonly WorkerState[],
    now: number,
    out: Assignment[],
    isHeld: (group: number) => boolean,
  ): void {
    for (const helper of eligible) {
      if (pendingUnits(helper) > 0) continue;
      const lease = this.overdueLease(now, helper, isHeld);
      if (lease === undefined) continue;
      const job = this.requireJob(lease.job);
      const key = keyOf(job.group, lease.kind);
      const unitMs = this.unitTimes(eligible, key).get(helper.id) ?? 1;
      const missing = [...lease.missing].filter((unit) => job.done[unit] === 0).sort((a, b) => a - b);
      const known = helper.msPerUnit.has(key);
      let expectedMs = 0;
      for (const range of rangesOf(missing)) {
        expectedMs += waves(range.count, helper.slots) * helper.slots * unitMs;
        this.count(job.id, 'speculated', range.count);
        this.lease(
          job,
          helper,
          range,
          { now, expectedMs: known ? expectedMs : null, speculative: true },
          out,
        );
      }
    }
  }

  /** The longest overdue lease that holds units which few others hold. */
  private overdueLease(
    now: number,
    helper: WorkerState,
    isHeld: (group: number) => boolean,
  ): Lease | undefined {
    let oldest: Lease | undefined;
    for (const worker of this.workers.values()) {
      for (const lease of worker.leases) {
        if (lease.overdueAt > now || !this.isCurrent(lease)) continue;
        const job = this.requireJob(lease.job);
        if (!helper.groups.has(job.group) || isHeld(job.group)) continue;
        const helps = [...lease.missing].some(
          (unit) => job.done[unit] === 0 && this.isAlone(job, lease.round, unit, now),
        );
        if (helps && (oldest === undefined || lease.overdueAt < oldest.overdueAt)) oldest = lease;
      }
    }
    return oldest;
  }

  /** Is every holder of this unit overdue, and could one more hold it? */
  private isAlone(job: JobState, round: number, unit: number, now: number): boolean {
    if ((job.holders[unit] ?? 0) >= MAX_HOLDERS) return false;
    for (const worker of this.workers.values()) {
      for (const lease of worker.leases) {
        if (lease.job !== job.id || lease.round !== round || lease.overdueAt <= now) continue;
        if (lease.missing.has(unit)) return false;
      }
    }
    return true;
  }

  private lease(
    job: JobState,
    worker: WorkerState,
    { start, count }: Range,
    { now, expectedMs, speculative }: { now: number; expectedMs: number | null; speculative: boolean },
    out: Assignment[],
  ): void {
    invariant(job.current !== undefined, 'only rounds are leased');
    const { round, kind } = job.current;
    const missing = new Set<number>();
    for (let unit = start; unit < start + count; unit++) {
      if (job.holders[unit] === 0 && job.done[unit] === 0) job.free--;
      job.holders[unit] = (job.holders[unit] ?? 0) + 1;
      missing.add(unit);
    }
    job.begun = true;
    const patience = 1 + DEVIATIONS * Math.min(MOST_DEVIATION, Math.max(LEAST_DEVIATION, worker.deviation));
    const overdueAt =
      now + (expectedMs === null ? UNKNOWN_SPEED_MS : expectedMs * patience + STRAGGLER_GRACE_MS);
    this.nothingOverdueBefore = Math.min(this.nothingOverdueBefore, overdueAt);
    worker.leases.push({
      worker: worker.id,
      job: job.id,
      round,
      kind,
      start,
      count,
      missing,
      issuedAt: now,
      expectedMs,
      overdueAt,
      speculative,
    });
    this.count(job.id, 'leases');
    const unitMs = worker.msPerUnit.get(keyOf(job.group, kind)) ?? UNKNOWN_UNIT_MS;
    this.spent.set(job.group, this.spentBy(job) + count * unitMs * worker.slots);
    out.push({ worker: worker.id, job: job.id, round, start, count, speculative });
  }

  // ---- bookkeeping -----------------------------------------------------------------------------------------

  private markDone(job: number, round: number, units: Range): void {
    const state = this.jobs.get(job);
    if (state?.current?.round !== round) return;
    for (let unit = units.start; unit < units.start + units.count; unit++) {
      if (state.done[unit] !== 0) continue;
      if (state.holders[unit] === 0) state.free--;
      state.done[unit] = 1;
      state.undone--;
    }
  }

  private giveBack(lease: Lease): void {
    for (const unit of lease.missing) {
      if (!this.isCurrent(lease)) continue;
      if (this.release(lease, unit)) this.count(lease.job, 'returned');
    }
  }

  /** One holder less; returns whether the unit became free by it. */
  private release(lease: Lease, unit: number): boolean {
    if (!this.isCurrent(lease)) return false;
    const job = this.requireJob(lease.job);
    const holders = (job.holders[unit] ?? 1) - 1;
    job.holders[unit] = holders;
    const freed = holders === 0 && job.done[unit] === 0;
    if (freed) job.free++;
    return freed;
  }

  private measure(worker: WorkerState, lease: Lease, now: number): void {
    const job = this.jobs.get(lease.job);
    if (job === undefined) return;
    const elapsed = Math.max(0.01, now - Math.max(lease.issuedAt, worker.lastLeaseAt));
    // Fewer units than slots leave slots idle: a unit is charged for what all of them could have done.
    const sample = elapsed / (waves(lease.count, worker.slots) * worker.slots);
    const key = keyOf(job.group, lease.kind);
    const before = worker.msPerUnit.get(key);
    if (before === undefined) {
      worker.msPerUnit.set(key, sample);
    } else if (now > lease.overdueAt) {
      // It stood still, for how long says little about its speed; if it has become slow, it takes a few leases to learn.
      worker.msPerUnit.set(key, Math.min(sample, before * OVERDUE_GROWTH));
    } else {
      worker.msPerUnit.set(key, before + SPEED_WEIGHT * (sample - before));
      if (lease.expectedMs === null) return;
      const off = Math.abs((now - lease.issuedAt) / Math.max(0.01, lease.expectedMs) - 1);
      worker.deviation += SPEED_WEIGHT * (off - worker.deviation);
    }
  }

  /** Time of a unit for each worker; those without a measurement count as the mean of the others. */
  private unitTimes(workers: readonly WorkerState[], key: string): Map<number, number> {
    const known = workers.flatMap(({ msPerUnit, slots }) => {
      const ms = msPerUnit.get(key);
      return ms === undefined ? [] : [ms * slots];
    });
    const slotMs = known.length === 0 ? 1 : known.reduce((sum, ms) => sum + ms, 0) / known.length;
    return new Map(workers.map(({ id, msPerUnit, slots }) => [id, msPerUnit.get(key) ?? slotMs / slots]));
  }

  private isCurrent(lease: Lease): boolean {
    return this.jobs.get(lease.job)?.current?.round === lease.round;
  }

  private spentBy({ group }: JobState): number {
    return this.spent.get(group) ?? 0;
  }

  private requireJob(job: number): JobState {
    const state = this.jobs.get(job);
    invariant(state !== undefined, `job ${job} exists`);
    return state;
  }
}

const keyOf = (group: number, kind: WorkKind): string => `${group} ${kind}`;

const waves = (units: number, slots: number): number => Math.ceil(units / slots);

function pendingUnits(worker: WorkerState): number {
  return worker.leases.reduce((sum, { missing }) => sum + missing.size, 0);
}

const hasIdleSlot = (worker: WorkerState): boolean => pendingUnits(worker) < worker.slots;

function hasNothingWaiting(worker: WorkerState): boolean {
  return pendingUnits(worker) - (worker.leases[0]?.missing.size ?? 0) < worker.slots;
}

const isOverdue = (worker: WorkerState, now: number): boolean =>
  worker.leases.some(({ overdueAt }) => overdueAt <= now);

const hasLeaseOf = (worker: WorkerState, job: JobState): boolean =>
  worker.leases.some((lease) => lease.job === job.id);

/** Gives each unit to the worker that would be done with it first. */
function shareOut(
  units: number,
  loads: readonly { worker: WorkerState; unitMs: number; backlogMs: number }[],
): number[] {
  const counts = loads.map(() => 0);
  const endWith = (i: number, count: number): number => {
    const { worker, unitMs, backlogMs } = loads[i] as (typeof loads)[number];
    return backlogMs + waves(count, worker.slots) * worker.slots * unitMs;
  };
  // A heap: the workers by when they would be done with one unit more, those that come first before their equals.
  const ends = loads.map((_, i) => endWith(i, 1));
  const isBefore = (a: number, b: number): boolean => {
    const [endA, endB] = [ends[a] as number, ends[b] as number];
    if (Math.abs(endA - endB) <= SAME_TIME * Math.max(endA, endB)) return a < b;
    return endA < endB;
  };
  const heap = loads.map((_, i) => i).sort((a, b) => (isBefore(a, b) ? -1 : 1));
  for (let unit = 0; unit < units; unit++) {
    const best = heap[0];
    if (best === undefined) break;
    const count = (counts[best] ?? 0) + 1;
    counts[best] = count;
    ends[best] = endWith(best, count + 1);
    siftDown(heap, isBefore);
  }
  return counts;
}

/** Puts the first of a heap, which has grown, where it belongs. */
function siftDown(heap: number[], isBefore: (a: number, b: number) => boolean): void {
  const moved = heap[0] as number;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && isBefore(heap[child + 1] as number, heap[child] as number)) child++;
    if (!isBefore(heap[child] as number, moved)) break;
    heap[at] = heap[child] as number;
    at = child;
  }
  heap[at] = moved;
}

/** The first `count` units of a job that nobody holds, as ranges. */
function takeFree(job: JobState, count: number): Range[] {
  const units: number[] = [];
  for (let unit = 0; unit < job.done.length && units.length < count; unit++) {
    if (job.done[unit] === 0 && job.holders[unit] === 0) units.push(unit);
  }
  return rangesOf(units, job.cuts);
}

/** Ascending units as ranges, none of which goes beyond a cut. */
function rangesOf(units: readonly number[], cuts: ReadonlySet<number> = new Set()): Range[] {
  const ranges: { start: number; count: number }[] = [];
  for (const unit of units) {
    const last = ranges.at(-1);
    if (last !== undefined && last.start + last.count === unit && !cuts.has(unit)) last.count++;
    else ranges.push({ start: unit, count: 1 });
  }
  return ranges;
}
