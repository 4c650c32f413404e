import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Atelier } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { readTrace, type CheckedSpan } from '../support/trace-rules.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const run = join(folder, 'watched');
const tracePath = join(folder, 'trace.json');
const ROWS = 1_000;
const FOLDS = 2;
const BATCH = 128;
/** Of one trial. */
const STEPS = Math.ceil((ROWS * (1 - 1 / FOLDS)) / BATCH);
const KFOLD = ['kfold', '--folds', String(FOLDS), '--model', 'dense', '--dataset', data];

interface LogLine {
  readonly msg: string;
  readonly run?: string;
  readonly trial?: number;
  readonly worker?: string;
  readonly step?: number;
  readonly lease?: string;
  readonly verdict?: string;
}

describe('a run with --trace and --log debug', () => {
  let stdout: string;
  let spans: CheckedSpan[];
  let marks: string[];
  let lines: LogLine[];

  beforeAll(async () => {
    writeSmallFashionMnist(data, ROWS, 250);
    // Sockets alone: gradients are frames, and large ones.
    const atelier = new Atelier([
      ...[...KFOLD, '--epochs', '1', '--batch-size', String(BATCH), '--no-shared-memory'],
      ...['--workers', '2', '--slots', '1', '--run-dir', run, '--trace', tracePath, '--log', 'debug'],
    ]);
    const exit = await atelier.exit;
    expect(exit).toMatchObject({ code: 0 });
    stdout = exit.stdout;
    ({ spans, marks } = readTrace(readFileSync(tracePath, 'utf8')));
    lines = exit.stderr
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as LogLine);
  });

  test('says to people what it says without', () => {
    expect(stdout).toContain('Training on 2 workers with 2 slots');
    expect(stdout).toContain(`Trace ${tracePath} (`);
    expect(stdout).not.toContain('"lease"');
  });

  test('has a trace of every step: rounds, slots, sockets, reduction, optimizer', () => {
    const count = (process: RegExp, name: RegExp): number =>
      spans.filter((span) => process.test(span.process) && name.test(span.name)).length;
    const steps = FOLDS * STEPS;
    expect(marks).toEqual([]);
    expect(count(/^trials$/, /^step \d+$/)).toBe(steps);
    expect(count(/^trials$/, /^evaluate validation$/)).toBe(FOLDS);
    expect(count(/^coordinator$/, /^optimizer$/)).toBe(steps);
    const partials = count(/^coordinator$/, /^take partial$/);
    expect(partials).toBeGreaterThanOrEqual(steps);
    expect(count(/^coordinator$/, /^reduce$/)).toBeGreaterThanOrEqual(steps);
    expect(count(/^sockets/, /^partial$/)).toBe(partials);
    expect(count(/^sockets/, /^round$/)).toBeGreaterThanOrEqual(steps);
    // One slot: an answer is one task.
    expect(count(/^worker /, /^partial$/)).toBe(partials);
    const shown = new Set(spans.map(({ process }) => process).filter((name) => name.startsWith('worker ')));
    const { workers } = readSummary(run);
    expect([...shown].sort()).toEqual(workers.map(({ name }) => `worker ${name}`).sort());
  });

  test('has a trace in which one thing lies within the other as it did', () => {
    const within = (inner: RegExp, process: string, outer: RegExp): boolean =>
      spans
        .filter(({ name }) => inner.test(name))
        .every((span) =>
          spans.some(
            (around) =>
              around.process === process &&
              outer.test(around.name) &&
              around.start <= span.start &&
              span.end <= around.end,
          ),
        );
    expect(within(/^optimizer$/, 'coordinator', /^reduce$/)).toBe(true);
    expect(within(/^reduce$/, 'coordinator', /^take partial$/)).toBe(true);
    expect(within(/^optimizer$/, 'trials', /^step /)).toBe(true);
  });

  test('has a log that follows each lease from the coordinator to its worker and back by one name', () => {
    const said = (msg: string): LogLine[] => lines.filter((line) => line.msg === msg);
    const places = (all: readonly LogLine[]): Set<string> =>
      new Set(all.map(({ worker, lease }) => `${worker ?? ''} ${lease ?? ''}`));
    const answered = said('answered').filter(({ verdict }) => verdict === 'used');
    expect(answered.length).toBeGreaterThanOrEqual(FOLDS * STEPS);
    const sent = places([...said('partial sent'), ...said('evaluated sent')]);
    const [leased, taken] = [places(said('leased')), places(said('lease taken'))];
    for (const place of places(answered))
      for (const all of [leased, taken, sent]) expect(all).toContain(place);
    for (const line of answered) expect(line).toMatchObject({ run: 'watched' });
    for (const fold of [0, 1]) {
      const steps = said('step').filter(({ trial }) => trial === fold);
      expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: STEPS }, (_, i) => i + 1));
    }
    const joined = said('worker joined').map(({ worker }) => worker);
    expect(joined.sort()).toEqual(['local-0', 'local-1']);
    expect(said('epoch ended')).toHaveLength(FOLDS);
  });
});

test('a level of the log that there is not, or a trace that cannot be written, is refused at once', async () => {
  for (const flags of [
    ['--log', 'loud'],
    ['--trace', join(folder, 'no', 'such', 'folder.json')],
  ]) {
    const { code, stderr } = await new Atelier([...KFOLD, ...flags]).exit;
    expect(code).toBe(2);
    expect(stderr).toContain(flags[0]);
  }
});
