import '@tensorflow/tfjs-backend-cpu';
import { dirname } from 'node:path';
import { backend } from '@tensorflow/tfjs-core';
import { Cluster } from '../coordinator/cluster.js';
import { Exchange } from '../coordinator/exchange.js';
import { coordinatorRoutes } from '../coordinator/http/routes.js';
import { LiveRun } from '../coordinator/live-run.js';
import { metricRoutes } from '../coordinator/metrics/metric-routes.js';
import type { TargetFile } from '../coordinator/metrics/service-discovery.js';
import type { RunDirectory } from '../coordinator/run-directory.js';
import { Run, type Resumption, type RunEnd } from '../coordinator/run.js';
import { observeAll, type RunObserver } from '../coordinator/run-observer.js';
import type { RunSource } from '../coordinator/run-view.js';
import { CoordinatorServer } from '../coordinator/server.js';
import type { Trace } from '../coordinator/trace.js';
import { parseListen } from '../shared/listen.js';
import { planTrials, type TrialPlan } from '../coordinator/trial-plan.js';
import { systemClock } from '../shared/clock.js';
import type { RunConfig } from '../shared/config.js';
import { loadDataset, type Dataset } from '../shared/dataset/load.js';
import { AtelierError, ExitCode } from '../shared/errors.js';
import { compileModel, type CompiledModel } from '../shared/models/compile.js';
import { loadTopology } from '../shared/models/topology.js';
import { LocalWorkers, slotsOfEach } from './local-workers.js';
import type { Log } from './log.js';
import { coordinatorMetrics, targetFile, type MetricsFlags } from './metrics.js';
import { availableCores } from './numbers.js';
import { serverSecurity, type SecurityFlags } from './security.js';
import type { Terminal } from './terminal.js';

/** What a config stands for: data, model, and the trials made of them. */
export interface Material {
  readonly dataset: Dataset;
  readonly model: CompiledModel;
  readonly plans: readonly TrialPlan[];
}

/** @throws AtelierError `usage`, `data` or `model` */
export async function loadMaterial(config: RunConfig, env: NodeJS.ProcessEnv): Promise<Material> {
  const dataset = loadDataset({ dataset: config.dataset, dataDir: config.dataDir, env });
  const model = await compile(config, dataset);
  return { dataset, model, plans: planTrials({ config, model, dataset, now: () => performance.now() }) };
}

export interface ClusterRunOptions {
  readonly config: RunConfig;
  readonly material: Material;
  readonly flags: SecurityFlags & MetricsFlags;
  readonly env: NodeJS.ProcessEnv;
  readonly terminal: Terminal;
  /** Where the run's time is drawn; whoever opened it closes it. */
  readonly trace?: Trace | null;
  /** Takes in what local workers log. */
  readonly log?: Log | null;
  /** Makes who watches the run; `stop` ends it before its time. */
  readonly observe: (stop: (error: AtelierError) => void) => RunObserver;
  readonly directory: RunDirectory;
  /** Called when nothing else can refuse the run: makes its folder, or finds where to go on. */
  readonly prepare: () => Promise<Resumption | null>;
  /** Called when the run is over; returns what went wrong. */
  readonly finish: (run: Run) => AtelierError | null;
}

/** Runs one run to its end: an embedded coordinator, local worker processes, and whoever joins. */
export async function runOnCluster(
  options: ClusterRunOptions,
): Promise<{ end: RunEnd; run: Run; obituaries: readonly string[] }> {
  const { config, material, flags, env, terminal, directory } = options;
  const { dataset, model, plans } = material;
  const listen = parseListen(config.listen);
  const { security, localToken } = await serverSecurity(listen, flags, env, systemClock);
  const { local, slots, minWorkers } = clusterSize(config);
  const clock = systemClock;
  const exchange = config.sharedMemory ? Exchange.open() : null;
  const cluster = new Cluster(clock, exchange, options.trace ?? null);
  const live = new LiveRun({ path: directory.path, config, plans, cluster });
  const metrics = coordinatorMetrics(cluster, dirname(directory.path));
  const server = await CoordinatorServer.listen({
    ...{ listen, security, listener: cluster, clock, refusals: metrics.logins },
    routes: [
      ...coordinatorRoutes({ runs: onlyRun(live), cluster, clock }),
      metricRoutes(metrics, cluster, security.tls !== null),
    ],
    onTrouble: (message) => terminal.warned('security', message),
  });
  let run: Run;
  const observer = observeAll([
    options.observe((error) => run.stop(error)),
    live.observer,
    metrics.observer(live.name),
  ]);
  let targets: TargetFile | null = null;
  try {
    const resumed = await options.prepare();
    const minWorkersToGoOn = config.minWorkers ?? 1;
    run = new Run({
      ...{ config, model, dataset, plans, directory, cluster, observer, clock },
      ...{ minWorkers, minWorkersToGoOn, resumed },
    });
    live.follow(run);
    metrics.watch(live.name, run);
    targets = targetFile(flags, server, cluster, (message) => terminal.warned('metrics', message));
    describe(terminal, options, run, resumed);
  } catch (error) {
    await server.close();
    exchange?.close();
    throw error;
  }
  terminal.line(`Coordinator at ${server.url}`);
  if (minWorkers > local) {
    terminal.line(`Waiting for ${minWorkers - local} more workers: atelier worker --join ${server.joinUrl}`);
  }
  const workers = new LocalWorkers({
    count: local,
    slots,
    url: server.url,
    token: localToken,
    dataset: config.dataset,
    dataDir: config.dataDir,
    log: options.log ?? null,
    onRestart: (name, how) => run.workerRestarted(name, how),
    onDeath: (name, how) => run.stop(new AtelierError('run-failed', `worker ${name} ${how}`)),
  });
  const forget = onStopSignals(() => {
    terminal.stopBars();
    terminal.line('Stopping ... (once more to quit at once)');
    run.stop(new AtelierError('stopped', 'stopped on request'));
  });
  const ended = await run.ended;
  workers.expectExit();
  terminal.stopBars();
  cluster.close(ended.error?.message ?? 'the run is done');
  const trouble = options.finish(run);
  const end: RunEnd = trouble === null ? ended : { status: 'failed', error: trouble };
  const [obituaries] = await Promise.all([workers.exited(), server.close()]);
  exchange?.close();
  targets?.close();
  metrics.close();
  forget();
  return { end, run, obituaries };
}

const onlyRun = (live: LiveRun): RunSource => ({
  list: () => [live],
  find: (name) => (name === live.name ? live : undefined),
});

function describe(
  terminal: Terminal,
  { config, material: { model, plans }, directory }: ClusterRunOptions,
  run: Run,
  resumed: Resumption | null,
): void {
  terminal.line(
    `${modelName(config)}: ${model.layout.trainable.toLocaleString('en-US')} parameters, ` +
      `${(plans[0]?.training.length ?? 0).toLocaleString('en-US')} training rows, ` +
      `batch ${config.batchSize} in ${config.shards} shards, seed ${config.seed}`,
  );
  const { folds, repeats, stratified, finalFit } = config;
  if (folds !== null) {
    const kind = stratified ? 'stratified' : 'plain';
    const again = repeats > 1 ? `, ${repeats} times` : '';
    const fit = finalFit ? ', and a final fit' : '';
    terminal.line(`${plans.length} trials: ${kind} ${folds}-fold cross-validation${again}${fit}`);
  }
  if (resumed !== null) terminal.line(`Resuming ${directory.path}: ${run.progress}`);
}

export const modelName = (config: RunConfig): string =>
  config.model
    .replace(/^.*[/\\]/, '')
    .replace(/\.json$/i, '')
    .replace(/[^A-Za-z0-9._-]/g, '_') || 'model';

/** How many local workers of how many slots, and how many workers to wait for. */
function clusterSize(config: RunConfig): { local: number; slots: number; minWorkers: number } {
  const cores = availableCores();
  const local = config.workers === 'auto' ? cores : config.workers;
  const slots = config.slots ?? slotsOfEach(local);
  const minWorkers = config.minWorkers ?? Math.max(1, local);
  return { local, slots, minWorkers };
}

async function compile(config: RunConfig, dataset: Dataset): Promise<CompiledModel> {
  // Shapes are all that tfjs's own backend is used for here; its advice to install another does not apply.
  (backend() as { firstUse?: boolean }).firstUse = false;
  const { imageShape, classNames } = dataset.info;
  const topology = loadTopology(config.model, imageShape, classNames.length);
  return compileModel(topology, imageShape, classNames.length, config.l2);
}

/** Calls `stop` on the first SIGINT or SIGTERM; the second ends the process. Returns what undoes it. */
function onStopSignals(stop: () => void): () => void {
  let asked = false;
  const handler = (): void => {
    if (asked) process.exit(ExitCode.stopped);
    asked = true;
    stop();
  };
  process.on('SIGINT', handler);
  process.on('SIGTERM', handler);
  return () => {
    process.off('SIGINT', handler);
    process.off('SIGTERM', handler);
  };
}
