import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { RunName } from '../../shared/api.js';
import type { RunConfig } from '../../shared/config.js';
import { AtelierError, messageOf } from '../../shared/errors.js';
import { writeFileAtomic } from '../files.js';
import { FolderLock } from '../folder-lock.js';
import { runName } from '../run-directory.js';

/** A run that was handed in, until it is over: `submission.json`. */
const Submission = z.object({
  /** Runs begin in this order. */
  order: z.int().min(0),
  submittedAt: z.iso.datetime(),
  /** How it ended; null: it is still to be done, or to be gone on with. */
  end: z.object({ status: z.enum(['done', 'failed', 'stopped']), reason: z.string().nullable() }).nullable(),
});
export type Submission = z.infer<typeof Submission>;

const SUBMISSION = 'submission.json';
const TOPOLOGY = 'topology.json';
/** Folders that are not whole yet. */
const INCOMING = '.incoming-';

/** A run that waits, or went on when the coordinator ended. */
export interface UnfinishedRun {
  readonly name: string;
  /** It has a manifest: it is resumed. */
  readonly isBegun: boolean;
}

/**
 * The folder of all runs: the service's only memory. A run that was handed in is a folder with config.json and
 * submission.json, which appears whole.
 */
export class RunsFolder {
  readonly path: string;
  private readonly lock: FolderLock;

  private constructor(path: string, lock: FolderLock) {
    this.path = path;
    this.lock = lock;
  }

  /** @throws AtelierError `usage` when it cannot be made, or another coordinator has it */
  static open(folder: string): RunsFolder {
    const path = resolve(folder);
    try {
      mkdirSync(path, { recursive: true });
    } catch (cause) {
      throw new AtelierError('usage', `cannot make the runs folder ${path}: ${messageOf(cause)}`, { cause });
    }
    const runs = new RunsFolder(path, FolderLock.take(path));
    for (const entry of readdirSync(path)) {
      if (entry.startsWith(INCOMING)) rmSync(join(path, entry), { recursive: true, force: true });
    }
    return runs;
  }

  close(): void {
    this.lock.release();
  }

  pathOf(name: string): string {
    return join(this.path, RunName.parse(name));
  }

  /** Names of all runs, newest first. Links are none. */
  names(): string[] {
    return readdirSync(this.path)
      .filter((name) => RunName.safeParse(name).success && this.has(name))
      .sort()
      .reverse();
  }

  has(name: string): boolean {
    const path = this.pathOf(name);
    return (
      (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false) &&
      existsSync(join(path, 'config.json'))
    );
  }

  /**
   * Takes in a run.
   * @param topology of a network that is no preset; `config.model` is then its file
   * @returns its name
   */
  add(
    label: string,
    config: RunConfig,
    topology: Readonly<Record<string, unknown>> | null,
    now: Date,
  ): string {
    const base = runName(now, label);
    let name = base;
    for (let again = 2; existsSync(this.pathOf(name)); again++) name = `${base}-${again}`;
    const incoming = join(this.path, `${INCOMING}${name}`);
    mkdirSync(incoming);
    const whole = this.pathOf(name);
    const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
    if (topology !== null) writeFileAtomic(join(incoming, TOPOLOGY), json(topology));
    const model = topology === null ? config.model : join(whole, TOPOLOGY);
    writeFileAtomic(join(incoming, 'config.json'), json({ ...config, model }));
    const submission: Submission = { order: this.nextOrder(), submittedAt: now.toISOString(), end: null };
    writeFileAtomic(join(incoming, SUBMISSION), json(submission));
    renameSync(incoming, whole);
    return name;
  }

  /** What was handed in and is not over, in the order in which it goes on: first what had begun. */
  unfinished(): UnfinishedRun[] {
    return this.names()
      .flatMap((name) => {
        const submission = this.submission(name);
        const path = this.pathOf(name);
        if (submission === null || submission.end !== null || existsSync(join(path, 'summary.json')))
          return [];
        return [{ name, isBegun: existsSync(join(path, 'manifest.json')), order: submission.order }];
      })
      .sort((a, b) => Number(b.isBegun) - Number(a.isBegun) || a.order - b.order)
      .map(({ name, isBegun }) => ({ name, isBegun }));
  }

  /** Null for a run that was not handed in here, such as one of `atelier train`. */
  submission(name: string): Submission | null {
    try {
      return Submission.parse(JSON.parse(readFileSync(join(this.pathOf(name), SUBMISSION), 'utf8')));
    } catch {
      return null;
    }
  }

  /** A run is over: it is not begun or gone on with any more. */
  end(name: string, end: NonNullable<Submission['end']>): void {
    const submission = this.submission(name);
    if (submission === null) return;
    const text = `${JSON.stringify({ ...submission, end }, null, 2)}\n`;
    writeFileAtomic(join(this.pathOf(name), SUBMISSION), text);
  }

  private nextOrder(): number {
    return 1 + Math.max(-1, ...this.names().map((name) => this.submission(name)?.order ?? -1));
  }
}
