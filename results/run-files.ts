import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { z } from 'zod';
import { AtelierError, messageOf } from '../shared/errors.js';
import { Summary, type TrialSummary } from '../shared/summary.js';

/** What is read of `events.jsonl`: its end. */
const MAX_EVENT_BYTES = 8 * 1024 * 1024;

/** What a report uses of `manifest.json`. */
const Manifest = z.looseObject({
  startedAt: z.string(),
  gitCommit: z.string().nullable().default(null),
  versions: z.record(z.string(), z.unknown()).default({}),
  dataset: z.looseObject({
    name: z.string(),
    sha256: z.string(),
    folder: z.string().nullable().default(null),
    trainRows: z.int().min(0),
    testRows: z.int().min(0),
    imageShape: z.tuple([z.int(), z.int(), z.int()]),
    classNames: z.array(z.string()).min(2),
  }),
  model: z.looseObject({ name: z.string(), parameters: z.int() }),
  argv: z.array(z.string()).default([]),
  host: z.record(z.string(), z.unknown()).default({}),
});
export type Manifest = z.infer<typeof Manifest>;

const EventLine = z.looseObject({ time: z.string(), type: z.string() });
/** A line of `events.jsonl`: which fields it has depends on its type. */
export type EventLine = z.infer<typeof EventLine>;

/** A run directory, read. */
export interface RunFiles {
  readonly path: string;
  readonly name: string;
  readonly summary: Summary;
  readonly manifest: Manifest;
  /** In order; the newest of them when there are very many. */
  readonly events: readonly EventLine[];
}

/**
 * Reads what a run left behind.
 * @throws AtelierError `usage` (not a run directory), `data` (incomplete or damaged)
 */
export function readRun(directory: string): RunFiles {
  const path = resolve(directory);
  if (!existsSync(path) || !statSync(path).isDirectory()) {
    throw new AtelierError(
      'usage',
      `${directory} is not a folder: name a run directory, such as runs/<time>-<name>`,
    );
  }
  if (!existsSync(join(path, 'config.json'))) {
    throw new AtelierError('usage', `${directory} is not a run directory: it has no config.json`);
  }
  if (!existsSync(join(path, 'summary.json'))) {
    throw new AtelierError(
      'data',
      `${directory} has no summary.json: the run is still going on, or was killed. Wait for its end, or start it again`,
    );
  }
  return {
    path,
    name: basename(path),
    summary: readChecked(path, 'summary.json', Summary),
    manifest: readChecked(path, 'manifest.json', Manifest),
    events: readEvents(join(path, 'events.jsonl')),
  };
}

function readChecked<T>(folder: string, name: string, schema: z.ZodType<T>): T {
  const path = join(folder, name);
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new AtelierError('data', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join('.') ?? '';
  throw new AtelierError(
    'data',
    `${path} is not what this version of atelier writes (${where}: ${issue?.message ?? ''}): ` +
      `use the version that wrote it`,
  );
}

function readEvents(path: string): EventLine[] {
  if (!existsSync(path)) return [];
  const file = openSync(path, 'r');
  let text: string;
  let whole: boolean;
  try {
    const { size } = statSync(path);
    const bytes = Buffer.alloc(Math.min(size, MAX_EVENT_BYTES));
    readSync(file, bytes, 0, bytes.length, size - bytes.length);
    text = bytes.toString('utf8');
    whole = bytes.length === size;
  } finally {
    closeSync(file);
  }
  const lines = text.split('\n').slice(whole ? 0 : 1);
  return lines.flatMap((line) => {
    try {
      // A process that was killed leaves half a line.
      return [EventLine.parse(JSON.parse(line))];
    } catch {
      return [];
    }
  });
}

/** Where the trained network of a trial lies. */
export const modelFolder = (run: RunFiles, trial: TrialSummary): string =>
  trial.fold === null ? join(run.path, 'model') : join(run.path, 'folds', String(trial.fold), 'model');

/**
 * The trial that is looked at: the fold that was asked for; else the only one, the final fit, or the first fold.
 * @throws AtelierError `usage` when there is no such fold, `data` when the run has no trial
 */
export function chooseTrial(run: RunFiles, fold: number | null): TrialSummary {
  const { trials } = run.summary;
  const preferred = trials.find((trial) => trial.fold === fold);
  const found = preferred ?? (fold === null ? trials[0] : undefined);
  if (found !== undefined) return found;
  if (trials.length === 0)
    throw new AtelierError('data', `${run.path}: the run ended before it had a result`);
  const folds = trials.flatMap((trial) => (trial.fold === null ? [] : [trial.fold]));
  throw new AtelierError(
    'usage',
    folds.length === 0
      ? `--fold ${fold ?? ''}: ${run.name} is not a k-fold run`
      : `--fold ${fold ?? ''}: ${run.name} has the folds ${folds.join(', ')}`,
  );
}
