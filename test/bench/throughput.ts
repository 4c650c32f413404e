/**
 * `npm run bench -- throughput`: images/s of whole training on two cores, Atelier with two workers of one slot and with
 * one worker of two, alternating with the roofline: the same slots computing the same gradients, with new weights for every
 * step, that go nowhere. With ATELIER_PEERS=/path/to/python (with tensorflow and torch) PyTorch DDP and TensorFlow's
 * MultiWorkerMirroredStrategy take part. All of a cell are started and warm before the first is timed, and wait while another one's
 * turn is. ATELIER_BENCH_CELLS="dense 256,lenet 64" takes some of them alone. Medians; a training that does not learn as
 * the others do ends the benchmark. Takes half an hour and more.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { locateDataset } from '../../shared/dataset/load.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { tensorflowSettings } from '../../worker/tensorflow-settings.js';
import { Contestant, type Measured } from './contestant.js';
import { circumstances, publish } from './results.js';
import { throughputChart, type ThroughputCell } from './throughput-chart.js';
import { median } from './train-here.js';

const ROUNDS = Number(process.env['ATELIER_BENCH_ROUNDS'] ?? 5);
/** Turns of each in a round. With six of them its own comes again before workers take a held coordinator for dead. */
const TURNS = 3;
const TURN_SECONDS = 1.5;
/** Steps by which it is found how many a turn has. */
const TRIAL_STEPS = 20;
/** Steps before the peers are timed. */
const PEERS_WARM = 50;
/**
 * Steps before Atelier is timed: V8 compiles what is run twice a step for good only after thousands of them. Its own threads take 1 of 116 ms of
 * both cores a step of `cnn` after 900 steps, 0.2 after 3,000.
 */
const WARM = 3_000;
/** Model, batch. */
const CELLS = [
  ['lenet', 64],
  ['lenet', 256],
  ['cnn', 64],
  ['cnn', 256],
  ['dense', 64],
  ['dense', 256],
] as const;
/** What some of them alone give is only shown. */
const only = process.env['ATELIER_BENCH_CELLS']?.split(',');
/** After these steps the loss is below so much of what it was at first. */
const LEARNT = 0.9;

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

/** One way to train: its processes, the first of which answers for them. */
class Way {
  readonly name: string;
  private readonly processes: readonly Contestant[];
  private readonly isTimed: boolean;
  private amount = TURN_SECONDS;
  firstLoss = Number.NaN;
  lastLoss = Number.NaN;

  /** @param isTimed it runs for seconds, not steps */
  constructor(name: string, processes: readonly Contestant[], isTimed = false) {
    [this.name, this.processes, this.isTimed] = [name, processes, isTimed];
  }

  /** Warms up, and finds how many steps it does in a turn. */
  async ready(batch: number): Promise<void> {
    const [loss] = await Promise.all(this.processes.map((process) => process.ready()));
    this.firstLoss = loss ?? Number.NaN;
    if (this.isTimed) await this.turn();
    else {
      this.amount = TRIAL_STEPS;
      const { rows, seconds } = await this.turn();
      this.amount = Math.max(1, Math.round((TURN_SECONDS * rows) / seconds / batch));
    }
  }

  async turn(): Promise<Measured> {
    const [measured] = await Promise.all(this.processes.map((process) => process.measure(this.amount)));
    if (measured === undefined) throw new Error(`${this.name} has no process`);
    this.lastLoss = measured.loss;
    return measured;
  }

  /** @throws Error when it does not learn */
  checkLearnt(cell: string): void {
    if (this.isTimed || this.lastLoss < LEARNT * this.firstLoss) return;
    throw new Error(`${this.name}, ${cell}: does not learn, loss ${this.firstLoss} to ${this.lastLoss}`);
  }

  async end(): Promise<void> {
    await Promise.all(this.processes.map((process) => process.end()));
  }
}

type Start = (name: string, model: string, batch: number) => Way;

const atelier =
  (workers: number, slots: number, memory: 'memory' | 'sockets' = 'memory'): Start =>
  (name, model, batch) => {
    const args = [model, ...[batch, workers, slots, WARM].map(String), memory];
    const script = file('throughput-contestant.js');
    return new Way(name, [new Contestant(name, process.execPath, [script, ...args], {})]);
  };

/** Two processes of a peer; the first one answers. */
const peer =
  (framework: 'torch' | 'tensorflow'): Start =>
  (name, model, batch) => {
    const ports = [nextPort++, nextPort++];
    const worker = ports.map((port) => `127.0.0.1:${port}`);
    const args = [peerScript, framework, model, String(batch / 2), String(PEERS_WARM)];
    const env = (index: number): NodeJS.ProcessEnv => ({
      ...peerEnv(),
      ...{ RANK: String(index), WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1' },
      MASTER_PORT: String(ports[0]),
      TF_CONFIG: JSON.stringify({ cluster: { worker }, task: { type: 'worker', index } }),
    });
    return new Way(
      name,
      worker.map((_, index) => new Contestant(name, python ?? '', args, env(index))),
    );
  };

const roofline: Start = (name, model, batch) => {
  const args = ['slots', model, String(batch / 2), '2', 'none', '2'];
  const threads = tensorflowSettings(2, process.env);
  return new Way(
    name,
    [new Contestant(name, process.execPath, [file('step-contestant.js'), ...args], threads)],
    true,
  );
};

const WAYS: Record<string, Start> = {
  'Atelier, 2 workers x 1 slot': atelier(2, 1),
  'Atelier, 1 worker x 2 slots': atelier(1, 2),
  'Atelier, 2 workers x 1 slot, through sockets': atelier(2, 1, 'sockets'),
  ...(python === undefined ? {} : { 'PyTorch DDP': peer('torch'), 'TensorFlow MWMS': peer('tensorflow') }),
  roofline,
};
const names = Object.keys(WAYS);
/** With everything that the page compares. */
const isWhole = python !== undefined && only === undefined;
if (!isWhole)
  process.stderr.write('without ATELIER_PEERS, or with some cells alone, the page is only shown\n');

/** Images/s of each in every round: of its turns together. */
async function cell(model: string, batch: number): Promise<number[][]> {
  const all: Way[] = [];
  for (const [name, start] of Object.entries(WAYS)) {
    const way = start(name, model, batch);
    await way.ready(batch);
    all.push(way);
  }
  const rates = all.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round++) {
    const sums = all.map(() => ({ rows: 0, seconds: 0 }));
    for (let turn = 0; turn < TURNS; turn++) {
      for (const [i, way] of all.entries()) {
        const { rows, seconds } = await way.turn();
        const sum = sums[i];
        if (sum !== undefined) Object.assign(sum, { rows: sum.rows + rows, seconds: sum.seconds + seconds });
      }
    }
    sums.forEach(({ rows, seconds }, i) => rates[i]?.push(rows / seconds));
  }
  for (const way of all) way.checkLearnt(`${model} ${batch}`);
  await Promise.all(all.map((way) => way.end()));
  const said = all.map(
    ({ name, lastLoss }, i) => `${name} ${Math.round(median(rates[i] ?? []))} (loss ${lastLoss.toFixed(2)})`,
  );
  process.stderr.write(`${model} ${batch}: ${said.join(', ')}\n`);
  return rates;
}

/** Of two ways' images/s in every round: how their medians compare, and from where to where the rounds do. */
function ratio(ours: readonly number[] | undefined, others: readonly number[] | undefined): string {
  if (ours === undefined || others === undefined) return '-';
  const each = ours.map((rate, round) => rate / (others[round] ?? Number.NaN));
  const shown = [median(ours) / median(others), Math.min(...each), Math.max(...each)].map((x) =>
    x.toFixed(2),
  );
  return `${shown[0]} (${shown[1]} to ${shown[2]})`;
}

const better = (ways: readonly (readonly number[])[]): readonly number[] | undefined =>
  ways.toSorted((a, b) => median(b) - median(a))[0];

const pool = new ComputePool(1);
const { tensorflow } = await pool.warmUp();
await pool.close();
const head = circumstances(tensorflow);
const lines: string[] = [];
const cells: ThroughputCell[] = [];
for (const [model, batch] of CELLS) {
  if (only !== undefined && !only.includes(`${model} ${batch}`)) continue;
  const rates = await cell(model, batch);
  const medians = rates.map(median);
  const ours = better(rates.slice(0, 2));
  const shown = medians.map((rate) => Math.round(rate).toLocaleString('en-US'));
  const ratios = [ratio(ours, better(rates.slice(3, -1))), ratio(ours, rates.at(-1))];
  lines.push(`| ${model} ${batch} | ${[...shown, ...ratios].join(' | ')} |`);
  const roofline = medians.at(-1) ?? Number.NaN;
  cells.push({
    name: `${model} ${batch}`,
    rates: [median(ours ?? []), ...medians.slice(2, -1)],
    roofline,
  });
}
const page = `# Whole training, images/s

${head}
- Steady state: optimizer, sockets and all; Atelier after ${WARM} steps, when V8
  has compiled what a step runs, the peers after ${PEERS_WARM}. ${ROUNDS} rounds of ${TURNS} turns of ${TURN_SECONDS} s each, alternating; medians of the rounds. Nothing else ran: who is not
  timed is held up.
- Global batch; two threads for computing in each: the peers have two workers of one thread. Adam.
- Roofline: two one-thread slots computing gradients of half a batch each, with new weights for every step, which go nowhere.
- The ratios are of the better of Atelier's first two, whose workers are on the coordinator's host and use its memory; the third sends everything. In brackets
  the lowest and the highest of a single round.

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
