import '@tensorflow/tfjs-backend-cpu';
import { execFile } from 'node:child_process';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { backend, version_core as tfjsVersion } from '@tensorflow/tfjs-core';
import type { Command } from 'commander';
import { Cluster } from '../coordinator/cluster.js';
import { exportLayersModel } from '../coordinator/export-model.js';
import { findResumption } from '../coordinator/resumption.js';
import { Run, type RunEnd } from '../coordinator/run.js';
import { RunDirectory, runName } from '../coordinator/run-directory.js';
import { CoordinatorServer, isLoopback, parseListen } from '../coordinator/server.js';
import { planTrials } from '../coordinator/trial-plan.js';
import { systemClock } from '../shared/clock.js';
import type { RunConfig } from '../shared/config.js';
import { loadDataset, type Dataset } from '../shared/dataset/load.js';
import { AtelierError, ExitCode, messageOf } from '../shared/errors.js';
import { compileModel, type CompiledModel } from '../shared/models/compile.js';
import { loadTopology } from '../shared/models/topology.js';
import type { Summary } from '../shared/summary.js';
import { ATELIER_VERSION, PROJECT_ROOT } from '../shared/version.js';
import { LocalWorkers } from './local-workers.js';
import { availableCores } from './numbers.js';
import { addRunOptions, readToken, resolveResumedConfig, resolveRunConfig } from './options.js';
import { Terminal } from './terminal.js';

interface TrainFlags extends Record<string, unknown> {
  readonly runDir?: string;
  readonly resume?: string;
  readonly tokenFile?: string;
  readonly insecure?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** `atelier kfold` trains so many folds unless told otherwise. */
const DEFAULT_FOLDS = 5;

export function addTrainCommand(program: Command): void {
  const description = 'train one model on local worker processes, on remote workers, or on both';
  addTraining(program.command('train').description(description), {});
}

export function addKfoldCommand(program: Command): void {
  const description = `cross-validate: train with --folds ${DEFAULT_FOLDS} as the default, all folds at once`;
  addTraining(program.command('kfold').description(description), { folds: DEFAULT_FOLDS });
}

function addTraining(command: Command, defaults: Partial<RunConfig>): void {
  addRunOptions(command);
  command
    .option(
      '--run-dir <folder>',
      'folder of this run, which must not exist (default: runs/<utc time>-<name>)',
    )
    .option('--resume <folder>', 'go on with the run in this folder, to the same bits')
    .option('--token-file <file>', 'file with the token that workers must present (default: ATELIER_TOKEN)')
    .option('--insecure', 'allow --listen on a network address without TLS')
    .option('--json', 'print summary.json on stdout and nothing else')
    .option('--quiet', 'print errors only')
    .action(async (flags: TrainFlags) => {
      process.exitCode = await train(flags, defaults, process.env);
    });
}

async function train(
  flags: TrainFlags,
  defaults: Partial<RunConfig>,
  env: NodeJS.ProcessEnv,
): Promise<ExitCode> {
  const startedAt = new Date();
  if (flags.resume !== undefined && flags.runDir !== undefined) {
    throw new AtelierError('usage', '--resume names the run directory: leave out --run-dir');
  }
  const existing = flags.resume === undefined ? null : RunDirectory.existing(flags.resume);
  const config =
    existing === null
      ? resolveRunConfig(flags, env, defaults)
      : resolveResumedConfig(existing.readConfig(), flags, env);
  const stream = flags.json === true ? process.stderr : process.stdout;
  const terminal = new Terminal({ stream, quiet: flags.quiet === true, config });

  const done = existing?.readSummary();
  if (existing !== null && done?.status === 'done') {
    terminal.line(`${existing.path} is done: there is nothing to resume`);
    if (flags.json === true) process.stdout.write(`${JSON.stringify(done)}\n`);
    return ExitCode.done;
  }
  const path = flags.runDir ?? join('runs', runName(startedAt, config.name ?? modelName(config)));
  const directory = existing ?? RunDirectory.fresh(path);
  existing?.lock();
  try {
    return await runTraining({
      flags,
      config,
      directory,
      isResumed: existing !== null,
      terminal,
      startedAt,
      env,
    });
  } finally {
    directory.unlock();
  }
}

interface Training {
  readonly flags: TrainFlags;
  readonly config: RunConfig;
  readonly directory: RunDirectory;
  readonly isResumed: boolean;
  readonly terminal: Terminal;
  readonly startedAt: Date;
  readonly env: NodeJS.ProcessEnv;
}

async function runTraining(training: Training): Promise<ExitCode> {
  const { flags, config, directory, isResumed, terminal, startedAt, env } = training;
  const { listen, token } = access(config, flags, env);
  const dataset = loadDataset({ dataset: config.dataset, dataDir: config.dataDir, env });
  const model = await compile(config, dataset);
  const { local, slots, minWorkers } = clusterSize(config);
  const clock = systemClock;
  const plans = planTrials({ config, model, dataset, now: () => clock.now() });

  const cluster = new Cluster(clock);
  const server = await CoordinatorServer.listen({ listen, token, listener: cluster, clock });
  let run: Run;
  try {
    if (!isResumed) {
      directory.create();
      directory.writeConfig(config);
      directory.writeManifest(await manifest(startedAt, config, dataset, model));
    }
    const resumed = !isResumed
      ? null
      : await findResumption(directory, plans, (file, why) => {
          terminal.warned('checkpoint', `${file}: ${why}. Going on with the one before it`);
          directory.appendEvent(clock.now(), { type: 'checkpoint-damaged', file, reason: why });
        });
    run = new Run({
      config,
      model,
      dataset,
      plans,
      directory,
      cluster,
      observer: terminal,
      clock,
      minWorkers,
      minWorkersToGoOn: config.minWorkers ?? 1,
      resumed,
    });
  } catch (error) {
    await server.close();
    throw error;
  }

  terminal.line(
    `${modelName(config)}: ${model.layout.trainable.toLocaleString('en-US')} parameters, ` +
      `${(plans[0]?.training.length ?? 0).toLocaleString('en-US')} training rows, ` +
      `batch ${config.batchSize} in ${config.shards} shards, seed ${config.seed}`,
  );
  if (config.folds !== null) terminal.line(foldsLine(config, plans.length));
  if (isResumed) terminal.line(`Resuming ${directory.path}: ${run.progress}`);
  terminal.line(`Coordinator at ${server.url}`);
  if (minWorkers > local) {
    terminal.line(`Waiting for ${minWorkers - local} more workers: atelier worker --join ${server.url}`);
  }
  const workers = new LocalWorkers({
    count: local,
    slots,
    url: server.url,
    token,
    dataset: config.dataset,
    dataDir: config.dataDir,
    onRestart: (name, how) => run.workerRestarted(name, how),
    onDeath: (name, how) => run.stop(new AtelierError('run-failed', `worker ${name} ${how}`)),
  });
  const forget = onStopSignals(() => {
    terminal.stopBars();
    terminal.line('Stopping with a checkpoint ... (once more to quit at once)');
    run.stop(new AtelierError('stopped', 'stopped on request'));
  });

  const end = await run.ended;
  workers.expectExit();
  terminal.stopBars();
  cluster.close(end.error?.message ?? 'the run is done');
  const summary = run.summary();
  const failure = writeResults(directory, model, run, summary) ?? end.error;
  const [obituaries] = await Promise.all([workers.exited(), server.close()]);
  forget();
  if (end.status === 'done') terminal.finished(summary, dataset.info.classNames, directory.path);
  else if (config.folds !== null) terminal.folds(summary);
  if (flags.json === true) process.stdout.write(`${JSON.stringify(summary)}\n`);
  if (failure === null) return ExitCode.done;
  if (end.status === 'failed') for (const obituary of obituaries) process.stderr.write(`${obituary}\n`);
  process.stderr.write(`error: ${failure.message}\n${whatIsLeft(directory, end)}\n`);
  return failure.exitCode;
}

/** Where workers join, and what they must present. */
function access(
  config: RunConfig,
  flags: TrainFlags,
  env: NodeJS.ProcessEnv,
): { listen: ReturnType<typeof parseListen>; token: string | null } {
  const listen = parseListen(config.listen);
  const token = readToken(flags.tokenFile, env);
  if (!isLoopback(listen.host) && flags.insecure !== true) {
    throw new AtelierError(
      'usage',
      `--listen ${config.listen} is open to the network and this connection is not encrypted: listen on 127.0.0.1, ` +
        `or add --insecure if you trust the network`,
    );
  }
  if (!isLoopback(listen.host) && token === null) {
    throw new AtelierError(
      'usage',
      `--listen ${config.listen} is open to the network: workers need a token. Make one with ` +
        `"openssl rand -hex 32 > token" and give it to both sides with --token-file token`,
    );
  }
  return { listen, token };
}

/** The models and the summary. Returns what went wrong. */
function writeResults(
  directory: RunDirectory,
  model: CompiledModel,
  run: Run,
  summary: Summary,
): AtelierError | null {
  try {
    for (const { fold, weights } of run.weights) {
      exportLayersModel(directory.folder(join(directory.trialFolder(fold), 'model')), model, weights);
    }
    directory.writeSummary(summary);
    return null;
  } catch (cause) {
    return new AtelierError('run-failed', `cannot write to ${directory.path}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

function whatIsLeft({ path }: RunDirectory, { status }: RunEnd): string {
  const what = status === 'stopped' ? 'Its checkpoint is written' : 'What there is of the run is kept';
  return `${what}. Go on to the same bits with: atelier train --resume ${path}`;
}

function foldsLine({ folds, repeats, stratified, finalFit }: RunConfig, trials: number): string {
  const kind = stratified ? 'stratified' : 'plain';
  const again = repeats > 1 ? `, ${repeats} times` : '';
  return `${trials} trials: ${kind} ${folds ?? 0}-fold cross-validation${again}${finalFit ? ', and a final fit' : ''}`;
}

const modelName = (config: RunConfig): string =>
  config.model
    .replace(/^.*[/\\]/, '')
    .replace(/\.json$/i, '')
    .replace(/[^A-Za-z0-9._-]/g, '_') || 'model';

/** How many local workers of how many slots, and how many workers to wait for. */
function clusterSize(config: RunConfig): { local: number; slots: number; minWorkers: number } {
  const cores = availableCores();
  const local = config.workers === 'auto' ? cores : config.workers;
  const slots = config.slots ?? Math.max(1, Math.floor(cores / Math.max(1, local)));
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

async function manifest(
  startedAt: Date,
  config: RunConfig,
  dataset: Dataset,
  model: CompiledModel,
): Promise<Record<string, unknown>> {
  const gitCommit = await promisify(execFile)('git', ['-C', PROJECT_ROOT, 'rev-parse', 'HEAD']).then(
    ({ stdout }) => stdout.trim(),
    () => null,
  );
  return {
    startedAt: startedAt.toISOString(),
    versions: { atelier: ATELIER_VERSION, node: process.version, tfjs: tfjsVersion },
    gitCommit,
    dataset: { ...dataset.info, folder: dataset.folder },
    model: { name: config.model, parameters: model.layout.trainable, topology: model.topology },
    numericsFingerprint: null,
    argv: process.argv.slice(2),
    host: { name: hostname(), platform: process.platform, arch: process.arch, cores: availableCores() },
  };
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
