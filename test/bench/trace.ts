/**
 * `npm run bench -- trace`: where the wall time of a step goes, from the traces (`--trace`) of one epoch, two slots with a shard each. An
 * instant counts for the first of the rows that it fits; the steps are the fastest half, in which other load of the machine
 * shows least.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT_ROOT } from '../../shared/version.js';
import { readTrace, type CheckedSpan } from '../support/trace-rules.js';
import { circumstances, publish } from './results.js';

const BATCH = 256;
const ONE_WORKER = ['--workers', '1', '--slots', '2'];
const TWO_WORKERS = ['--workers', '2', '--slots', '1'];
const CASES = [
  { title: 'lenet', args: ['--model', 'lenet', ...ONE_WORKER] },
  { title: 'cnn', args: ['--model', 'cnn', ...ONE_WORKER] },
  { title: 'dense', args: ['--model', 'dense', ...ONE_WORKER] },
  { title: 'dense, two workers', args: ['--model', 'dense', ...TWO_WORKERS] },
  { title: 'the same by sockets alone', args: ['--model', 'dense', ...TWO_WORKERS, '--no-shared-memory'] },
] as const;

interface Interval {
  readonly start: number;
  readonly end: number;
}

/** What an instant of a step may count for, and how many spans of it there must be. */
const PARTS: readonly { title: string; is: (span: CheckedSpan) => boolean; atOnce: number }[] = [
  { title: 'both slots compute', is: isTask, atOnce: 2 },
  { title: 'one slot computes', is: isTask, atOnce: 1 },
  { title: 'mean, L2, optimizer', is: isDone('optimizer'), atOnce: 1 },
  { title: 'adding partials, checking their rows', is: isDone('reduce'), atOnce: 1 },
  { title: 'parameters encoded, or left for workers', is: isDone('broadcast'), atOnce: 1 },
  { title: 'reading gradients from the exchange', is: isDone('read'), atOnce: 1 },
  { title: 'reading gradients from sockets', is: isReceived, atOnce: 1 },
  { title: 'writing to sockets', is: isDone('write'), atOnce: 1 },
  { title: 'the rest of taking answers', is: isDone('take partial'), atOnce: 1 },
];
const REST = 'hand-overs between threads and processes';

function isTask({ process, name }: CheckedSpan): boolean {
  return process.startsWith('worker ') && name === 'partial';
}
function isReceived({ process, lane, name }: CheckedSpan): boolean {
  return process.startsWith('sockets') && lane.startsWith('from ') && name === 'partial';
}
function isDone(what: string): (span: CheckedSpan) => boolean {
  return ({ process, name }) => process === 'coordinator' && name === what;
}

/** Milliseconds of each part, of one step; the last one is the rest. */
function partsOf(step: Interval, spans: readonly (readonly Interval[])[]): number[] {
  const inside = spans.map((all) => all.filter(({ start, end }) => end > step.start && start < step.end));
  const cuts = new Set([step.start, step.end]);
  for (const { start, end } of inside.flat()) {
    cuts.add(Math.max(start, step.start));
    cuts.add(Math.min(end, step.end));
  }
  const times = [...cuts].sort((a, b) => a - b);
  const parts = Array.from({ length: PARTS.length + 1 }, () => 0);
  times.slice(1).forEach((end, i) => {
    const start = times[i] ?? end;
    const now = inside.map((all) => all.filter((span) => span.start <= start && span.end >= end).length);
    const found = PARTS.findIndex(({ atOnce }, part) => (now[part] ?? 0) >= atOnce);
    const part = found === -1 ? PARTS.length : found;
    parts[part] = (parts[part] ?? 0) + end - start;
  });
  return parts;
}

async function measure(args: readonly string[]): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-trace-'));
  try {
    const path = join(folder, 'trace.json');
    const main = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
    await promisify(execFile)(process.execPath, [
      ...[main, 'train', ...args, '--epochs', '1', '--batch-size', String(BATCH), '--shards', '2'],
      ...['--quiet', '--run-dir', join(folder, 'run'), '--trace', path],
    ]);
    const { spans } = readTrace(readFileSync(path, 'utf8'));
    const byPart = PARTS.map(({ is }) => spans.filter(is));
    const steps = spans
      .filter(({ process, name }) => process === 'trials' && name.startsWith('step '))
      .sort((a, b) => a.end - a.start - (b.end - b.start));
    const fastest = steps.slice(0, Math.ceil(steps.length / 2));
    const parts = fastest.map((step) => partsOf(step, byPart));
    const mean = (i: number): number => parts.reduce((sum, of) => sum + (of[i] ?? 0), 0) / parts.length;
    return [...PARTS, REST].map((_, i) => mean(i));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const columns: number[][] = [];
for (const { args } of CASES) columns.push(await measure(args));
const row = (title: string, values: readonly number[]): string =>
  `| ${title} | ${values.map((value) => value.toFixed(2)).join(' | ')} |`;
const titles = [...PARTS.map(({ title }) => title), REST];

publish(
  'trace',
  `# Where the wall time of a step goes

${circumstances('2.21.0')}

One epoch, batch ${BATCH}, one worker of two slots or two of one, a shard a slot, from \`--trace\`: milliseconds of a step, mean of the faster half of the
steps. What happens while a slot computes costs nothing and is not in the other rows.

| | ${CASES.map(({ title }) => title).join(' | ')} |
| --- | ${CASES.map(() => '---:').join(' | ')} |
${titles
  .map((title, i) =>
    row(
      title,
      columns.map((column) => column[i] ?? NaN),
    ),
  )
  .join('\n')}
${row(
  '**a step**',
  columns.map((column) => column.reduce((sum, part) => sum + part)),
)}
`,
);
