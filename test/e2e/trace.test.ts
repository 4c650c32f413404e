import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Atelier } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { readTrace } from '../support/trace-rules.js';

const folder = temporaryFolder();
const ROWS = 1_000;
const FOLDS = 2;
const BATCH = 128;

test('--trace draws every step of a run: rounds, slots, sockets, reduction, optimizer', async () => {
  const data = join(folder, 'data');
  writeSmallFashionMnist(data, ROWS, 250);
  const path = join(folder, 'trace.json');
  const run = join(folder, 'run');
  const { code, stdout, stderr } = await new Atelier([
    ...['kfold', '--folds', String(FOLDS), '--model', 'dense', '--dataset', data, '--epochs', '1'],
    ...['--batch-size', String(BATCH), '--workers', '2', '--slots', '1', '--no-shared-memory'],
    ...['--run-dir', run, '--trace', path],
  ]).exit;
  expect({ code, stderr }).toMatchObject({ code: 0 });
  expect(stdout).toContain(`Trace ${path} (`);

  const { spans, marks } = readTrace(readFileSync(path, 'utf8'));
  expect(marks).toEqual([]);
  const count = (process: RegExp, name: RegExp): number =>
    spans.filter((span) => process.test(span.process) && name.test(span.name)).length;
  const steps = FOLDS * Math.ceil((ROWS * (1 - 1 / FOLDS)) / BATCH);
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
  const { workers } = readSummary(run);
  const lanes = new Set(spans.map(({ process }) => process).filter((name) => name.startsWith('worker ')));
  expect([...lanes].sort()).toEqual(workers.map(({ name }) => `worker ${name}`).sort());

  // What the optimizer does lies within the taking of the last answer, and that within the round.
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
