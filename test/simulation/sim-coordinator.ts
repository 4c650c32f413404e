import { Cluster } from '../../coordinator/cluster.js';
import { findResumption } from '../../coordinator/resumption.js';
import { RunDirectory } from '../../coordinator/run-directory.js';
import { Run, type Resumption, type RunEnd } from '../../coordinator/run.js';
import type { RunObserver } from '../../coordinator/run-observer.js';
import { Session } from '../../coordinator/session.js';
import { AtelierError } from '../../shared/errors.js';
import type { Summary } from '../../shared/summary.js';
import type { Chance } from './world.js';
import { SimProcess, type World } from './world.js';
import { MemoryExchange } from './memory-exchange.js';
import { MEMORY_ROOT, type MemoryFiles } from './memory-files.js';
import type { Network } from './network.js';
import type { Scenario } from './scenario.js';

export const RUN_PATH = `${MEMORY_ROOT}/run`;

const ignore = (): void => undefined;
const SILENT: RunObserver = {
  workerJoined: ignore,
  workerLeft: ignore,
  warned: ignore,
  started: ignore,
  waiting: ignore,
  stepped: ignore,
  evaluating: ignore,
  epochEnded: ignore,
  trialEnded: ignore,
  checkpointed: ignore,
};

/** How one life of the coordinator ended by itself. */
export interface CoordinatorEnd {
  readonly end: RunEnd;
  readonly summary: Summary;
}

export interface CoordinatorOptions {
  readonly world: World;
  readonly chance: Chance;
  readonly network: Network;
  readonly files: MemoryFiles;
  readonly scenario: Scenario;
  readonly minWorkers: number;
  readonly minWorkersToGoOn: number;
  readonly onEnd: (end: CoordinatorEnd) => void;
  readonly onBug: (error: unknown) => void;
}

/** A coordinator's process, wired as `atelier train --workers 0` does. */
export class SimCoordinator {
  readonly process: SimProcess;
  private readonly options: CoordinatorOptions;
  private run: Run | undefined;
  readonly exchange = new MemoryExchange();
  /** Checkpoints that were found damaged. */
  damaged = 0;

  constructor(options: CoordinatorOptions) {
    this.options = options;
    this.process = new SimProcess(options.world);
    // Slow disks and fast ones.
    const fileMs = options.chance.hits(0.3) ? 30 : 0.3;
    options.files.later = (done) => this.process.clock.after(options.chance.uniform() * fileMs, done);
    this.start().catch(options.onBug);
  }

  private async start(): Promise<void> {
    const { network, scenario, files, onEnd, onBug, minWorkers, minWorkersToGoOn } = this.options;
    const { config, model, dataset } = scenario;
    const { clock } = this.process;
    const cluster = new Cluster(clock, this.exchange);
    const plans = scenario.plans(() => clock.monotonic());
    network.listen(this.process, (socket) => new Session(socket, cluster, clock, '127.0.0.1'));
    let directory: RunDirectory;
    let resumed: Resumption | null = null;
    if (files.exists(`${RUN_PATH}/config.json`)) {
      directory = RunDirectory.existing(RUN_PATH);
      directory.lock();
      resumed = await findResumption(directory, plans, () => this.damaged++);
    } else {
      directory = RunDirectory.fresh(RUN_PATH);
      directory.create();
      directory.writeConfig(config);
      directory.writeManifest({ numericsFingerprint: null });
    }
    const run = new Run({
      ...{ config, model, dataset, plans, directory, cluster, clock, resumed },
      ...{ minWorkers, minWorkersToGoOn, observer: SILENT },
    });
    this.run = run;
    run.ended
      .then((end) => {
        cluster.close(end.error?.message ?? 'the run is done');
        const summary = run.summary();
        directory.writeSummary(summary);
        directory.unlock();
        onEnd({ end, summary });
      }, onBug)
      .catch(onBug);
  }

  /** SIGTERM. */
  stop(): void {
    this.run?.stop(new AtelierError('stopped', 'stopped on request'));
  }

  /** SIGKILL, or the exit of a process that is done. */
  die(): void {
    this.process.die();
    this.options.files.later = ignore;
    this.options.network.orphan(this.process);
  }
}
