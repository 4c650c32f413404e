import './cpu-backend.js';
import { join } from 'node:path';
import { loadMaterial } from '../../cli/run-on-cluster.js';
import { Cluster } from '../../coordinator/cluster.js';
import { CoordinatorMetrics } from '../../coordinator/metrics/coordinator-metrics.js';
import { metricRoutes } from '../../coordinator/metrics/metric-routes.js';
import { RunDirectory } from '../../coordinator/run-directory.js';
import { Run } from '../../coordinator/run.js';
import { observeAll, type RunObserver } from '../../coordinator/run-observer.js';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { systemClock } from '../../shared/clock.js';
import { parseRunConfig, type RunConfig } from '../../shared/config.js';
import { parseExposition, type Series } from './exposition.js';
import { IGNORE_ALL } from './observers.js';

export interface MeasuredCoordinator {
  readonly cluster: Cluster;
  /** `host:port` of the coordinator. */
  readonly target: string;
  readonly url: string;
  /** Starts a run, which is shown under this name. */
  start(
    name: string,
    settings: Partial<RunConfig>,
    options: { minWorkers: number; observer?: Partial<RunObserver> },
  ): Promise<Run>;
  /** Scrapes the coordinator. */
  scrape(): Promise<{ text: string; series: Series[] }>;
  close(): Promise<void>;
}

/** A coordinator as `atelier train --workers 0` makes it, but in this process: it can be asked after a run has ended. */
export async function startMeasuredCoordinator(folder: string): Promise<MeasuredCoordinator> {
  const clock = systemClock;
  const cluster = new Cluster(clock);
  const metrics = new CoordinatorMetrics({
    ...{ cluster, clock, runsFolder: folder },
    versions: { version: '0', node: process.version, tensorflow: 'tfjs' },
  });
  const server = await CoordinatorServer.listen({
    ...{ listen: { host: '127.0.0.1', port: 0 }, security: OPEN_TO_LOCAL, listener: cluster, clock },
    ...{ routes: [metricRoutes(metrics, cluster, false)], refusals: metrics.logins },
  });
  const target = new URL(server.url).host;
  return {
    ...{ cluster, target, url: server.url },
    start: async (name, settings, { minWorkers, observer = {} }) => {
      const config = parseRunConfig(settings);
      const { dataset, model, plans } = await loadMaterial(config, process.env);
      const directory = RunDirectory.fresh(join(folder, name));
      directory.create();
      directory.writeConfig(config);
      directory.writeManifest({});
      const run = new Run({
        ...{
          config,
          model,
          dataset,
          plans,
          directory,
          cluster,
          clock,
          minWorkers,
          minWorkersToGoOn: minWorkers,
        },
        ...{ resumed: null, observer: observeAll([IGNORE_ALL, metrics.observer(name), observer]) },
      });
      metrics.watch(name, run);
      return run;
    },
    scrape: async () => {
      const response = await fetch(`http://${target}/metrics`);
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return { text, series: parseExposition(text) };
    },
    close: async () => {
      cluster.close('the test is over');
      metrics.close();
      await server.close();
    },
  };
}

/** An observer, and a promise of the moment in which a trial has done so many steps. */
export function untilObserved(): {
  observer: Partial<RunObserver>;
  stepped: (trial: number, step: number) => Promise<void>;
} {
  const waiting: { readonly trial: number; readonly step: number; readonly resolve: () => void }[] = [];
  return {
    observer: {
      stepped: ({ trial, epoch, stepInEpoch, stepsPerEpoch }) => {
        const step = epoch * stepsPerEpoch + stepInEpoch + 1;
        for (const waiter of waiting) if (waiter.trial === trial && step >= waiter.step) waiter.resolve();
      },
    },
    stepped: (trial, step) => new Promise((resolve) => waiting.push({ trial, step, resolve })),
  };
}
