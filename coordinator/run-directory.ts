import { appendFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { AtelierError, messageOf } from '../shared/errors.js';
import type { RunConfig } from '../shared/config.js';
import { Summary, type EpochRecord } from '../shared/summary.js';
import { writeFileAtomic } from './files.js';

/** A line of `events.jsonl`. */
export type RunEvent =
  | { type: 'worker-joined'; worker: number; name: string; host: string; slots: number }
  | { type: 'worker-left'; worker: number; name: string; reason: string }
  | { type: 'warning'; worker: number; name: string; message: string }
  | { type: 'lease'; trial: number; leases: { worker: string; start: number; count: number }[] }
  | { type: 'started'; workers: number }
  /** How long after the start of the process the first step was done. */
  | { type: 'first-step'; secondsAfterStart: number }
  | { type: 'ended'; status: Summary['status']; reason: string | null };

/** `20261122T235000Z-name`. */
export const runName = (now: Date, name: string): string =>
  `${now.toISOString().replace(/[-:]|\.\d+/g, '')}-${name}`;

/** The folder of one run: everything it leaves behind. Files appear whole or not at all. */
export class RunDirectory {
  readonly path: string;

  /** @throws AtelierError `usage` when `path` exists: nothing is ever written over */
  constructor(path: string) {
    this.path = resolve(path);
    if (existsSync(this.path)) throw this.exists();
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
  }

  private exists(): AtelierError {
    return new AtelierError('usage', `the run directory ${this.path} exists: name another with --run-dir`);
  }

  writeConfig(config: RunConfig): void {
    this.writeJson('config.json', config);
  }

  writeManifest(manifest: Readonly<Record<string, unknown>>): void {
    this.writeJson('manifest.json', manifest);
  }

  /** Checks the summary against its schema before it is written: it is an interface. */
  writeSummary(summary: Summary): void {
    this.writeJson('summary.json', Summary.parse(summary));
  }

  appendEpoch(trial: number, record: EpochRecord): void {
    this.appendLine('metrics.jsonl', { trial, ...record });
  }

  appendEvent(time: number, event: RunEvent): void {
    this.appendLine('events.jsonl', { time: new Date(time).toISOString(), ...event });
  }

  /** Makes and returns the path of a folder inside. */
  folder(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  private writeJson(name: string, value: unknown): void {
    writeFileAtomic(join(this.path, name), `${JSON.stringify(value, null, 2)}\n`);
  }

  private appendLine(name: string, value: unknown): void {
    appendFileSync(join(this.path, name), `${JSON.stringify(value)}\n`);
  }
}
