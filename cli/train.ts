import '@tensorflow/tfjs-backend-cpu';
import { execFile } from 'node:child_process';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { backend, version_core as tfjsVersion } from '@tensorflow/tfjs-core';
import type { Command } from 'commander';
import { exportLayersModel } from '../coordinator/export-model.js';
import { Run } from '../coordinator/run.js';
import { RunDirectory, runName } from '../coordinator/run-directory.js';
import { CoordinatorServer, isLoopback, parseListen } from '../coordinator/server.js';
import { systemClock } from '../shared/clock.js';
import type { RunConfig } from '../shared/config.js';
import { loadDataset, type Dataset } from '../shared/dataset/load.js';
import { AtelierError, ExitCode, messageOf } from '../shared/errors.js';
import { compileModel, type CompiledModel } from '../shared/models/compile.js';
import { loadTopology } from '../shared/models/topology.js';
import { ATELIER_VERSION, PROJECT_ROOT } from '../shared/version.js';
import { LocalWorkers } from './local-workers.js';
import { availableCores } from './numbers.js';
import { addRunOptions, readToken, resolveRunConfig } from './options.js';
import { Terminal } from './terminal.js';

interface TrainFlags extends Record<string, unknown> {
  readonly runDir?: string;
  readonly tokenFile?: string;
  readonly insecure?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function addTrainCommand(program: Command): void {
  const command = program
    .command('train')
    .description('train one model on local worker processes, on remote workers, or on both');
  addRunOptions(command);
  command
    .option(
      '--run-dir <folder>',
      'folder of this run, which must not exist (default: runs/<utc time>-<name>)',
    )
    .option('--token-file <file>', 'file with the token that workers must present (default: ATELIER_TOKEN)')
    .option('--insecure', 'allow --listen on a network address without TLS')
    .option('--json', 'print summary.json on stdout and nothing else')
    .option('--quiet', 'print errors only')
    .action(async (flags: TrainFlags) => {
      process.exitCode = await train(flags, process.env);
    });
}

async function train(flags: TrainFlags, env: NodeJS.ProcessEnv): Promise<ExitCode> {
  const startedAt = new Date();
  const config = resolveRunConfig(flags, env);
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
  const dataset = loadDataset({ dataset: config.dataset, dataDir: config.dataDir, env });
  const model = await compile(config, dataset);
  const { local, slots, minWorkers } = clusterSize(config);

  const runDir = flags.runDir ?? join('runs', runName(startedAt, config.name ?? modelName(config)));
  const directory = new RunDirectory(runDir);
  const stream = flags.json === true ? process.stderr : process.stdout;
  const terminal = new Terminal({ stream, quiet: flags.quiet === true, config });
  const run = new Run({
    config,
    model,
    dataset,
    directory,
    observer: terminal,
    clock: systemClock,
    minWorkers,
  });
  const server = await CoordinatorServer.listen({ listen, token, listener: run, clock: systemClock });
  directory.create();
  directory.writeConfig(config);
  directory.writeManifest(await manifest(startedAt, config, dataset, model));
  terminal.line(
    `${modelName(config)}: ${model.layout.trainable.toLocaleString('en-US')} parameters, ` +
      `${(dataset.info.trainRows - config.validationRows).toLocaleString('en-US')} training rows, ` +
      `batch ${config.batchSize} in ${config.shards} shards, seed ${config.seed}`,
  );
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
    onDeath: (name, how) => run.stop(new AtelierError('run-failed', `worker ${name} ${how}`)),
  });
  const forget = onStopSignals(() => {
    terminal.stopBar();
    terminal.line('Stopping ... (once more to quit at once)');
    run.stop(new AtelierError('stopped', 'stopped on request'));
  });

  const { status, error } = await run.ended;
  workers.expectExit();
  terminal.stopBar();
  const summary = run.summary();
  let failure = error;
  try {
    if (status !== 'failed') exportLayersModel(directory.folder('model'), model, run.weights);
    directory.writeSummary(summary);
  } catch (cause) {
    failure = new AtelierError('run-failed', `cannot write to ${directory.path}: ${messageOf(cause)}`, {
      cause,
    });
  }
  const [obituaries] = await Promise.all([workers.exited(), server.close()]);
  forget();
  if (status === 'done') terminal.finished(summary, dataset.info.classNames, runDir);
  if (flags.json === true) process.stdout.write(`${JSON.stringify(summary)}\n`);
  if (failure === null) return ExitCode.done;
  if (status === 'stopped')
    process.stderr.write('There are no checkpoints yet: this run cannot be resumed\n');
  for (const obituary of obituaries) process.stderr.write(`${obituary}\n`);
  process.stderr.write(`error: ${failure.message}\nWhat there is of the run: ${runDir}\n`);
  return failure.exitCode;
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
