import { execFile } from 'node:child_process';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { version_core as tfjsVersion } from '@tensorflow/tfjs-core';
import type { Command } from 'commander';
import { exportLayersModel } from '../coordinator/export-model.js';
import { findResumption } from '../coordinator/resumption.js';
import type { Run, RunEnd } from '../coordinator/run.js';
import { observeAll } from '../coordinator/run-observer.js';
import { RunDirectory, runName } from '../coordinator/run-directory.js';
import { tensorBoardObserver } from '../coordinator/tensorboard/run-writer.js';
import { Trace } from '../coordinator/trace.js';
import { TraceFile } from '../coordinator/trace-file.js';
import { systemClock } from '../shared/clock.js';
import type { RunConfig } from '../shared/config.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError, ExitCode, messageOf } from '../shared/errors.js';
import type { CompiledModel } from '../shared/models/compile.js';
import { ATELIER_VERSION, PROJECT_ROOT } from '../shared/version.js';
import { availableCores } from './numbers.js';
import { addLogOption, openLog, runLog, type Log, type LogFlags } from './log.js';
import { addMetricsOptions, type MetricsFlags } from './metrics.js';
import { addRunOptions, resolveResumedConfig, resolveRunConfig } from './options.js';
import { loadMaterial, modelName, runOnCluster } from './run-on-cluster.js';
import { addSecurityOptions, type SecurityFlags } from './security.js';
import { Terminal } from './terminal.js';

interface TrainFlags extends SecurityFlags, MetricsFlags, LogFlags, Record<string, unknown> {
  readonly runDir?: string;
  readonly resume?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly trace?: string;
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
  addSecurityOptions(command);
  addMetricsOptions(command);
  addLogOption(command);
  command
    .option(
      '--run-dir <folder>',
      'folder of this run, which must not exist (default: runs/<utc time>-<name>)',
    )
    .option('--resume <folder>', 'go on with the run in this folder, to the same bits')
    .option(
      '--trace <file>',
      "write where the run's time goes, step by step, as a Chrome trace (open it at ui.perfetto.dev)",
    )
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
  const imported = secondsSinceStart();
  if (flags.resume !== undefined && flags.runDir !== undefined) {
    throw new AtelierError('usage', '--resume names the run directory: leave out --run-dir');
  }
  const existing = flags.resume === undefined ? null : RunDirectory.existing(flags.resume);
  const config =
    existing === null
      ? resolveRunConfig(flags, env, defaults)
      : resolveResumedConfig(existing.readConfig(), flags, env);
  const stream = flags.json === true ? process.stderr : process.stdout;
  const log = await openLog(flags);
  const terminal = new Terminal({ stream, quiet: flags.quiet === true, config, bars: log === null });

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
      log,
      startedAt,
      imported,
      env,
    });
  } finally {
    directory.unlock();
  }
}

const secondsSinceStart = (): number => performance.now() / 1000;

interface Training {
  readonly flags: TrainFlags;
  readonly config: RunConfig;
  readonly directory: RunDirectory;
  readonly isResumed: boolean;
  readonly terminal: Terminal;
  readonly log: Log | null;
  readonly startedAt: Date;
  /** Seconds from the start of the process until its code was loaded. */
  readonly imported: number;
  readonly env: NodeJS.ProcessEnv;
}

async function runTraining(training: Training): Promise<ExitCode> {
  const { flags, config, directory, isResumed, terminal, log, startedAt, imported, env } = training;
  const material = await loadMaterial(config, env);
  const loaded = secondsSinceStart();
  const { dataset, model, plans } = material;
  const trace = openTrace(flags.trace);
  const { end, run, obituaries } = await runOnCluster({
    config,
    material,
    flags,
    env,
    terminal,
    log,
    observe: () =>
      observeAll([
        terminal,
        log === null ? {} : runLog(log, basename(directory.path)),
        tensorBoardObserver({
          folder: join(directory.path, 'tensorboard'),
          folds: plans.map(({ fold }) => fold),
          layout: model.layout,
          onTrouble: (message) => terminal.warned('tensorboard', message),
        }),
      ]),
    directory,
    prepare: async () => {
      const started = { type: 'start-up', imported, loaded, listening: secondsSinceStart() } as const;
      if (isResumed) {
        directory.appendEvent(systemClock.now(), started);
        return findResumption(directory, plans, (file, why) => {
          terminal.warned('checkpoint', `${file}: ${why}. Going on with the one before it`);
          directory.appendEvent(systemClock.now(), { type: 'checkpoint-damaged', file, reason: why });
        });
      }
      directory.create();
      directory.writeConfig(config);
      directory.writeManifest(await manifest(startedAt, config, dataset, model));
      directory.appendEvent(systemClock.now(), started);
      return null;
    },
    trace,
    finish: (finished) => writeResults(directory, model, finished),
  }).finally(() => closeTrace(trace, training));
  const summary = run.summary();
  const report = end.status === 'stopped' ? null : await tryToReport(training, dataset);
  if (end.status === 'done') {
    terminal.finished(summary, dataset.info.classNames, { runDirectory: directory.path, report });
  }
  if (end.status !== 'done' && config.folds !== null) terminal.folds(summary);
  if (flags.json === true) process.stdout.write(`${JSON.stringify(summary)}\n`);
  if (end.error === null) return ExitCode.done;
  if (end.status === 'failed') for (const obituary of obituaries) process.stderr.write(`${obituary}\n`);
  process.stderr.write(`error: ${end.error.message}\n${whatIsLeft(directory, end)}\n`);
  return end.error.exitCode;
}

/** @throws AtelierError `usage` when it cannot be written */
const openTrace = (path: string | undefined): Trace | null =>
  path === undefined ? null : new Trace(new TraceFile(path, { now: () => performance.now() }));

function closeTrace(trace: Trace | null, { terminal, flags }: Training): void {
  if (trace === null) return;
  const { events, dropped, trouble } = trace.close();
  terminal.line(`Trace ${flags.trace ?? ''} (${events} events)`);
  if (dropped > 0) terminal.warned('trace', `cut off: it was full, ${dropped} more events came`);
  if (trouble !== null) terminal.warned('trace', `cut off: ${trouble}`);
}

/** The models and the summary. Returns what went wrong. */
export function writeResults(directory: RunDirectory, model: CompiledModel, run: Run): AtelierError | null {
  try {
    for (const { fold, weights } of run.weights) {
      exportLayersModel(directory.folder(join(directory.trialFolder(fold), 'model')), model, weights);
    }
    directory.writeSummary(run.summary());
    return null;
  } catch (cause) {
    return new AtelierError('run-failed', `cannot write to ${directory.path}: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** A run that is over has its pictures; if they cannot be made, the run is no worse. */
async function tryToReport({ directory, terminal, env }: Training, dataset: Dataset): Promise<string | null> {
  try {
    // Most of what it needs is loaded for nothing else.
    const { writeReport } = await import('./report.js');
    return await writeReport(directory.path, { dataset }, env);
  } catch (error) {
    terminal.warned('report', `${messageOf(error)}. Try again with: atelier report ${directory.path}`);
    return null;
  }
}

function whatIsLeft({ path }: RunDirectory, { status }: RunEnd): string {
  const what = status === 'stopped' ? 'Its checkpoint is written' : 'What there is of the run is kept';
  return `${what}. Go on to the same bits with: atelier train --resume ${path}`;
}

export async function manifest(
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
