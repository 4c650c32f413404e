/**
 * `npm run bench -- times`: what a person waits for besides training, and what it takes in memory: the start of `atelier train` until the first
 * step, in parts; resuming; a worker that joins in mid-run; the report; an evaluation of the 10,000 test rows. Medians. A run that
 * was stopped and resumed must end in the hash of one that was not, and the evaluation in the counts of the run.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RunEvent } from '../../coordinator/run-directory.js';
import { Run } from '../../coordinator/run.js';
import { ExitCode } from '../../shared/errors.js';
import { Summary } from '../../shared/summary.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ProcessMemory } from './process-memory.js';
import { circumstances, publish } from './results.js';
import { BenchWorkers, median, trainHere } from './train-here.js';

const ROUNDS = Number(process.env['ATELIER_BENCH_ROUNDS'] ?? 3);
const MAIN = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
const LOOK_MS = 20;
/** A worker joins after so many steps of a run. */
const JOIN_STEP = 20;
const MIB = 2 ** 20;
/** What is wanted of the first step. */
const WANTED_SECONDS = 5;

type Event = RunEvent & { readonly time: string };

const readEvents = (folder: string): Event[] => {
  const path = join(folder, 'events.jsonl');
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Event);
};

interface Command {
  readonly child: ChildProcess;
  /** When it was given, in milliseconds since the epoch. */
  readonly at: number;
  /** What it has said, seconds it took, and memory. */
  readonly ended: Promise<{ code: number | null; said: string; seconds: number; own: number; child: number }>;
}

function atelier(...args: readonly string[]): Command {
  const at = Date.now();
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const memory = new ProcessMemory(child.pid ?? 0);
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = new Promise<Awaited<Command['ended']>>((resolve) =>
    child.once('close', (code) => {
      const { own, largestChild } = memory.stop();
      resolve({ code, said, seconds: (Date.now() - at) / 1000, own, child: largestChild });
    }),
  );
  return { child, at, ended };
}

/** Waits until the run there has written so many events of that type; throws when the command ends before. */
async function eventOf(command: Command, folder: string, type: Event['type'], count = 1): Promise<Event> {
  const { child } = command;
  for (;;) {
    const found = readEvents(folder).filter((event) => event.type === type)[count - 1];
    if (found !== undefined) return found;
    if (child.exitCode !== null) throw new Error(`the run ended with ${child.exitCode} before its ${type}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Starts or resumes a run, and stops it after its first step. Seconds from the command to what each part ends with. */
async function startUp(folder: string, args: readonly string[], count: number) {
  const command = atelier('train', '--quiet', ...args);
  const first = await eventOf(command, folder, 'first-step', count);
  command.child.kill('SIGTERM');
  const { code, own, child } = await command.ended;
  if (code !== ExitCode.stopped) throw new Error(`a run that was stopped ended with ${code ?? 'a signal'}`);
  const events = readEvents(folder);
  const last = <Type extends Event['type']>(type: Type): Extract<Event, { type: Type }> => {
    const found = events.findLast((event): event is Extract<Event, { type: Type }> => event.type === type);
    if (found === undefined) throw new Error(`no ${type} among the events`);
    return found;
  };
  const { imported, loaded, listening } = last('start-up');
  const joined = last('worker-joined');
  const since = (time: string): number => (Date.parse(time) - command.at) / 1000;
  const ready = since(last('started').time);
  const greeted = since(joined.time) - joined.preparedMs / 1000;
  const done = since(first.time);
  const parts = {
    'node and imports': imported,
    'data and model': loaded - imported,
    'server, weights, run directory': listening - loaded,
    'worker: node, imports, TensorFlow, data': greeted - listening,
    'worker: compiling, probe': ready - greeted,
    'first step': done - ready,
  };
  return { done, parts, own, child };
}

/** Seconds from a worker's start in mid-run to its joining, and to its first gradient. */
async function joinInMidRun(): Promise<{ joined: number; answered: number }> {
  const workers = new BenchWorkers();
  workers.start('first', 1);
  let startedAt = 0;
  let joined = 0;
  let answered = 0;
  const prototype = Run.prototype as {
    answered: (this: Run, ...args: Parameters<Run['answered']>) => ReturnType<Run['answered']>;
  };
  const { answered: original } = prototype;
  prototype.answered = function (...args) {
    const [worker] = args;
    if (worker.hello.name === 'second' && answered === 0) answered = performance.now();
    return original.apply(this, args);
  };
  try {
    await trainHere(
      { model: 'lenet', workers: 0, minWorkers: 1, listen: workers.listen, epochs: 50, validationRows: 0 },
      {
        stepped: ({ epoch, stepInEpoch }) => {
          if (epoch > 0 || stepInEpoch !== JOIN_STEP) return;
          startedAt = performance.now();
          workers.start('second', 1);
        },
        workerJoined: ({ hello }) => {
          if (hello.name === 'second') joined = performance.now();
        },
      },
      () => answered > 0,
    );
  } finally {
    prototype.answered = original;
    workers.kill();
  }
  return { joined: (joined - startedAt) / 1000, answered: (answered - startedAt) / 1000 };
}

async function finished(...args: readonly string[]): Promise<Awaited<Command['ended']>> {
  const result = await atelier(...args).ended;
  if (result.code !== ExitCode.done)
    throw new Error(`atelier ${args.join(' ')}: ended with ${result.code ?? 'a signal'}`);
  return result;
}

const summaryOf = (folder: string): Summary =>
  Summary.parse(JSON.parse(readFileSync(join(folder, 'summary.json'), 'utf8')));

const head = circumstances('2.21.0');
const scratch = mkdtempSync(join(tmpdir(), 'atelier-times-'));
const collected = new Map<string, { seconds: number[]; own: number[]; child: number[] }>();
const note = (name: string, seconds: number, own = 0, child = 0): void => {
  const all = collected.get(name) ?? { seconds: [], own: [], child: [] };
  collected.set(name, all);
  all.seconds.push(seconds);
  all.own.push(own);
  all.child.push(child);
};
try {
  // A whole run, and the same stopped and resumed.
  const whole = join(scratch, 'whole');
  const again = join(scratch, 'again');
  const settings = ['--model', 'lenet', '--epochs', '1'];
  await finished('train', '--quiet', ...settings, '--run-dir', whole);
  await startUp(again, [...settings, '--run-dir', again], 1);
  await finished('train', '--quiet', '--resume', again);
  if (summaryOf(again).weightsSha256 !== summaryOf(whole).weightsSha256) {
    throw new Error('a run that was stopped and resumed ended in other weights');
  }
  const test = summaryOf(whole).trials[0]?.test;
  for (let round = 0; round < ROUNDS; round++) {
    const folder = join(scratch, `cnn-${round}`);
    const started = await startUp(folder, ['--run-dir', folder], 1);
    note('start: command to first step', started.done, started.own, started.child);
    for (const [part, seconds] of Object.entries(started.parts)) note(`- ${part}`, seconds);
    const resumed = await startUp(folder, ['--resume', folder], 2);
    note('resume: command to first step', resumed.done, resumed.own, resumed.child);

    const { joined, answered } = await joinInMidRun();
    note('a worker joins in mid-run: command to joined', joined);
    note('- to its first gradient', answered);

    const report = await finished('report', whole);
    const page = readFileSync(join(whole, 'report.html'), 'utf8');
    if (!page.trimEnd().endsWith('</html>')) throw new Error('report.html is not whole');
    note('report.html', report.seconds, report.own, report.child);

    const evaluation = await finished('evaluate', whole, '--split', 'test', '--json');
    const { rows, accuracy } = JSON.parse(evaluation.said) as { rows: number; accuracy: number };
    if (rows !== test?.rows || accuracy !== test.accuracy)
      throw new Error(`evaluate says ${evaluation.said}`);
    note('evaluation of 10,000 rows', evaluation.seconds, evaluation.own, evaluation.child);
    process.stderr.write(
      `${round + 1} of ${ROUNDS}: first step after ${started.done.toFixed(2)} s, load ${(loadavg()[0] ?? 0).toFixed(1)}\n`,
    );
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
const mib = (values: readonly number[]): string => {
  const bytes = Math.max(...values);
  return bytes === 0 ? '' : (bytes / MIB).toFixed(0);
};
const lines = [...collected].map(
  ([name, { seconds, own, child }]) =>
    `| ${name} | ${median(seconds).toFixed(2)} | ${Math.max(...seconds).toFixed(2)} | ${mib(own)} | ${mib(child)} |`,
);
const firstStep = median(collected.get('start: command to first step')?.seconds ?? []);
publish(
  'times',
  `# Times and memory of everything else

${head}, load after: ${(loadavg()[0] ?? 0).toFixed(2)}
- Medians of ${ROUNDS} rounds, in seconds from the command. Start and resume: \`atelier train\` with its defaults (cnn, two workers of one slot), stopped after its first
  step. Joining: lenet, a second worker process. Report and evaluation: of a run of lenet. The first step should come within ${WANTED_SECONDS} s: it came after ${firstStep.toFixed(1)} s.
- Memory: the most that the process had resident (VmHWM), and the largest process that it had started, of all rounds.
- A run that was stopped after its first step and resumed ended in the hash of one that was not; the evaluation in the run's own accuracy.

| what | median, s | slowest, s | MiB, process | MiB, its largest worker |
|---|---:|---:|---:|---:|
${lines.join('\n')}
`,
);
process.exit(0);
