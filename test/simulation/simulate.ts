import { setImmediate } from 'node:timers/promises';
import { StepLog } from '../../coordinator/step-log.js';
import { messageOf } from '../../shared/errors.js';
import type { Summary } from '../../shared/summary.js';
import { MemoryFiles, patchNode, useFiles } from './memory-files.js';
import type { MemoryExchange } from './memory-exchange.js';
import { COORDINATOR, Network } from './network.js';
import { scenarios, type Scenario } from './scenario.js';
import { RUN_PATH, SimCoordinator, type CoordinatorEnd } from './sim-coordinator.js';
import { SimRelay } from './sim-relay.js';
import { isPlannedFailure, SimWorker } from './sim-worker.js';
import { Chance, World } from './world.js';

/** A schedule that needs more than these hangs. */
const MAX_HAPPENINGS = 300_000;
const MAX_SIMULATED_MS = 4 * 3_600_000;
/** Lives of the coordinator after which nothing disturbs it. */
const MAX_LIVES = 6;

export type Fault =
  | 'kill'
  | 'stall'
  | 'cut'
  | 'silence'
  | 'hold'
  | 'join'
  | 'drain'
  | 'break-slot'
  | 'coordinator-kill'
  | 'coordinator-stop'
  | 'coordinator-stall'
  | 'damage'
  | 'relay-kill'
  | 'relay-stall'
  | 'relay-drain';

/** Relays by their addresses, and whom each joins; most schedules have none. */
const TOPOLOGIES: readonly (readonly (readonly [address: string, above: string])[])[] = [
  [],
  [],
  [],
  [['relay-0', COORDINATOR]],
  [
    ['relay-0', COORDINATOR],
    ['relay-1', COORDINATOR],
  ],
  [
    ['relay-0', COORDINATOR],
    ['relay-1', 'relay-0'],
  ],
];

export interface Outcome {
  readonly seed: number;
  /** What was wrong; null if nothing was. */
  readonly problem: string | null;
  readonly faults: Readonly<Partial<Record<Fault, number>>>;
  /** Runs that stopped for want of workers before they were resumed. */
  readonly starved: number;
  readonly happenings: number;
  readonly simulatedMs: number;
  readonly log: readonly string[];
}

/** One schedule, from its seed to its verdict. */
class Simulation {
  private readonly seed: number;
  private readonly chance: Chance;
  private readonly world = new World();
  private readonly network: Network;
  private readonly files = new MemoryFiles();
  private readonly scenario: Scenario;
  private readonly slow: number;
  private readonly taskMs: number;
  private workers: SimWorker[] = [];
  /** What has to do with relays follows from it alone: schedules without relays are what they were before there were any. */
  private readonly relayChance: Chance;
  private readonly topology: (typeof TOPOLOGIES)[number];
  private relays: SimRelay[] = [];
  private relayFaultsLeft: number;
  private readonly workersWanted: number;
  private minWorkers: number;
  private coordinator: SimCoordinator;
  private lives = 1;
  private faultsLeft: number;
  private readonly faults: Partial<Record<Fault, number>> = {};
  private starved = 0;
  private breaks = 0;
  private born = 0;
  private problem: string | null = null;
  private end: CoordinatorEnd | undefined;
  private readonly log: string[] = [];

  constructor(seed: number) {
    this.seed = seed;
    const chance = new Chance(seed);
    this.chance = chance;
    this.scenario = chance.pick(scenarios());
    this.network = new Network({
      world: this.world,
      chance,
      delayMs: chance.pick([0.5, 5, 50]),
      duplicates: chance.pick([0, 0.05, 0.3]),
    });
    this.taskMs = chance.pick([1, 20, 200]);
    this.slow = chance.pick([1, 2, 10]);
    this.workersWanted = chance.int(1, 5);
    this.minWorkers = chance.int(1, this.workersWanted);
    this.faultsLeft = chance.int(0, 14);
    this.relayChance = new Chance(seed ^ 0x7e1a);
    this.topology = this.relayChance.pick(TOPOLOGIES);
    // A relay is one worker.
    if (this.topology.length > 0) this.minWorkers = 1;
    this.relayFaultsLeft = this.topology.length === 0 ? 0 : this.relayChance.int(0, 6);
    useFiles(this.files);
    this.files.makeFolder('/simulated', true);
    this.coordinator = this.startCoordinator();
    for (let i = 0; i < this.workersWanted; i++) this.startWorker(chance.between(0, 3_000));
    for (const [address, above] of this.topology) this.startRelay(address, above);
    this.planFault();
    this.planRelayFault();
  }

  async run(): Promise<Outcome> {
    const onRejection = (error: unknown): void => this.bug('a promise was rejected', error);
    process.on('unhandledRejection', onRejection);
    try {
      while (this.problem === null && this.end === undefined) {
        if (this.world.happened > MAX_HAPPENINGS || this.world.now > 1_000_000 + MAX_SIMULATED_MS) {
          this.problem = `it hangs: ${this.world.happened} happenings, ${Math.round(this.world.now - 1_000_000)} ms`;
        } else if (!this.world.step()) {
          this.problem = 'it hangs: nothing will ever happen';
        }
        // What hangs on promises happens before the next happening.
        await setImmediate();
      }
    } catch (error) {
      this.bug('a handler threw', error);
    } finally {
      process.off('unhandledRejection', onRejection);
    }
    if (this.problem === null && this.end !== undefined) this.problem = this.judge(this.end.summary);
    const { seed, problem, faults, starved, world, log } = this;
    const simulatedMs = world.now - 1_000_000;
    return { seed, problem, faults, starved, happenings: world.happened, simulatedMs, log };
  }

  // ---- processes -------------------------------------------------------------------------------------------

  private startCoordinator(): SimCoordinator {
    const { world, chance, network, files, scenario } = this;
    return new SimCoordinator({
      ...{ world, chance, network, files, scenario },
      minWorkers: this.minWorkers,
      minWorkersToGoOn: this.minWorkers,
      onEnd: (end) => this.onRunEnd(end),
      onBug: (error) => this.bug('the coordinator threw', error),
    });
  }

  private onRunEnd(end: CoordinatorEnd): void {
    const { status, error } = end.end;
    this.note(`the run ended: ${status} ${error?.message ?? ''}`);
    if (status === 'done') {
      this.end = end;
      return;
    }
    const reason = error?.message ?? '';
    const starved = /^fewer than \d+ workers for/.test(reason);
    const failedOften = /a simulated slot broke/.test(reason) && this.breaks > 0;
    if (status === 'failed' && !starved && !failedOften) {
      this.problem = `it failed: ${reason}`;
      return;
    }
    if (starved) {
      const alive = this.workers.length;
      if (this.faultsLeft === 0 && alive >= this.minWorkers && this.lives > MAX_LIVES) {
        this.problem = `it starved with ${alive} of ${this.minWorkers} workers`;
        return;
      }
      this.starved++;
    }
    this.replaceCoordinator(this.chance.between(10, 5_000));
  }

  private replaceCoordinator(delayMs: number): void {
    this.coordinator.die();
    if (this.lives++ >= MAX_LIVES) this.faultsLeft = this.relayFaultsLeft = 0;
    this.world.after(delayMs, () => {
      this.note('the coordinator starts again');
      this.coordinator = this.startCoordinator();
      while (this.workers.length < this.minWorkers) this.startWorker(this.chance.between(0, 1_000));
    });
  }

  private startWorker(delayMs: number): void {
    const { world, chance, network, scenario } = this;
    const name = `w${this.born++}`;
    const isHere = chance.hits(0.5);
    const above = this.relayChance.pick([...this.topology.map(([address]) => address), ...this.atTheTop]);
    const options = {
      ...{ world, chance, network, scenario, name, above },
      slots: chance.int(1, 3),
      taskMs: this.taskMs * (chance.hits(0.25) ? this.slow : 1),
      hasData: chance.hits(0.5),
      exchange: () => (isHere ? this.exchangeOf(above) : null),
      onExit: (worker: SimWorker, error: Error | null) => this.onWorkerExit(worker, error),
    };
    // A place is taken at once, so that it is counted.
    const worker = new SimWorker(options);
    worker.process.stop(delayMs);
    this.workers.push(worker);
  }

  private exchangeOf(address: string): MemoryExchange | null {
    if (address === COORDINATOR) return this.coordinator.exchange;
    return this.relays.find(({ options }) => options.address === address)?.exchange ?? null;
  }

  /** Somebody always starts relays again. */
  private startRelay(address: string, above: string): void {
    const { world, network, scenario, relayChance: chance } = this;
    const relay = new SimRelay({
      ...{ world, chance, network, scenario, address, above },
      minWorkers: 1,
      hasData: chance.hits(0.3),
      onExit: (exited, error) => {
        this.note(`${address} exits: ${error?.message ?? 'in peace'}`);
        if (error !== null) this.bug(`${address} failed`, error);
        this.replaceRelay(exited);
      },
    });
    this.relays.push(relay);
  }

  private replaceRelay(relay: SimRelay): void {
    this.relays = this.relays.filter((other) => other !== relay);
    const { address, above } = relay.options;
    this.world.after(this.relayChance.between(0, 8_000), () => this.startRelay(address, above));
  }

  private onWorkerExit(worker: SimWorker, error: Error | null): void {
    this.note(`${worker.name} exits: ${error?.message ?? 'in peace'}`);
    this.workers = this.workers.filter((other) => other !== worker);
    if (error !== null && !isPlannedFailure(error)) this.bug(`${worker.name} failed`, error);
    this.replaceWorker();
  }

  /** Somebody starts workers again; not always, not at once. */
  private replaceWorker(): void {
    const needed = this.workers.length < this.minWorkers;
    if (this.end !== undefined || this.workers.length >= this.workersWanted) return;
    if (!needed && this.chance.hits(0.4)) return;
    const delayMs = this.chance.hits(0.15) ? 100_000 : this.chance.between(0, 8_000);
    this.world.after(delayMs, () => this.startWorker(0));
  }

  /** With relays few workers join the coordinator itself. */
  private get atTheTop(): readonly string[] {
    return this.topology.length === 0 || this.relayChance.hits(0.3) ? [COORDINATOR] : [];
  }

  // ---- faults ----------------------------------------------------------------------------------------------

  private planFault(): void {
    if (this.faultsLeft <= 0) return;
    this.faultsLeft--;
    const meanMs = this.taskMs * 8 + 100;
    const delayMs = this.chance.hits(0.1)
      ? this.chance.between(0, 20_000)
      : this.chance.between(0, 2 * meanMs);
    this.world.after(delayMs, () => {
      if (this.end !== undefined) return;
      this.inject();
      this.planFault();
    });
  }

  private inject(): void {
    const { chance, network } = this;
    const worker = this.workers.length > 0 ? chance.pick(this.workers) : undefined;
    const link = network.open.length > 0 ? chance.pick(network.open) : undefined;
    const length = chance.pick([50, 500, 5_000, 16_000, 40_000]);
    const fault = chance.pick<Fault>([
      ...(['kill', 'stall', 'stall', 'cut', 'cut', 'silence', 'hold', 'join', 'drain'] as const),
      ...([
        'break-slot',
        'coordinator-kill',
        'coordinator-kill',
        'coordinator-stop',
        'coordinator-stall',
        'damage',
      ] as const),
    ]);
    this.note(`fault: ${fault} ${worker?.name ?? ''} ${length}`);
    switch (fault) {
      case 'kill':
        if (worker === undefined) return;
        this.workers = this.workers.filter((other) => other !== worker);
        worker.process.die();
        this.replaceWorker();
        break;
      case 'stall':
        worker?.process.stop(length);
        break;
      case 'cut':
        link?.cut();
        break;
      case 'silence':
        if (link !== undefined) link.isSilent = true;
        break;
      case 'hold':
        link?.hold(length, chance.pick([['client'], ['server'], ['client', 'server']] as const));
        break;
      case 'join':
        if (this.workers.length < 6) this.startWorker(0);
        break;
      case 'drain':
        if (worker !== undefined && worker.process.stoppedUntil <= this.world.now) worker.drain();
        break;
      case 'break-slot':
        if (worker === undefined || this.breaks >= 2) return;
        this.breaks++;
        worker.pool.isBroken = true;
        break;
      case 'coordinator-kill':
      case 'damage':
        if (!this.coordinator.process.isAlive) return;
        this.replaceCoordinator(chance.between(10, 20_000));
        if (fault === 'damage') this.damage();
        break;
      case 'coordinator-stop':
        if (this.coordinator.process.isAlive && this.coordinator.process.stoppedUntil <= this.world.now) {
          this.coordinator.stop();
        }
        break;
      case 'coordinator-stall':
        this.coordinator.process.stop(length);
        break;
    }
    this.faults[fault] = (this.faults[fault] ?? 0) + 1;
  }

  private planRelayFault(): void {
    if (this.relayFaultsLeft <= 0) return;
    this.relayFaultsLeft--;
    const { relayChance: chance } = this;
    this.world.after(chance.between(0, 2 * (this.taskMs * 12 + 200)), () => {
      if (this.end !== undefined) return;
      if (this.relays.length > 0) this.injectInto(chance.pick(this.relays));
      this.planRelayFault();
    });
  }

  private injectInto(relay: SimRelay): void {
    const { relayChance: chance } = this;
    const fault = chance.pick(['relay-kill', 'relay-stall', 'relay-drain'] as const);
    this.note(`fault: ${fault} ${relay.options.address}`);
    switch (fault) {
      case 'relay-kill':
        relay.die();
        this.replaceRelay(relay);
        break;
      case 'relay-stall':
        relay.process.stop(chance.pick([50, 500, 5_000, 16_000, 40_000]));
        break;
      case 'relay-drain':
        if (relay.process.stoppedUntil <= this.world.now) relay.drain();
        break;
    }
    this.faults[fault] = (this.faults[fault] ?? 0) + 1;
  }

  /** The newest checkpoint of some trial is cut off, or has a flipped bit. */
  private damage(): void {
    const { chance, files } = this;
    const found = files.paths.filter((path) => /\/\d{10}\.checkpoint$/.test(path)).sort();
    const folders = [...new Set(found.map((path) => path.replace(/[^/]*$/, '')))];
    if (folders.length === 0) return;
    const folder = chance.pick(folders);
    const path = found.filter((each) => each.startsWith(folder)).at(-1);
    if (path === undefined) return;
    const bytes = Buffer.from(files.read(path));
    if (chance.hits(0.5)) files.write(path, bytes.subarray(0, chance.int(0, bytes.byteLength - 1)));
    else {
      const at = chance.int(0, bytes.byteLength - 1);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << chance.int(0, 7));
      files.write(path, bytes);
    }
  }

  // ---- verdict ---------------------------------------------------------------------------------------------

  private judge(summary: Summary): string | null {
    const { scenario, files } = this;
    const wrong = (what: string, is: unknown, should: unknown): string | null =>
      JSON.stringify(is) === JSON.stringify(should)
        ? null
        : `${what}: ${JSON.stringify(is)}, not ${JSON.stringify(should)}`;
    const { config } = scenario;
    for (const [i, expected] of scenario.expected.entries()) {
      const trial = summary.trials[i];
      const plan = scenario.plans(() => 0)[i];
      if (trial === undefined || plan === undefined) return `trial ${i} is missing`;
      const fold = plan.fold;
      const shards = trial.ledger.shards.map(({ rows }) => rows);
      const path = fold === null ? RUN_PATH : `${RUN_PATH}/folds/${fold}`;
      const problem =
        wrong(
          `trial ${i}: epochs`,
          trial.epochs.map(({ loss, accuracy, valLoss, valAccuracy, rows, weightsSha256 }) => ({
            ...{ loss, accuracy, valLoss, valAccuracy, rows, weightsSha256 },
          })),
          expected.epochs,
        ) ??
        wrong(`trial ${i}: weights`, trial.weightsSha256, expected.weightsSha256) ??
        wrong(`trial ${i}: test loss`, trial.test?.loss ?? null, expected.testLoss) ??
        wrong(`trial ${i}: ledger epochs`, trial.ledger.epochs, config.epochs) ??
        wrong(
          `trial ${i}: ledger rows`,
          shards,
          shards.map((_, shard) => plan.shards.shardSize(shard)),
        ) ??
        wrong(`trial ${i}: steps`, [...StepLog.read(`${path}/step-losses.f64`)], expected.steps);
      if (problem !== null) return problem;
    }
    const lines = files.read(`${RUN_PATH}/metrics.jsonl`).toString().trim().split('\n');
    return wrong('lines of metrics', lines.length, scenario.expected.length * config.epochs);
  }

  private bug(what: string, error: unknown): void {
    this.problem ??= `${what}: ${error instanceof Error ? (error.stack ?? '') : messageOf(error)}`;
  }

  private note(text: string): void {
    this.log.push(`${Math.round(this.world.now - 1_000_000)} ms: ${text}`);
  }
}

/** Simulates one seed. Only one at a time: it has Node's file system. */
export async function simulate(seed: number): Promise<Outcome> {
  const undo = patchNode();
  try {
    return await new Simulation(seed).run();
  } finally {
    undo();
  }
}
