/**
 * One simulated training: the real coordinator and worker classes, under simulated time, on a simulated network, with
 * faults drawn from one seed.
 */
import { Cluster } from '../../coordinator/cluster.js';
import { findResumption } from '../../coordinator/resumption.js';
import { Run, type RunEnd } from '../../coordinator/run.js';
import { Session } from '../../coordinator/session.js';
import { planTrials } from '../../coordinator/trial-plan.js';
import type { Round, TrialEffect } from '../../coordinator/trial.js';
import type { RunConfig } from '../../shared/config.js';
import { addGradientSums, type GradientSum } from '../../shared/gradient-sum.js';
import type { SessionCredential } from '../../shared/protocol/messages.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { rowDigest } from '../../shared/row-digest.js';
import type { Summary } from '../../shared/summary.js';
import { TreeSum } from '../../shared/tree.js';
import { backoffMs } from '../../worker/backoff.js';
import { WorkerMemory } from '../../worker/run-work.js';
import { WorkerSession } from '../../worker/session.js';
import { IGNORE_ALL } from '../support/observers.js';
import { MemoryJournal } from './memory-journal.js';
import { ProcessClock, SimClock } from './sim-clock.js';
import { SimNetwork, type Connection } from './sim-network.js';
import { DATASET, MODEL, toyConfig, toyEvaluate, toyGradient, ToyPool } from './toy.js';

/** No training takes longer, in simulated milliseconds; a schedule that does hangs. */
const MAX_MS = 30 * 60_000;
/** Faults happen within this time from the start. */
const FAULTS_MS = 1_000;
const BACKOFF = { baseMs: 50, maxMs: 2_000 };
const VERSIONS = { atelier: 'sim', node: 'sim', tensorflow: 'sim' };
const FAULTS = [
  'kill',
  'vanish',
  'stall',
  'break',
  'swallow',
  'join',
  'drain',
  'coordinator',
  'damage',
] as const;

export interface Outcome {
  readonly seed: number;
  readonly summary: Summary;
  readonly faults: readonly string[];
  /** What is wrong; empty for a good schedule. */
  readonly problems: readonly string[];
  readonly simulatedMs: number;
}

const streamOf = (seed: number, shard: number): RandomStream =>
  new RandomStream({ seed, purpose: Purpose.probe, trial: 1, epoch: 0, shard });

/** The config of a seed: one of a few, so that their references are computed once. */
export function configOf(seed: number): RunConfig {
  const shapes = [
    { shards: 1, batchSize: 8 },
    { shards: 4, batchSize: 12 },
    { shards: 6, batchSize: 18 },
    { shards: 8, batchSize: 16 },
  ];
  const shape = shapes[seed % shapes.length] as (typeof shapes)[number];
  const folds = [null, null, 2, 3][Math.floor(seed / shapes.length) % 4] ?? null;
  const finalFit = folds === 2;
  const foldConcurrency = folds === 3 ? 2 : null;
  return toyConfig({
    ...shape,
    folds,
    finalFit,
    foldConcurrency,
    epochs: 2,
    checkpointSteps: 2,
    waitSeconds: 120,
  });
}

// ---- the reference: one loop, no cluster ---------------------------------------------------------------------

const references = new Map<string, Summary['trials']>();

/** What the config comes to without any cluster. */
export function referenceOf(config: RunConfig): Summary['trials'] {
  const key = JSON.stringify(config);
  const known = references.get(key);
  if (known !== undefined) return known;
  const plans = planTrials({ config, model: MODEL, dataset: DATASET, now: () => 0 });
  const summaries = plans.map(({ make, shards, validation, trial: index }) => {
    const trial = make();
    const answer = (round: Round): TrialEffect[] => {
      if (round.kind === 'evaluate') {
        const rows = round.split === 'test' ? testRows() : validation;
        let effects: TrialEffect[] = [];
        for (let chunk = 0; chunk < round.units; chunk++) {
          const part = rows.slice(chunk * 250, (chunk + 1) * 250);
          const result = toyEvaluate(trial.currentWeights, part, DATASET.images, DATASET.labels);
          effects = trial.receiveChunk(round.round, chunk, { rows: part.length, ...result }).effects;
        }
        return effects;
      }
      const tree = new TreeSum<GradientSum>({ start: 0, count: round.units }, addGradientSums);
      const digests: [number, number][] = [];
      let total: GradientSum | undefined;
      for (let shard = 0; shard < round.units; shard++) {
        const order = shards.epochOrder(config.seed, index, round.epoch, shard);
        const { microBatch } = shards;
        const rows = order.slice(round.stepInEpoch * microBatch, (round.stepInEpoch + 1) * microBatch);
        const address = {
          seed: config.seed,
          purpose: Purpose.dropout,
          trial: index,
          epoch: round.epoch,
          shard,
        };
        const words = new RandomStream(address, round.stepInEpoch);
        const seed = Int32Array.of(words.uint32(), words.uint32());
        const values = new Float32Array(MODEL.layout.size);
        const figures = toyGradient(trial.currentWeights, rows, seed, DATASET.images, values);
        digests.push(rowDigest(rows));
        const sum = { rows: rows.length, ...figures, values: rows.length === 0 ? null : values };
        total = tree.add({ start: shard, count: 1 }, sum);
      }
      if (total === undefined) throw new Error('a step has a sum');
      return trial.receivePartial(round.round, { start: 0, count: round.units }, total, digests).effects;
    };
    let effects = trial.start();
    for (;;) {
      const next = effects.find((effect) => effect.type === 'compute');
      if (next === undefined) break;
      effects = answer(next.round);
    }
    return trial.summary();
  });
  references.set(key, summaries);
  return summaries;
}

const testRows = (): Uint32Array =>
  Uint32Array.from({ length: DATASET.info.testRows }, (_, i) => DATASET.info.trainRows + i);

// ---- the cluster ---------------------------------------------------------------------------------------------

class SimWorker {
  readonly process: ProcessClock;
  private readonly world: World;
  private readonly memory: WorkerMemory;
  private readonly name: string;
  private readonly slots: number;
  private session: WorkerSession | undefined;
  private credential: SessionCredential | null = null;
  connection: Connection | undefined;
  leaving = false;
  gone = false;
  stalled = false;

  constructor(world: World, id: number) {
    const { random } = world;
    this.world = world;
    this.name = `worker-${id}`;
    this.slots = 1 + random.below(3);
    this.process = new ProcessClock(world.clock);
    const rowMs = [0.2, 0.5, 1, 5][random.below(4)] as number;
    const pool = new ToyPool(this.process, streamOf(world.seed, 100 + id), this.slots, rowMs);
    this.memory = new WorkerMemory(pool, random.below(3) === 0 ? DATASET : null);
    this.open(0);
  }

  private open(failures: number): void {
    const { world, process } = this;
    let joined = false;
    this.session = new WorkerSession({
      url: 'ws://simulated:1',
      token: null,
      hello: {
        ...{ name: this.name, host: 'sim', pid: 1, slots: this.slots, versions: VERSIONS },
        credential: this.credential,
      },
      memory: this.memory,
      clock: process,
      onJoined: (credential) => {
        this.credential = credential;
        joined = true;
      },
      connect: () => world.network.connect(process, (connection) => (this.connection = connection)),
    });
    this.session.ended.then(
      (end) => {
        if (process.isDead) return;
        if (end.kind === 'finished' || this.leaving) this.gone = true;
        else {
          const attempt = joined ? 1 : failures + 1;
          process.after(backoffMs(attempt, world.random.uniform(), BACKOFF), () => this.open(attempt));
        }
      },
      (error: unknown) => world.problem(`${this.name} ended with ${String(error)}`),
    );
  }

  get isAlive(): boolean {
    return !this.process.isDead && !this.gone && !this.leaving;
  }

  /** SIGKILL; silently: with its host. */
  kill(silently: boolean): void {
    this.process.die();
    this.connection?.died(this.connection.worker, silently);
  }

  stall(ms: number): void {
    if (this.stalled) return;
    this.stalled = true;
    this.process.stop();
    this.world.clock.after(ms, () => {
      this.stalled = false;
      this.process.resume();
    });
  }

  drain(): void {
    this.leaving = true;
    this.session?.drain('SIGTERM');
  }
}

class World {
  readonly seed: number;
  readonly clock = new SimClock();
  readonly random: RandomStream;
  readonly network: SimNetwork;
  readonly faults: string[] = [];
  readonly problems: string[] = [];
  private readonly config: RunConfig;
  private readonly minWorkers: number;
  private readonly journal: MemoryJournal;
  private readonly workers: SimWorker[] = [];
  private coordinator: ProcessClock;
  private restarting = false;
  private run: Run | undefined;
  private end: RunEnd | undefined;

  constructor(seed: number) {
    this.seed = seed;
    this.random = streamOf(seed, 1);
    this.config = configOf(seed);
    const repeatRate = this.random.below(3) === 0 ? 0.05 : 0;
    this.network = new SimNetwork(this.clock, streamOf(seed, 2), repeatRate);
    this.coordinator = new ProcessClock(this.clock);
    this.journal = new MemoryJournal(this.coordinator, streamOf(seed, 3));
    const count = 1 + this.random.below(5);
    this.minWorkers = 1 + this.random.below(Math.min(2, count));
    for (let i = 0; i < count; i++) this.addWorker();
  }

  problem(what: string): void {
    this.problems.push(what);
  }

  async simulate(): Promise<Outcome> {
    await this.startCoordinator(false);
    const faults = this.random.below(10);
    for (let i = 0; i < faults; i++) {
      this.clock.after(this.random.uniform() * FAULTS_MS, () => this.fault());
    }
    // After the faults there are workers enough to go on.
    this.clock.after(FAULTS_MS, () => {
      while (this.workers.filter(({ isAlive }) => isAlive).length < this.minWorkers) this.addWorker();
    });
    while (this.end === undefined && this.clock.now() < MAX_MS && this.problems.length === 0) {
      if (!this.clock.step()) break;
      await settled();
    }
    return this.outcome();
  }

  private outcome(): Outcome {
    const { seed, faults, problems, run, end } = this;
    if (problems.length === 0 && end === undefined) this.problem(`hangs after ${this.clock.now()} ms`);
    if (run === undefined || end === undefined) {
      return { seed, faults, problems, summary: undefined as never, simulatedMs: this.clock.now() };
    }
    const summary = run.summary();
    if (end.status !== 'done') this.problem(`ended as ${end.status}: ${end.error?.message ?? ''}`);
    const reference = referenceOf(this.config);
    const comparable = (trials: Summary['trials']): string =>
      JSON.stringify(
        trials.map((trial) => ({
          ...trial,
          epochs: trial.epochs.map((record) => ({ ...record, seconds: 0 })),
        })),
      );
    if (comparable(summary.trials) !== comparable(reference))
      this.problem('the trials differ from the reference');
    const recorded = this.journal.metrics.map(
      ({ trial, record }) => `${trial} ${record.epoch} ${record.weightsSha256}`,
    );
    const expected = reference.flatMap(({ epochs }, trial) =>
      epochs.map(({ epoch, weightsSha256 }) => `${trial} ${epoch} ${weightsSha256}`),
    );
    if (recorded.sort().join() !== expected.sort().join()) this.problem('metrics are not one line an epoch');
    return { seed, faults, problems, summary, simulatedMs: this.clock.now() };
  }

  private addWorker(): void {
    this.workers.push(new SimWorker(this, this.workers.length));
  }

  private async startCoordinator(resume: boolean): Promise<void> {
    const { config, journal } = this;
    const process = new ProcessClock(this.clock);
    this.coordinator = process;
    journal.ownedBy(process);
    const plans = planTrials({ config, model: MODEL, dataset: DATASET, now: () => this.clock.now() });
    const resumed = resume ? await findResumption(journal, plans, () => undefined) : null;
    const cluster = new Cluster(process);
    const run = new Run({
      ...{ config, model: MODEL, dataset: DATASET, plans, directory: journal, cluster, clock: process },
      observer: IGNORE_ALL,
      minWorkers: this.minWorkers,
      minWorkersToGoOn: this.minWorkers,
      resumed,
    });
    this.run = run;
    this.network.listener = {
      process,
      accept: (socket) => {
        try {
          new Session(socket, cluster, process);
        } catch (error) {
          this.problem(String(error));
        }
      },
    };
    void run.ended.then((end) => {
      if (process.isDead) return;
      this.end = end;
    });
  }

  private killCoordinator(): void {
    if (this.restarting) return;
    this.restarting = true;
    this.coordinator.die();
    this.network.listener = undefined;
    const silently = this.random.below(4) === 0;
    for (const connection of this.network.connections) connection.died(connection.coordinator, silently);
    this.clock.after(this.random.uniform() * 500, () => {
      this.restarting = false;
      this.startCoordinator(true).catch((error: unknown) => this.problem(String(error)));
    });
  }

  private fault(): void {
    const kind = FAULTS[this.random.below(FAULTS.length)] as (typeof FAULTS)[number];
    const alive = this.workers.filter(({ isAlive }) => isAlive);
    const victim = alive[this.random.below(Math.max(1, alive.length))];
    this.faults.push(`${this.clock.now().toFixed(1)} ${kind}`);
    switch (kind) {
      case 'kill':
      case 'vanish':
        victim?.kill(kind === 'vanish');
        break;
      case 'stall':
        victim?.stall(
          this.random.below(2) === 0 ? this.random.uniform() * 300 : this.random.uniform() * 30_000,
        );
        break;
      case 'break':
        victim?.connection?.break();
        break;
      case 'swallow':
        victim?.connection?.swallow();
        break;
      case 'join':
        this.addWorker();
        break;
      case 'drain':
        victim?.drain();
        break;
      case 'damage':
        this.journal.damageNewest();
        this.killCoordinator();
        break;
      case 'coordinator':
        this.killCoordinator();
        break;
    }
  }
}

/** Lets everything happen that has been promised and needs no time. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export const simulate = (seed: number): Promise<Outcome> => new World(seed).simulate();
