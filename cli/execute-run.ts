import { basename, join } from 'node:path';
import type { Cluster } from '../coordinator/cluster.js';
import { LiveRun, queuedState } from '../coordinator/live-run.js';
import type { CoordinatorMetrics } from '../coordinator/metrics/coordinator-metrics.js';
import { findResumption } from '../coordinator/resumption.js';
import { Run, type RunEnd } from '../coordinator/run.js';
import { observeAll } from '../coordinator/run-observer.js';
import { RunDirectory } from '../coordinator/run-directory.js';
import type { Execution } from '../coordinator/service/service.js';
import { tensorBoardObserver } from '../coordinator/tensorboard/run-writer.js';
import { systemClock } from '../shared/clock.js';
import type { AtelierError } from '../shared/errors.js';
import { runLog, type Log } from './log.js';
import type { Reports } from './reports.js';
import { loadMaterial } from './run-on-cluster.js';
import { manifest, writeResults } from './train.js';

interface ExecuteOptions {
  readonly path: string;
  /** Its folder has a manifest: it goes on from its checkpoints. */
  readonly isBegun: boolean;
  readonly cluster: Cluster;
  readonly metrics: CoordinatorMetrics;
  readonly reports: Reports;
  readonly env: NodeJS.ProcessEnv;
  readonly say: (line: string) => void;
  readonly log: Log | null;
}

/** Runs one run of the service: as `atelier train` does, on workers that it shares with others. */
export function executeRun(options: ExecuteOptions): Execution {
  const { path, cluster, metrics, reports, env, say, isBegun, log } = options;
  const name = basename(path);
  let live: LiveRun | undefined;
  let run: Run | undefined;
  let stopped: { error: AtelierError; isFinal: boolean } | undefined;

  const work = async (): Promise<RunEnd> => {
    const startedAt = new Date();
    const directory = RunDirectory.existing(path);
    directory.lock();
    try {
      const config = directory.readConfig();
      const { dataset, model, plans } = await loadMaterial(config, env);
      const warned = (source: string, message: string): void => say(`${name}: ${source}: ${message}`);
      const resumed = isBegun
        ? await findResumption(directory, plans, (file, why) => {
            warned('checkpoint', `${file}: ${why}. Going on with the one before it`);
            directory.appendEvent(systemClock.now(), { type: 'checkpoint-damaged', file, reason: why });
          })
        : null;
      if (resumed === null) directory.writeManifest(await manifest(startedAt, config, dataset, model));
      live = new LiveRun({ path, config, plans, cluster });
      const tensorBoard = tensorBoardObserver({
        folder: join(path, 'tensorboard'),
        folds: plans.map(({ fold }) => fold),
        layout: model.layout,
        onTrouble: (message) => warned('tensorboard', message),
      });
      const minWorkers = config.minWorkers ?? 1;
      const current = new Run({
        ...{ config, model, dataset, plans, directory, cluster, resumed, clock: systemClock },
        ...{ minWorkers, minWorkersToGoOn: minWorkers },
        observer: observeAll([
          ...[live.observer, tensorBoard, metrics.observer(name), { warned }],
          log === null ? {} : runLog(log, name),
        ]),
      });
      run = current;
      live.follow(current);
      metrics.watch(name, current);
      if (stopped !== undefined) current.stop(stopped.error);
      const end = await current.ended;
      if (stopped?.isFinal === false && end.status === 'stopped') return end;
      const trouble = writeResults(directory, model, current);
      return trouble === null ? end : { status: 'failed', error: trouble };
    } finally {
      directory.unlock();
    }
  };
  const ended = work();
  ended.then(
    ({ status }) => status === 'done' && reports.write(path),
    () => undefined,
  );
  return {
    view: {
      name,
      path,
      state: () => live?.state() ?? { ...queuedState(name), status: 'waiting' },
    },
    ended,
    stop: (error, isFinal) => {
      stopped ??= { error, isFinal };
      run?.stop(error);
    },
  };
}
