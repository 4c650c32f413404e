import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { AtelierError, messageOf } from '../shared/errors.js';
import { parseRunConfig, type RunConfig } from '../shared/config.js';
import { Summary, type EpochRecord } from '../shared/summary.js';
import { CheckpointStore } from './checkpoint-store.js';
import { writeFileAtomic } from './files.js';
import { FolderLock } from './folder-lock.js';
import { StepLog } from './step-log.js';

/** A line of `events.jsonl`. */
export type RunEvent =
  | {
      type: 'worker-joined';
      worker: number;
      name: string;
      host: string;
      slots: number;
      resumed: boolean;
      preparedMs: number;
    }
  | { type: 'worker-left'; worker: number; name: string; reason: string }
  | { type: 'worker-refused'; name: string; reason: string }
  /** A local worker process ended and was started again. */
  | { type: 'worker-restarted'; name: string; reason: string }
  | { type: 'warning'; name: string; message: string }
  | { type: 'started'; workers: number }
  /** Fewer workers than --min-workers. */
  | { type: 'waiting'; workers: number; wanted: number }
  /**
   * When the process had loaded its code, then the data and the model, and when workers could join: seconds after its start. The same for
   * `first-step`; what lies between is in the times of the events.
   */
  | { type: 'start-up'; imported: number; loaded: number; listening: number }
  /** How long after the start of the process the first step was done. */
  | { type: 'first-step'; secondsAfterStart: number }
  | { type: 'checkpoint'; trial: number; file: string }
  | { type: 'checkpoint-damaged'; file: string; reason: string }
  /** With the rounds that each trial has behind it. */
  | { type: 'resumed'; roundsDone: readonly number[] }
  | { type: 'trial-failed'; trial: number; reason: string }
  | { type: 'ended'; status: Summary['status']; reason: string | null };

/** `20261122T235000Z-name`. */
export const runName = (now: Date, name: string): string =>
  `${now.toISOString().replace(/[-:]|\.\d+/g, '')}-${name}`;

/** The folder of one run: everything it leaves behind. Files appear whole or not at all. */
export class RunDirectory {
  readonly path: string;
  private locked: FolderLock | undefined;

  private constructor(path: string) {
    this.path = resolve(path);
  }

  /**
   * A run directory that does not exist yet; `create` makes it.
   * @throws AtelierError `usage` when `path` exists: nothing is ever written over
   */
  static fresh(path: string): RunDirectory {
    const directory = new RunDirectory(path);
    if (existsSync(directory.path)) throw directory.exists();
    return directory;
  }

  /**
   * A run directory that a run has left.
   * @throws AtelierError `usage` when there is none
   */
  static existing(path: string): RunDirectory {
    const directory = new RunDirectory(path);
    if (!existsSync(join(directory.path, 'config.json'))) {
      throw new AtelierError('usage', `${path} is no run directory: it has no config.json`);
    }
    return directory;
  }

  /**
   * Makes the folder, once nothing else can refuse the run.
   * @throws AtelierError `usage` when it cannot be made
   */
  create(): void {
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      mkdirSync(this.path);
    } catch (cause) {
      if (existsSync(this.path)) throw this.exists();
      throw new AtelierError('usage', `cannot make the run directory ${this.path}: ${messageOf(cause)}`, {
        cause,
      });
    }
    this.lock();
  }

  /**
   * Keeps other processes of this machine from writing to the same run.
   * @throws AtelierError `usage` when a process holds it
   */
  lock(): void {
    this.locked ??= FolderLock.take(this.path);
  }

  unlock(): void {
    this.locked?.release();
    this.locked = undefined;
  }

  private exists(): AtelierError {
    return new AtelierError(
      'usage',
      `the run directory ${this.path} exists: name another with --run-dir, or go on with it: --resume ${this.path}`,
    );
  }

  /** @throws AtelierError `usage` when `config.json` cannot be read or is not one */
  readConfig(): RunConfig {
    return parseRunConfig(this.readJson('config.json'));
  }

  writeConfig(config: RunConfig): void {
    this.writeJson('config.json', config);
  }

  readManifest(): Readonly<Record<string, unknown>> {
    return this.readJson('manifest.json');
  }

  writeManifest(manifest: Readonly<Record<string, unknown>>): void {
    this.writeJson('manifest.json', manifest);
  }

  /** Sets some fields of the manifest. */
  amendManifest(fields: Readonly<Record<string, unknown>>): void {
    this.writeManifest({ ...this.readManifest(), ...fields });
  }

  /** The summary, if the run has ended. */
  readSummary(): Summary | undefined {
    if (!existsSync(join(this.path, 'summary.json'))) return undefined;
    const parsed = Summary.safeParse(this.readJson('summary.json'));
    return parsed.success ? parsed.data : undefined;
  }

  /** Checks the summary against its schema before it is written: it is an interface. */
  writeSummary(summary: Summary): void {
    this.writeJson('summary.json', Summary.parse(summary));
  }

  appendEpoch(trial: number, fold: number | null, record: EpochRecord): void {
    this.appendLine('metrics.jsonl', { trial, ...record });
    if (fold !== null) this.appendLine(join(this.trialFolder(fold), 'metrics.jsonl'), { trial, ...record });
  }

  /** Makes the metrics what the trials of a resumed run remember: lines beyond a checkpoint come again. */
  rewriteEpochs(
    trials: readonly { trial: number; fold: number | null; records: readonly EpochRecord[] }[],
  ): void {
    const linesOf = (parts: typeof trials): string =>
      parts
        .flatMap(({ trial, records }) => records.map((record) => `${JSON.stringify({ trial, ...record })}\n`))
        .join('');
    writeFileAtomic(join(this.path, 'metrics.jsonl'), linesOf(trials));
    for (const part of trials) {
      if (part.fold === null) continue;
      writeFileAtomic(join(this.path, this.trialFolder(part.fold), 'metrics.jsonl'), linesOf([part]));
    }
  }

  appendEvent(time: number, event: RunEvent): void {
    this.appendLine('events.jsonl', { time: new Date(time).toISOString(), ...event });
  }

  checkpoints(fold: number | null, keep: number): CheckpointStore {
    return new CheckpointStore(join(this.path, this.trialFolder(fold), 'checkpoints'), keep);
  }

  /** @param stepsDone what the file has beyond them is cut off */
  stepLog(fold: number | null, stepsDone: number): StepLog {
    return new StepLog(this.stepLogPath(fold), stepsDone);
  }

  stepLogPath(fold: number | null): string {
    return join(this.path, this.trialFolder(fold), 'step-losses.f64');
  }

  /** Makes and returns the path of a folder inside. */
  folder(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Where the files of a trial lie, from the run directory; made when it is not there. */
  trialFolder(fold: number | null): string {
    if (fold === null) return '.';
    const name = join('folds', String(fold));
    if (existsSync(this.path)) mkdirSync(join(this.path, name), { recursive: true });
    return name;
  }

  private readJson(name: string): Record<string, unknown> {
    const path = join(this.path, name);
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    } catch (cause) {
      throw new AtelierError('usage', `cannot read ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  private writeJson(name: string, value: unknown): void {
    writeFileAtomic(join(this.path, name), `${JSON.stringify(value, null, 2)}\n`);
  }

  private appendLine(name: string, value: unknown): void {
    appendFileSync(join(this.path, name), `${JSON.stringify(value)}\n`);
  }
}
