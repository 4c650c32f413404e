import { backoffMs } from '../../worker/backoff.js';
import { RunWork, WorkerMemory } from '../../worker/run-work.js';
import { WorkerSession } from '../../worker/session.js';
import type { SessionCredential } from '../../shared/protocol/messages.js';
import { AtelierError } from '../../shared/errors.js';
import { SimProcess, type Chance, type World } from './world.js';
import type { MemoryExchange } from './memory-exchange.js';
import type { Network } from './network.js';
import { CLASSES, IMAGE_BYTES, type Scenario } from './scenario.js';
import { ToyPool } from './toy.js';

export interface WorkerOptions {
  readonly world: World;
  readonly chance: Chance;
  readonly network: Network;
  readonly scenario: Scenario;
  readonly name: string;
  /** Whom it joins. */
  readonly above: string;
  readonly slots: number;
  readonly taskMs: number;
  /** Does it have the dataset on its disk? */
  readonly hasData: boolean;
  /** The coordinator's exchange, if this worker is on its host. */
  readonly exchange: () => MemoryExchange | null;
  /** The worker's process has ended; `error` is null when it left in peace. */
  readonly onExit: (worker: SimWorker, error: Error | null) => void;
}

/** A worker's process, wired as `atelier worker` is. */
export class SimWorker {
  readonly process: SimProcess;
  readonly pool: ToyPool;
  readonly name: string;
  private readonly options: WorkerOptions;
  private session: WorkerSession | undefined;
  private isLeaving = false;

  constructor(options: WorkerOptions) {
    this.options = options;
    this.name = options.name;
    this.process = new SimProcess(options.world);
    const { chance, slots, taskMs } = options;
    this.pool = new ToyPool({
      owner: this.process,
      chance,
      slots,
      taskMs,
      imageBytes: IMAGE_BYTES,
      classes: CLASSES,
    });
    this.live().then(
      () => this.exit(null),
      (error: unknown) => this.exit(error instanceof Error ? error : new Error(String(error))),
    );
  }

  /** SIGTERM. */
  drain(): void {
    this.isLeaving = true;
    if (this.session === undefined) this.exit(null);
    else this.session.drain('drained');
  }

  private exit(error: Error | null): void {
    if (!this.process.isAlive) return;
    this.process.die();
    this.options.onExit(this, error);
  }

  private async live(): Promise<void> {
    const { scenario, network, chance, name, above, slots, hasData, exchange } = this.options;
    const memory = new WorkerMemory(this.pool, hasData ? scenario.dataset : null);
    const versions = { atelier: '0', node: 'v20', tensorflow: '2' };
    let credential: SessionCredential | null = null;
    for (let failures = 0; ;) {
      this.session = new WorkerSession({
        url: `ws://${above}:1`,
        token: null,
        hello: { name, host: name, pid: 1, slots, versions, credential },
        employ: (run, spec, port) => new RunWork(memory, run, spec, port),
        clock: this.process.clock,
        onJoined: (given) => {
          credential = given;
          failures = 0;
        },
        openExchange: (_, given) => exchange()?.guest(given) ?? null,
        connect: () => network.connect(this.process, above),
      });
      const end = await this.session.ended;
      this.session = undefined;
      if (end.kind === 'finished' || this.isLeaving) return;
      const waitMs = backoffMs(++failures, chance.uniform());
      await new Promise<void>((resolve) => this.process.clock.after(waitMs, resolve));
    }
  }
}

/** Did the worker end because something in it was broken on purpose? */
export const isPlannedFailure = (error: Error): boolean =>
  error instanceof AtelierError && error.message.includes('a simulated slot broke');
