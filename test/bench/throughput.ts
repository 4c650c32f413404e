/**
 * `npm run bench -- throughput`: images/s of whole training on two cores, Atelier with two workers of one slot and with
 * one worker of two, alternating with the roofline: the same slots computing the same gradients, with new weights for every
 * step, that go nowhere. With ATELIER_PEERS=/path/to/python (with tensorflow and torch) PyTorch DDP and TensorFlow's
 * MultiWorkerMirroredStrategy take part. ATELIER_BENCH_CELLS="dense 256,lenet 64" takes some of them alone. Medians; a
 * training that does not learn as the others do ends the benchmark. Takes 50 minutes.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { locateDataset } from '../../shared/dataset/load.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { tensorflowSettings } from '../../worker/tensorflow-settings.js';
import { Contestant } from './contestant.js';
import { circumstances, publish } from './results.js';
import type { TrainingTimes } from './step-times.js';
import { throughputChart, type ThroughputCell } from './throughput-chart.js';
import { median } from './train-here.js';

const ROUNDS = Number(process.env['ATELIER_BENCH_ROUNDS'] ?? 5);
/** Steps before the peers are timed. */
const PEERS_WARM = 50;
const ROOFLINE_SECONDS = 2;
/**
 * Model, batch, steps timed (some three seconds of each), steps before: V8 compiles what is run twice a step for good only after
 * a thousand of them, and what runs seldom, between long steps, needs as many. The end of an epoch (each 235 steps of 256 rows, 938 of 64) is not among those timed.
 */
const CELLS = [
  ['lenet', 64, 400, 1_200],
  ['lenet', 256, 150, 1_200],
  ['cnn', 64, 150, 1_000],
  ['cnn', 256, 80, 1_060],
  ['dense', 64, 300, 1_200],
  ['dense', 256, 200, 1_200],
] as const;
/** What some of them alone give is only shown. */
const only = process.env['ATELIER_BENCH_CELLS']?.split(',');
/** After these steps the loss is below so much of what it was at first. */
const LEARNT = 0.9;

const run = promisify(execFile);
const file = (name: string): string => join(PROJECT_ROOT, 'dist', 'test', 'bench', name);
const python = process.env['ATELIER_PEERS'];
const peerScript = join(PROJECT_ROOT, 'test', 'bench', 'peers', 'train_peer.py');
const peerEnv = (): NodeJS.ProcessEnv => ({
  ...process.env,
  FASHION_MNIST: locateDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env }),
  TF_CPP_MIN_LOG_LEVEL: '3',
  CUDA_VISIBLE_DEVICES: '-1',
});
let nextPort = 41_000;

type Train = (model: string, batch: number, steps: number, warm: number) => Promise<TrainingTimes>;

const atelier =
  (workers: number, slots: number, memory: 'memory' | 'sockets' = 'memory'): Train =>
  async (model, batch, steps, warm) => {
    const args = [model, ...[batch, workers, slots, warm, steps].map(String), memory];
    const { stdout } = await run(process.execPath, [file('throughput-contestant.js'), ...args]);
    return JSON.parse(stdout) as TrainingTimes;
  };

/** Two processes of a peer; the first one answers. */
const peer =
  (framework: 'torch' | 'tensorflow'): Train =>
  async (model, batch, steps) => {
    const ports = [nextPort++, nextPort++];
    const worker = ports.map((port) => `127.0.0.1:${port}`);
    const args = [peerScript, framework, model, ...[batch / 2, PEERS_WARM, steps].map(String)];
    const [first] = await Promise.all(
      worker.map((_, index) =>
        run(python ?? '', args, {
          env: {
            ...peerEnv(),
            ...{ RANK: String(index), WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1' },
            MASTER_PORT: String(ports[0]),
            TF_CONFIG: JSON.stringify({ cluster: { worker }, task: { type: 'worker', index } }),
          },
        }),
      ),
    );
    return JSON.parse(first?.stdout.trim().split('\n').at(-1) ?? '') as TrainingTimes;
  };

const FIELD: Record<string, Train> = {
  'Atelier, 2 workers x 1 slot': atelier(2, 1),
  'Atelier, 1 worker x 2 slots': atelier(1, 2),
  'Atelier, 2 workers x 1 slot, through sockets': atelier(2, 1, 'sockets'),
  ...(python === undefined ? {} : { 'PyTorch DDP': peer('torch'), 'TensorFlow MWMS': peer('tensorflow') }),
};
const names = [...Object.keys(FIELD), 'roofline'];
/** With everything that the page compares. */
const isWhole = python !== undefined && only === undefined;
if (!isWhole)
  process.stderr.write('without ATELIER_PEERS, or with some cells alone, the page is only shown\n');

async function cell(model: string, batch: number, steps: number, warm: number): Promise<number[]> {
  const rates = new Map<string, number[]>(names.map((name) => [name, []]));
  const losses = new Map<string, number>();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, train] of Object.entries(FIELD)) {
      const { seconds, firstLoss, lastLoss } = await train(model, batch, steps, warm);
      if (!(lastLoss < LEARNT * firstLoss)) {
        throw new Error(`${name}, ${model} ${batch}: does not learn, loss ${firstLoss} to ${lastLoss}`);
      }
      losses.set(name, lastLoss);
      rates.get(name)?.push((batch * steps) / seconds);
    }
    const args = ['slots', model, String(batch / 2), '2', 'none', '2'];
    const roofline = new Contestant(
      'roofline',
      process.execPath,
      [file('step-contestant.js'), ...args],
      tensorflowSettings(2, process.env),
    );
    await roofline.ready();
    await roofline.measure(ROOFLINE_SECONDS / 4);
    await roofline.measure(ROOFLINE_SECONDS);
    await roofline.end();
    rates.get('roofline')?.push(roofline.rates.at(-1) ?? Number.NaN);
  }
  const medians = names.map((name) => median(rates.get(name) ?? []));
  const said = names.map(
    (name, i) => `${name} ${Math.round(medians[i] ?? 0)} (loss ${losses.get(name)?.toFixed(2) ?? '-'})`,
  );
  process.stderr.write(`${model} ${batch}: ${said.join(', ')}\n`);
  return medians;
}

const pool = new ComputePool(1);
const { tensorflow } = await pool.warmUp();
await pool.close();
const head = circumstances(tensorflow);
const lines: string[] = [];
const cells: ThroughputCell[] = [];
for (const [model, batch, steps, warm] of CELLS) {
  if (only !== undefined && !only.includes(`${model} ${batch}`)) continue;
  const medians = await cell(model, batch, steps, warm);
  const ours = Math.max(...medians.slice(0, 2));
  const peers = Math.max(...medians.slice(3, -1));
  const roofline = medians.at(-1) ?? Number.NaN;
  const shown = medians.map((rate) => Math.round(rate).toLocaleString('en-US'));
  const ratios = [ours / peers, ours / roofline].map((x) =>
    Number.isFinite(x) && x > 0 ? x.toFixed(2) : '-',
  );
  lines.push(`| ${model} ${batch} | ${[...shown, ...ratios].join(' | ')} |`);
  cells.push({ name: `${model} ${batch}`, rates: [ours, ...medians.slice(2, -1)], roofline });
}
const page = `# Whole training, images/s

${head}
- Steady state: optimizer, sockets and all; Atelier after ${CELLS.map(([model, batch, , warm]) => `${warm} steps (${model} ${batch})`).join(', ')}, when V8
  has compiled what a step runs, the peers after ${PEERS_WARM}. ${ROUNDS} rounds, alternating, medians. Nothing else ran.
- Global batch; two threads for computing in each: the peers have two workers of one thread. Adam.
- Roofline: two one-thread slots computing gradients of half a batch each, with new weights for every step, which go nowhere.
- The ratios are of the better of Atelier's first two, whose workers are on the coordinator's host and use its memory; the third sends everything.

| model, batch | ${names.join(' | ')} | over the better peer | over the roofline |
|---|${'---|'.repeat(names.length + 2)}
${lines.join('\n')}
`;
if (isWhole) {
  publish('throughput', page);
  writeFileSync(
    join(PROJECT_ROOT, 'test', 'bench', 'results', 'throughput.svg'),
    throughputChart(['Atelier', 'Atelier through sockets', ...names.slice(3, -1)], cells),
  );
} else process.stdout.write(page);
