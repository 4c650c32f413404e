/**
 * `npm run bench -- keras`: the wall time of `npm start` with its defaults (cnn, 5 epochs, batch 256, two workers) against the same training
 * by Keras' `fit` in one Python process with two threads, alternating, start-up included. ATELIER_PEERS=/path/to/python names a Python
 * with tensorflow; ATELIER_BENCH_ROUNDS says how many pairs (3). A training that does not learn as the other does ends the benchmark.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { locateDataset } from '../../shared/dataset/load.js';
import { Summary } from '../../shared/summary.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { circumstances, publish } from './results.js';
import { median } from './train-here.js';

const ROUNDS = Number(process.env['ATELIER_BENCH_ROUNDS'] ?? 3);
const [MODEL, EPOCHS, BATCH] = ['cnn', 5, 256] as const;
/** Of the study's three networks (FACTS: 0.8906 to 0.8968 after five epochs of Keras): both must reach it, and be as near to each other. */
const LEAST_ACCURACY = 0.86;
const MOST_APART = 0.025;

const run = promisify(execFile);

interface Outcome {
  readonly wallSeconds: number;
  readonly losses: readonly number[];
  readonly testAccuracy: number;
  /** What the wall time is made of. */
  readonly parts: Readonly<Record<string, number>>;
}

interface FitReport {
  readonly parameters: number;
  readonly losses: readonly number[];
  readonly testAccuracy: number;
  readonly seconds: Readonly<Record<string, number>>;
}

async function timed(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ stdout: string; wallSeconds: number }> {
  const before = performance.now();
  const { stdout } = await run(command, args, { cwd: PROJECT_ROOT, env, maxBuffer: 1e8 });
  return { stdout, wallSeconds: (performance.now() - before) / 1000 };
}

async function atelier(): Promise<Outcome> {
  const scratch = mkdtempSync(join(tmpdir(), 'atelier-bench-'));
  try {
    const args = ['--silent', 'start', '--', '--json', '--run-dir', join(scratch, 'run')];
    const { stdout, wallSeconds } = await timed('npm', args, process.env);
    const summary = Summary.parse(JSON.parse(stdout));
    const { model, epochs, batchSize, workers } = summary.config;
    if (model !== MODEL || epochs !== EPOCHS || batchSize !== BATCH || workers !== 2) {
      throw new Error('the defaults of `atelier train` are others: change the peer too');
    }
    const [trial] = summary.trials;
    const records = trial?.epochs ?? [];
    const epochSeconds = records.reduce((sum, { seconds }) => sum + seconds, 0);
    return {
      wallSeconds,
      losses: records.map(({ loss }) => loss),
      testAccuracy: trial?.test?.accuracy ?? Number.NaN,
      parts: { epochs: epochSeconds, 'start-up, test, report, exit': wallSeconds - epochSeconds },
    };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function keras(python: string): Promise<Outcome> {
  const script = join(PROJECT_ROOT, 'test', 'bench', 'peers', 'fit_peer.py');
  const { stdout, wallSeconds } = await timed(python, [script, MODEL, String(EPOCHS), String(BATCH)], {
    ...process.env,
    FASHION_MNIST: locateDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env }),
    CUDA_VISIBLE_DEVICES: '-1',
  });
  const report = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as FitReport;
  return { wallSeconds, losses: report.losses, testAccuracy: report.testAccuracy, parts: report.seconds };
}

function check(name: string, { losses, testAccuracy }: Outcome): void {
  const [first = 0] = losses;
  if (losses.length === EPOCHS && (losses.at(-1) ?? first) < first && testAccuracy >= LEAST_ACCURACY) return;
  throw new Error(
    `${name} does not learn: losses ${losses.map((loss) => loss.toFixed(3)).join(', ')}, accuracy ${testAccuracy}`,
  );
}

const python = process.env['ATELIER_PEERS'];
if (python === undefined) throw new Error('ATELIER_PEERS=/path/to/python (with tensorflow) is needed');
const head = circumstances('2.21.0');
const own: Outcome[] = [];
const theirs: Outcome[] = [];
const lines: string[] = [];
for (let round = 1; round <= ROUNDS; round++) {
  // Who comes second may find a warmer disk: they take turns.
  const order = round % 2 === 1 ? [atelier, keras] : [keras, atelier];
  let ours: Outcome | undefined;
  let fit: Outcome | undefined;
  for (const train of order) {
    if (train === atelier) ours = await atelier();
    else fit = await keras(python);
  }
  if (ours === undefined || fit === undefined) throw new Error('a pair has two');
  check('Atelier', ours);
  check('Keras', fit);
  if (Math.abs(ours.testAccuracy - fit.testAccuracy) > MOST_APART) {
    throw new Error(`test accuracies of ${ours.testAccuracy} and ${fit.testAccuracy} are too far apart`);
  }
  own.push(ours);
  theirs.push(fit);
  const shown = ({ wallSeconds, losses, testAccuracy }: Outcome): string =>
    `${wallSeconds.toFixed(1)} | ${losses.at(-1)?.toFixed(3) ?? ''}, ${testAccuracy.toFixed(4)}`;
  lines.push(
    `| ${round} | ${shown(ours)} | ${shown(fit)} | ${(ours.wallSeconds / fit.wallSeconds).toFixed(2)} |`,
  );
  process.stderr.write(`${lines.at(-1) ?? ''}\n`);
}
const wall = (outcomes: readonly Outcome[]): number => median(outcomes.map((each) => each.wallSeconds));
const partsOf = (outcomes: readonly Outcome[]): string =>
  Object.keys(outcomes[0]?.parts ?? {})
    .map((part) => `${part} ${median(outcomes.map(({ parts }) => parts[part] ?? 0)).toFixed(1)} s`)
    .join(', ');
publish(
  'keras',
  `# A whole training against Keras' fit

${head}, load after: ${(loadavg()[0] ?? 0).toFixed(2)}
- Wall time from the command to its end, start-up included: \`npm start\` on a machine that is set up (${MODEL}, ${EPOCHS} epochs, batch ${BATCH}, two workers
  of one slot; validation after each epoch, test, checkpoints, model, TensorBoard files and report at the end), and \`fit\` in one Python process
  with two threads on arrays in memory (the same network, rows, split, L2, optimizer and batch; validation after each epoch, test; nothing written).
- ${ROUNDS} pairs, who comes first alternating. Both are checked to learn, and to be within ${MOST_APART} of each other on the test rows.

| pair | Atelier, s | last loss, test accuracy | Keras, s | last loss, test accuracy | ratio |
|---:|---:|---|---:|---|---:|
${lines.join('\n')}

Medians: Atelier ${wall(own).toFixed(1)} s (${partsOf(own)}), Keras ${wall(theirs).toFixed(1)} s (${partsOf(theirs)}). Ratio ${(wall(own) / wall(theirs)).toFixed(2)}; at most 1.0 is wanted.
Keras' losses hold its L2 terms, Atelier's do not.
`,
);
