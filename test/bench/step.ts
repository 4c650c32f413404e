/**
 * `npm run bench -- step`: images/s of forward + backward, contestants side by side, alternating, medians. With
 * ATELIER_PEERS=/path/to/python (with tensorflow and torch) Keras and PyTorch take part.
 */
import { join } from 'node:path';
import { locateDataset } from '../../shared/dataset/load.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { tensorflowSettings } from '../../worker/tensorflow-settings.js';
import { availableCores } from '../../cli/numbers.js';
import { Contestant } from './contestant.js';
import { circumstances, publish } from './results.js';

const MODELS = ['lenet', 'cnn', 'dense'] as const;
const BATCHES = [32, 128, 256] as const;
const ROUNDS = 5;
const SECONDS = 1.5;
/** An untrained classifier of ten classes has a loss near ln 10; anything else computes something else. */
const LOSS_RANGE = [1.8, 3.2] as const;

const threads = String(availableCores());
const contestantFile = join(PROJECT_ROOT, 'dist', 'test', 'bench', 'step-contestant.js');
const ours = (
  mode: string,
  model: string,
  rows: number,
  slots: number,
  intra: string,
  inter: string,
): Contestant =>
  new Contestant(mode, process.execPath, [contestantFile, mode, model, String(rows), String(slots)], {
    ...tensorflowSettings(Number(inter), process.env),
    TF_NUM_INTRAOP_THREADS: intra,
  });

function contestants(model: string, rows: number): Contestant[] {
  const python = process.env['ATELIER_PEERS'];
  const field = [
    ours('eager', model, rows, 1, threads, threads),
    ours('compiled', model, rows, 1, threads, threads),
    ours('slots', model, rows, availableCores(), '1', threads),
  ];
  if (python === undefined) return field;
  const script = join(PROJECT_ROOT, 'test', 'bench', 'peers', 'step_peer.py');
  const FASHION_MNIST = locateDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env });
  const peer = (framework: string): Contestant =>
    new Contestant(framework, python, [script, framework, model, String(rows), threads], { FASHION_MNIST });
  return [...field, peer('keras'), peer('torch')];
}

type Row = Record<string, number>;

async function cell(model: string, rows: number): Promise<Row> {
  const field = contestants(model, rows);
  const losses = await Promise.all(field.map((contestant) => contestant.ready()));
  losses.forEach((loss, i) => {
    const name = field[i]?.name ?? '';
    if (!(loss > LOSS_RANGE[0] && loss < LOSS_RANGE[1])) throw new Error(`${name} ${model}: loss ${loss}`);
  });
  const [eager = 0, compiled = 0, slots = 0] = losses;
  if (Math.abs(compiled / eager - 1) > 1e-5 || Math.abs(slots / eager - 1) > 1e-5) {
    throw new Error(`${model} ${rows}: losses of one batch differ: ${losses.join(', ')}`);
  }
  for (const contestant of field) await contestant.measure(SECONDS);
  for (const contestant of field) contestant.rates.length = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const contestant of field) await contestant.measure(SECONDS);
  }
  await Promise.all(field.map((contestant) => contestant.end()));
  process.stderr.write(
    `${model} ${rows}: ${field.map(({ name, median }) => `${name} ${Math.round(median)}`).join(', ')}\n`,
  );
  return Object.fromEntries(field.map(({ name, median }) => [name, median]));
}

const pool = new ComputePool(1);
const { tensorflow } = await pool.warmUp();
await pool.close();
const head = circumstances(tensorflow);
const table = new Map<string, Row>();
for (const model of MODELS)
  for (const rows of BATCHES) table.set(`${model} ${rows}`, await cell(model, rows));

const at = (key: string, name: string): number => table.get(key)?.[name] ?? Number.NaN;
const number = (value: number): string =>
  Number.isNaN(value) ? '-' : Math.round(value).toLocaleString('en-US');
const lines = [...table].map(([key, row]) => {
  const {
    eager = Number.NaN,
    compiled = Number.NaN,
    slots = Number.NaN,
    keras = Number.NaN,
    torch = Number.NaN,
  } = row;
  const rates = [eager, compiled, slots, keras, torch].map(number).join(' | ');
  return `| ${key} | ${rates} | ${(compiled / eager).toFixed(2)} | ${(slots / eager).toFixed(2)} |`;
});
const versus = MODELS.map((model) => {
  const best = Math.max(at(`${model} 32`, 'slots'), at(`${model} 128`, 'slots'));
  const torch = at(`${model} 256`, 'torch');
  const ratio = Number.isNaN(torch) ? '-' : (best / torch).toFixed(2);
  return `| ${model} | ${number(best)} | ${number(torch)} | ${ratio} |`;
});
publish(
  'step',
  `# Forward and backward, images/s

${head}
- ${ROUNDS} rounds of ${SECONDS} s each, contestants alternating, medians. Nothing else ran.
- eager: tfjs-node op by op, all ${threads} threads. compiled: one slot with all threads. slots: ${threads} one-thread slots
  together (what a worker uses). keras: \`tf.function\`, torch: eager, both with ${threads} threads.

| model, batch | eager | compiled | slots | keras | torch | compiled/eager | slots/eager |
|---|---|---|---|---|---|---|---|
${lines.join('\n')}

Slots at their best micro-batch (32 or 128) over PyTorch at batch 256:

| model | slots | torch 256 | ratio |
|---|---|---|---|
${versus.join('\n')}
`,
);
