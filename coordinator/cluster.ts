import { performance } from 'node:perf_hooks';
import type { WorkerStatus } from '../shared/api.js';
import type { Clock } from '../shared/clock.js';
import { MAX_TRIALS } from '../shared/config.js';
import { Counts } from '../shared/counts.js';
import { AtelierError, assertNever, invariant } from '../shared/errors.js';
import type { ExchangeHost, LeftGradients } from '../shared/exchange.js';
import { CloseCode, LEASE_TIMEOUT_MS, MAX_WORKERS, READY_TIMEOUT_MS } from '../shared/protocol/limits.js';
import type { PartialMessage, Received, RunSpec, WorkerReport } from '../shared/protocol/messages.js';
import type { Range } from '../shared/tree.js';
import type { ClusterFigures, LeaveReason, WorkerFigures } from './cluster-figures.js';
import type { Place } from './gradient-buffers.js';
import { LostWorkers } from './lost-workers.js';
import { RateMeter } from './rate-meter.js';
import type { HeldFrame } from './round-frames.js';
import { RowServer, type RowSource } from './row-server.js';
import { Scheduler, type JobRound, type LeaseCounts } from './scheduler.js';
import type { Hello, Session, SessionListener, WorkerMessage } from './session.js';
import { SessionCredentials } from './session-credentials.js';
import type { Trace } from './trace.js';
import { Traffic } from './traffic.js';
import type { Verdict } from './trial.js';

/** How often the cluster looks for workers that owe answers for too long. */
const WATCH_INTERVAL_MS = 5_000;
/** Then they begin anew: a lease number has 32 bits. */
const MAX_LEASE_NUMBERS = 2 ** 32;

/** Addresses of this host's own processes. */
const LOOPBACK = /^(::ffff:)?127\.|^::1$/;

const LEAVE_REASONS: ReadonlyMap<number, LeaveReason> = new Map([
  [CloseCode.timeout, 'timeout'],
  [CloseCode.badFrame, 'bad_frame'],
  [CloseCode.superseded, 'superseded'],
  [CloseCode.otherNumerics, 'refused'],
  [CloseCode.unauthorized, 'unauthorized'],
  [CloseCode.overloaded, 'overloaded'],
]);

export type Answer = Extract<WorkerMessage, { type: 'partial' | 'evaluated' }>;

/** A worker that can compute for a run. */
export interface Worker {
  readonly number: number;
  readonly hello: Hello;
  /** Did it come back after its connection broke? */
  readonly resumed: boolean;
}

/** A run as the cluster sees it. */
export interface Tenant {
  readonly spec: RunSpec;
  readonly dataset: RowSource;
  /** The encoded `trial` message; asked for once for each worker. */
  trialFrame(run: number, trial: number): Buffer;
  /** The encoded `round` message of the round in work, the same bytes each time. */
  roundFrame(run: number, trial: number): HeldFrame;
  /** The round has gone to one more worker; encoding and handing it over took so long. */
  roundSent(run: number, trial: number, milliseconds: number): void;
  /** The worker has a lease of the round in work; `lease` is its number. */
  leased?(worker: Worker, trial: number, lease: Range & { readonly lease: number }): void;
  /** May a worker with this fingerprint compute for the run? Returns why not, or null. */
  refusal(worker: Worker, fingerprint: string): string | null;
  /**
   * The worker computes from now on.
   * @param preparedMs what it took to get ready: from the run's spec to its answer
   */
  joined(worker: Worker, preparedMs: number): void;
  /** A worker that had joined has other slots from now on. */
  resized(worker: Worker): void;
  /** Said only of workers that had joined. */
  left(worker: Worker, reason: string): void;
  /** Bytes of the payload that this partial should have; undefined where there is no such trial. */
  partialBytes(partial: PartialMessage): number | undefined;
  /** Where a partial's payload is received, to be answered with; null when it will not be needed. */
  placeToReceive(partial: PartialMessage): Place | null;
  /**
   * The payload of a partial that was left at an offset, to be answered with; null when it will not be needed.
   * @throws AtelierError `protocol` when there is none
   */
  placeLeft(partial: PartialMessage, offset: number, left: LeftGradients): Place | null;
  /** @throws AtelierError `protocol` for an answer that cannot be right, before anything has changed */
  answered(worker: Worker, answer: Received<Answer>): Verdict;
  warned(worker: Worker, message: string): void;
  /** The worker could not do what it was asked to. It leaves the run. */
  failed(worker: Worker, message: string): void;
}

/** What a member does for one run. */
interface Employment {
  readonly rows: RowServer;
  ready: boolean;
  readonly since: number;
  /** Trials whose rows it knows. */
  readonly trials: Set<number>;
  /** The newest round of each trial that it has the parameters of. */
  readonly rounds: Map<number, number>;
}

/** A worker that fails at a run begins it afresh; after so many failures it is left to the others. */
const MAX_FAILURES_AT_RUN = 3;

interface Member {
  worker: Worker;
  readonly session: Session;
  readonly employments: Map<number, Employment>;
  /** How often it failed, at runs that are not over. */
  readonly failures: Map<number, number>;
  /** Training rows it computes. */
  readonly rows: RateMeter;
  leaving: string | null;
  report: WorkerReport | null;
  /** What it leaves in the exchange; null for a worker that sends everything. */
  gradients: LeftGradients | null;
}

export interface ClusterCounts {
  workersLost: number;
  reconnects: number;
}

/**
 * The workers that have joined, and the leases they hold. Runs open rounds here; the cluster has them computed
 * and hands the answers back. Whoever leaves, dies, stalls or comes back, a round that was opened is answered.
 */
export class Cluster implements SessionListener {
  private readonly clock: Clock;
  private readonly exchange: ExchangeHost | null;
  private readonly scheduler = new Scheduler();
  private readonly members = new Map<number, Member>();
  private readonly tenants = new Map<number, Tenant>();
  private readonly credentials = new SessionCredentials();
  private readonly held = new Set<number>();
  private nextRun = 0;
  private nextLease = 0;
  private closedReason: string | undefined;
  /** When it looks whether a lease is overdue. */
  private nextLook: { readonly at: number; readonly cancel: () => void } | undefined;
  private cancelWatch: (() => void) | undefined;
  readonly counts: ClusterCounts = { workersLost: 0, reconnects: 0 };
  readonly traffic = new Traffic();
  readonly trace: Trace | null;
  private joins = 0;
  private readonly leaves = new Counts<LeaveReason>();
  private readonly lost = new LostWorkers<Member>();

  /**
   * @param exchange for workers of this host; without it everything is sent
   * @param trace where everything that takes time is drawn
   */
  constructor(clock: Clock, exchange: ExchangeHost | null = null, trace: Trace | null = null) {
    this.clock = clock;
    this.exchange = exchange;
    this.trace = trace;
  }

  // ---- for runs --------------------------------------------------------------------------------------------

  /** Takes in a run; every worker gets ready for it. Returns its number. */
  attach(tenant: Tenant): number {
    const run = this.nextRun++;
    this.tenants.set(run, tenant);
    for (const member of this.members.values()) this.employ(member, run, tenant);
    return run;
  }

  /** A run is over. */
  detach(run: number): void {
    if (!this.tenants.delete(run)) return;
    this.held.delete(run);
    this.exchange?.forget(run);
    for (let trial = 0; trial < MAX_TRIALS; trial++) {
      if (this.scheduler.hasJob(jobOf(run, trial))) this.scheduler.removeJob(jobOf(run, trial));
    }
    for (const member of this.members.values()) {
      member.failures.delete(run);
      member.employments.get(run)?.rows.stop();
      if (member.employments.delete(run)) member.session.send({ type: 'run-over', run });
    }
    this.pump();
  }

  addTrial(run: number, trial: number): void {
    invariant(trial < MAX_TRIALS, `a run has at most ${MAX_TRIALS} trials`);
    this.scheduler.addJob(jobOf(run, trial), run);
  }

  /**
   * A trial's next round is to be computed. `pump` sends it off.
   * @param part the units to be computed here, if not all
   */
  openRound(run: number, trial: number, round: JobRound, part?: Range): void {
    this.scheduler.open(jobOf(run, trial), round, part);
  }

  /** More units of a trial's round are to be computed here. `pump` sends them off. */
  extendRound(run: number, trial: number, part: Range): void {
    this.scheduler.extend(jobOf(run, trial), part);
  }

  /** The trial has no round for now. */
  closeRound(run: number, trial: number): void {
    this.scheduler.pause(jobOf(run, trial));
  }

  /**
   * Leaves the parameters of a trial's round for the workers of this host.
   * @returns whether it could
   */
  leaveWeights(run: number, trial: number, round: number, weights: Float32Array): boolean {
    return this.exchange?.leaveWeights(run, trial, round, weights) ?? false;
  }

  /** While a run is on hold nothing of it is leased. */
  hold(run: number, onHold: boolean): void {
    if (onHold) this.held.add(run);
    else if (this.held.delete(run)) this.scheduler.level(run);
  }

  /** Workers that compute for a run, and their slots. */
  strength(run: number): { workers: number; slots: number } {
    let workers = 0;
    let slots = 0;
    for (const { worker, employments, leaving } of this.members.values()) {
      if (employments.get(run)?.ready !== true || leaving !== null) continue;
      workers++;
      slots += worker.hello.slots;
    }
    return { workers, slots };
  }

  /**
   * The workers that are here, and those lost a short while ago.
   * @param run ready: for this run; left out: for any
   */
  workers(run?: number): WorkerStatus[] {
    const now = this.clock.monotonic();
    const here = [...this.members.values()].map((member): WorkerStatus => {
      const { worker, session, employments, leaving, rows } = member;
      const wanted = run === undefined ? [...employments.values()] : [employments.get(run)];
      // A worker that has nothing to get ready for is ready for whatever comes.
      const isReady = wanted.length === 0 || wanted.some((employment) => employment?.ready === true);
      return {
        ...shownOf(worker),
        state: leaving !== null ? 'leaving' : isReady ? 'ready' : 'joining',
        ...this.scheduler.loadOf(worker.number),
        heartbeatAgeSeconds: Math.max(0, Math.round(session.silentMs / 1000)),
        rowsPerSecond: Math.round(rows.perSecond(now)),
      };
    });
    const gone = this.lost.shownAt(now).map(({ member: { worker }, at }): WorkerStatus => {
      const heartbeatAgeSeconds = Math.round((now - at) / 1000);
      const nothing = { busySlots: 0, leases: 0, rowsPerSecond: 0 };
      return { ...shownOf(worker), state: 'lost', heartbeatAgeSeconds, ...nothing };
    });
    return [...here, ...gone];
  }

  /** Are there workers, ready or not? */
  get hasWorkers(): boolean {
    return this.members.size > 0;
  }

  /** What became of a run's leases; what is returned goes on counting until the run is detached. */
  leaseCounts(run: number): Readonly<LeaseCounts> {
    return this.scheduler.countsOf(run);
  }

  /** What is known at this moment, for people and metrics. */
  figures(): ClusterFigures {
    const now = this.clock.monotonic();
    const members = [...this.members.values()];
    const here = members.map((member) => this.figuresOf(member));
    const gone = this.lost.shownAt(now).map(({ member }) => ({
      ...this.figuresOf(member),
      ...{ state: 'lost', owedUnits: 0, bufferedBytes: 0, report: null },
    })) satisfies WorkerFigures[];
    const slots = here.reduce((sum, worker) => sum + (worker.state === 'ready' ? worker.slots : 0), 0);
    const busy = this.scheduler.busySlots;
    return {
      workers: [...here, ...gone],
      slots: { busy, idle: Math.max(0, slots - busy) },
      demand: this.scheduler.freeUnits,
      joins: this.joins,
      leaves: this.leaves.entries(),
    };
  }

  private figuresOf({ worker, session, employments, leaving, report }: Member): WorkerFigures {
    const { name, slots, versions } = worker.hello;
    const isReady = employments.size === 0 || [...employments.values()].some(({ ready }) => ready);
    return {
      ...{ number: worker.number, name, slots, versions, report, address: session.address },
      state: leaving !== null ? 'leaving' : isReady ? 'ready' : 'joining',
      silentMs: session.silentMs,
      owedUnits: this.scheduler.owedBy(worker.number),
      bufferedBytes: session.bufferedBytes,
    };
  }

  /** Slots that have something to do, of all runs. */
  get busySlots(): number {
    return this.scheduler.busySlots;
  }

  /** Leases what can be leased and sends it. Call it after rounds have been opened. */
  pump(): void {
    if (this.closedReason !== undefined) return;
    const now = this.clock.monotonic();
    const assignments = this.scheduler.assign(now, (group) => this.held.has(group));
    for (const { worker, job, round, start, count } of assignments) {
      const run = Math.floor(job / MAX_TRIALS);
      const trial = job % MAX_TRIALS;
      const member = this.members.get(worker);
      const tenant = this.tenants.get(run);
      const employment = member?.employments.get(run);
      invariant(member && tenant && employment, 'leases go to members, for runs that are here');
      const { session } = member;
      session.together(() => {
        if (!employment.trials.has(trial)) {
          employment.trials.add(trial);
          session.sendFrame('trial', tenant.trialFrame(run, trial));
        }
        if (employment.rounds.get(trial) !== round) {
          employment.rounds.set(trial, round);
          const before = performance.now();
          const frame = tenant.roundFrame(run, trial);
          frame.hold();
          const bytes = member.gradients === null ? frame.full : frame.light;
          session.sendFrame('round', bytes, () => frame.release());
          tenant.roundSent(run, trial, performance.now() - before);
        }
        const lease = this.nextLease++ % MAX_LEASE_NUMBERS;
        session.send({ type: 'lease', run, trial, round, start, count, lease });
        tenant.leased?.(member.worker, trial, { start, count, lease });
      });
    }
    // Without new leases the next deadline does not come earlier than the one that is waited for.
    if (assignments.length === 0 && this.nextLook !== undefined) return;
    const deadline = this.scheduler.nextDeadline(now);
    // Steps come more often than deadlines: who looks before this one will find it.
    if (deadline === undefined || (this.nextLook !== undefined && this.nextLook.at <= deadline)) return;
    this.nextLook?.cancel();
    const cancel = this.clock.after(deadline - now + 1, () => {
      this.nextLook = undefined;
      this.pump();
    });
    this.nextLook = { at: deadline, cancel };
  }

  /** Sends everyone home. */
  close(reason: string): void {
    if (this.closedReason !== undefined) return;
    this.closedReason = reason;
    this.nextLook?.cancel();
    this.cancelWatch?.();
    for (const { session } of this.members.values()) {
      session.send({ type: 'finished', reason });
      session.close(CloseCode.finished, reason);
    }
  }

  // ---- SessionListener -------------------------------------------------------------------------------------

  greeted(session: Session, hello: Hello): ReturnType<SessionListener['greeted']> {
    if (this.closedReason !== undefined) return { refused: this.closedReason };
    if (this.members.size >= MAX_WORKERS) return { refused: `${MAX_WORKERS} workers are enough` };
    const { credential, resumed } = this.credentials.renew(hello.credential, (each) =>
      this.members.has(each),
    );
    const number = credential.worker;
    // Its old connection may not have noticed yet that it is dead.
    this.members.get(number)?.session.close(CloseCode.superseded, 'the worker has a newer connection');
    if (resumed) this.counts.reconnects++;
    const worker: Worker = { number, hello, resumed };
    this.members.set(number, {
      ...{
        worker,
        session,
        employments: new Map(),
        failures: new Map(),
        leaving: null,
        report: null,
        gradients: null,
      },
      rows: new RateMeter(this.clock.monotonic()),
    });
    this.joins++;
    // A process that was started again has its name, not its number.
    this.lost.found((other, lost) => other === number || lost.worker.hello.name === hello.name);
    const isHere = session.address !== null && LOOPBACK.test(session.address);
    const exchange = isHere ? (this.exchange?.offer ?? null) : null;
    return { credential, resumed, exchange };
  }

  joined(session: Session): void {
    const member = this.memberOf(session);
    for (const [run, tenant] of this.tenants) this.employ(member, run, tenant);
    this.cancelWatch ??= this.clock.after(WATCH_INTERVAL_MS, () => this.watch());
  }

  received(session: Session, received: Received<WorkerMessage>): void {
    const member = this.memberOf(session);
    const { message } = received;
    switch (message.type) {
      case 'exchange':
        this.onExchange(member);
        return;
      case 'ready':
        this.onReady(member, message.run, message.fingerprint);
        break;
      case 'need-rows':
        member.employments.get(message.run)?.rows.request(received.payload);
        break;
      case 'partial':
      case 'evaluated':
        this.onAnswer(member, { message, payload: received.payload });
        break;
      case 'leaving':
        member.leaving = message.reason;
        this.scheduler.drain(member.worker.number);
        this.letGo(member);
        break;
      case 'slots':
        this.onSlots(member, message.slots);
        break;
      case 'returned':
        this.scheduler.returned(
          member.worker.number,
          jobOf(message.run, message.trial),
          message.round,
          message,
        );
        this.letGo(member);
        break;
      case 'report':
        member.report = message.report;
        // Nothing has changed that leases depend on.
        return;
      case 'warning':
        for (const [, tenant] of this.tenantsOf(member, message.run)) {
          tenant.warned(member.worker, message.message);
        }
        break;
      case 'failed':
        this.onFailed(member, message.run, message.message);
        break;
      default:
        assertNever(message);
    }
    this.pump();
  }

  partialBytes(partial: PartialMessage): number | undefined {
    return partial.leftAt === null ? this.tenants.get(partial.run)?.partialBytes(partial) : undefined;
  }

  placeToReceive(partial: PartialMessage): Place | null {
    return this.tenants.get(partial.run)?.placeToReceive(partial) ?? null;
  }

  closed(session: Session, reason: string): void {
    const member = [...this.members.values()].find((candidate) => candidate.session === session);
    if (member === undefined) return;
    const { number } = member.worker;
    this.members.delete(number);
    member.gradients?.close();
    if (this.closedReason !== undefined) return;
    this.scheduler.leave(number);
    if (member.leaving === null) this.counts.workersLost++;
    this.rememberLoss(member);
    for (const [run, tenant] of this.tenantsOf(member)) {
      if (member.employments.get(run)?.ready === true) tenant.left(member.worker, member.leaving ?? reason);
    }
    this.pump();
  }

  // ---- members ---------------------------------------------------------------------------------------------

  private employ(member: Member, run: number, tenant: Tenant): void {
    if (member.leaving !== null) return;
    member.employments.set(run, {
      rows: new RowServer(tenant.dataset, run, member.session),
      ready: false,
      since: this.clock.monotonic(),
      trials: new Set(),
      rounds: new Map(),
    });
    member.session.send({ type: 'run', run, spec: tenant.spec });
  }

  private onExchange(member: Member): void {
    const { number } = member.worker;
    const epoch = this.credentials.epochOf(number);
    if (this.exchange === null || epoch === undefined || member.gradients !== null) {
      throw new AtelierError('protocol', 'an exchange that was not offered');
    }
    member.gradients = this.exchange.gradientsOf({ worker: number, epoch });
  }

  private onReady(member: Member, run: number, fingerprint: string): void {
    const employment = member.employments.get(run);
    const tenant = this.tenants.get(run);
    // The run may have ended while the worker got ready for it.
    if (employment === undefined || tenant === undefined || employment.ready) return;
    const { worker, session } = member;
    const refusal = tenant.refusal(worker, fingerprint);
    if (refusal !== null) {
      session.close(CloseCode.otherNumerics, refusal);
      return;
    }
    employment.ready = true;
    this.scheduler.join(worker.number, worker.hello.slots, run);
    tenant.joined(worker, Math.round(this.clock.monotonic() - employment.since));
  }

  private onSlots(member: Member, slots: number): void {
    const { worker } = member;
    member.worker = { ...worker, hello: { ...worker.hello, slots } };
    this.scheduler.resize(worker.number, slots);
    for (const [run, tenant] of this.tenantsOf(member)) {
      if (member.employments.get(run)?.ready === true) tenant.resized(member.worker);
    }
  }

  /** A worker failed: at one run, for which it computes no more, or altogether. */
  private onFailed(member: Member, run: number | null, message: string): void {
    for (const [concerned, tenant] of this.tenantsOf(member, run)) {
      // First, so that the run that may end by it does not find it there.
      const wasReady = run !== null && this.dismiss(member, concerned);
      tenant.failed(member.worker, message);
      if (wasReady) tenant.left(member.worker, `failed: ${message}`);
      const failures = (member.failures.get(concerned) ?? 0) + 1;
      member.failures.set(concerned, failures);
      const mayTryAgain = run !== null && failures < MAX_FAILURES_AT_RUN && this.tenants.has(concerned);
      if (mayTryAgain) this.employ(member, concerned, tenant);
    }
    this.letGo(member);
  }

  /** The worker has no part in the run any more. Returns whether it had one. */
  private dismiss(member: Member, run: number): boolean {
    const employment = member.employments.get(run);
    if (employment === undefined) return false;
    employment.rows.stop();
    member.employments.delete(run);
    this.scheduler.quit(member.worker.number, run);
    member.session.send({ type: 'run-over', run });
    return employment.ready;
  }

  private onAnswer(member: Member, answer: Received<Answer>): void {
    const { message } = answer;
    const tenant = this.tenants.get(message.run);
    // The run may have ended while the worker computed for it.
    if (tenant === undefined) return;
    if (message.trial >= MAX_TRIALS || !this.scheduler.hasJob(jobOf(message.run, message.trial))) {
      throw new AtelierError('protocol', `there is no trial ${message.trial}`);
    }
    const place = this.takeLeft(member, tenant, answer);
    const payload = place?.bytes ?? answer.payload;
    let verdict: Verdict;
    try {
      verdict = tenant.answered(member.worker, { message, payload });
    } finally {
      place?.giveBack();
    }
    if (verdict === 'invalid') {
      throw new AtelierError('protocol', 'an answer to nothing that was asked');
    }
    if (message.type === 'partial') member.rows.add(message.rows, this.clock.monotonic());
    const units =
      message.type === 'partial'
        ? { start: message.start, count: message.count }
        : { start: message.chunk, count: 1 };
    const job = jobOf(message.run, message.trial);
    if (this.tenants.has(message.run)) {
      const used = verdict === 'used';
      this.scheduler.answered(member.worker.number, job, message.round, units, used, this.clock.monotonic());
    }
    this.letGo(member);
  }

  /** What was left for an answer; null when nothing was, or nobody needs it any more. */
  private takeLeft(
    { gradients }: Member,
    tenant: Tenant,
    { message, payload }: Received<Answer>,
  ): Place | null {
    if (message.type !== 'partial' || message.leftAt === null) return null;
    if (gradients === null || payload.byteLength > 0) {
      throw new AtelierError('protocol', 'a gradient left where there is no exchange');
    }
    const from = this.trace?.now() ?? 0;
    const place = tenant.placeLeft(message, message.leftAt, gradients);
    this.trace?.did('read', from, { trial: message.trial });
    return place;
  }

  /** A worker that wants to leave and owes nothing may go. */
  private letGo(member: Member): void {
    if (member.leaving === null || this.scheduler.isBusy(member.worker.number)) return;
    member.session.send({ type: 'finished', reason: member.leaving });
    member.session.close(CloseCode.finished, member.leaving);
  }

  private watch(): void {
    const now = this.clock.monotonic();
    for (const number of this.scheduler.stuck(now, LEASE_TIMEOUT_MS)) {
      const why = `owed an answer for ${LEASE_TIMEOUT_MS / 1000} s`;
      this.members.get(number)?.session.close(CloseCode.timeout, why);
    }
    for (const { session, employments } of this.members.values()) {
      for (const { ready, since } of employments.values()) {
        if (ready || now - since < READY_TIMEOUT_MS) continue;
        session.close(CloseCode.timeout, `was not ready after ${READY_TIMEOUT_MS / 1000} s`);
      }
    }
    this.cancelWatch =
      this.members.size === 0 ? undefined : this.clock.after(WATCH_INTERVAL_MS, () => this.watch());
  }

  /** A worker has gone: counted, and shown as lost unless it was asked to go or sent away. */
  private rememberLoss(member: Member): void {
    const { worker, session, leaving } = member;
    const byCode = LEAVE_REASONS.get(session.closeCode ?? 0) ?? 'lost';
    const reason = leaving !== null ? 'asked' : byCode;
    this.leaves.add(reason);
    if (reason !== 'lost' && reason !== 'timeout') return;
    this.lost.add(worker.number, member, this.clock.monotonic());
  }

  /** @param only of this run; null: of all */
  private *tenantsOf(member: Member, only: number | null = null): Iterable<[number, Tenant]> {
    for (const run of [...member.employments.keys()]) {
      if (only !== null && run !== only) continue;
      const tenant = this.tenants.get(run);
      if (tenant !== undefined) yield [run, tenant];
    }
  }

  private memberOf(session: Session): Member {
    const member = session.worker === undefined ? undefined : this.members.get(session.worker);
    invariant(member?.session === session, 'a session that speaks is a member');
    return member;
  }
}

const shownOf = ({
  number,
  hello: { name, host, slots },
}: Worker): Pick<WorkerStatus, 'worker' | 'name' | 'host' | 'slots'> => ({
  worker: number,
  name,
  host,
  slots,
});

/** The jobs of a run lie beside each other. */
const jobOf = (run: number, trial: number): number => run * MAX_TRIALS + trial;
