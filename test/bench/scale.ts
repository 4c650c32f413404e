/**
 * `npm run bench -- scale`: a coordinator with 1 to 512 workers that compute nothing (test/bench/scale/), for three sizes of models: what a
 * step takes, against the same bytes through bare TCP sockets and through memory. The weights must be those of a plain loop
 * wherever that loop does not take too long.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { HEARTBEAT_TIMEOUT_MS } from '../../shared/protocol/limits.js';
import { MAX_RECEIVING_BYTES } from '../../coordinator/receive-gate.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { circumstances, publish } from './results.js';
import type { CoordinatorReport } from './scale/coordinator.js';
import type { LoopbackReport } from './scale/loopback.js';
import { denseTopology, referenceWeightsSha256 } from './scale/reference.js';
import type { WorkersReport } from './scale/workers.js';
import { median } from './train-here.js';

const SIZES = [
  { name: 'lenet', parameters: 61_706, most: 512 },
  { name: 'dense', parameters: 898_510, most: 512 },
  { name: 'wide', parameters: 9_999_520, most: 32 },
] as const;
/** Of `wide`: 795 parameters each, and 10. */
const WIDE_UNITS = 12_578;
const FLOAT = 4;
/** Before the steps that are timed: as many partials as V8 needs to compile what each of them runs, within bounds. */
const WARM_PARTIALS = 20_000;
const WARM_BYTES = 1e10;
const LEAST_WARM = 2;
/** Of a cell, in either direction together: as many steps as that makes, within bounds. */
const CELL_BYTES = 2.5e9;
const [LEAST_STEPS, MOST_STEPS] = [5, 30];
/** Additions that a plain loop is given: a few seconds of them for each size. */
const MOST_ADDITIONS = 2e9;
const COPY_FLOATS = 10_000_000;
const COPIES = 11;
/** Workers behind relays, and how many relays. */
const RELAYED = [
  { size: 0, workers: 64, relays: 4 },
  { size: 0, workers: 512, relays: 16 },
  { size: 1, workers: 64, relays: 4 },
  { size: 1, workers: 256, relays: 16 },
] as const;
/** What is asked of the slope. */
const WANTED = 1.5;

const run = promisify(execFile);
const file = (name: string): string => join(PROJECT_ROOT, 'dist', 'test', 'bench', 'scale', name);
const scratch = mkdtempSync(join(tmpdir(), 'atelier-scale-'));
const widePath = join(scratch, 'wide.json');
writeFileSync(widePath, JSON.stringify(denseTopology(WIDE_UNITS)));
let nextPort = 23_000 + Math.floor(Math.random() * 5_000);

/** Runs a script to its end; the last line that it prints is JSON. */
async function script<Report>(name: string, args: readonly (string | number)[]): Promise<Report> {
  const { stdout } = await run(process.execPath, [file(name), ...args.map(String)], { maxBuffer: 1e8 });
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Report;
}

/** Returns when somebody listens there. */
async function listening(port: number): Promise<void> {
  for (;;) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port }, () => resolve(true));
      socket.on('error', () => resolve(false)).on('connect', () => socket.destroy());
    });
    if (isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Two processes that talk to each other; the first one listens. */
async function pair<First, Second>(
  first: (port: number) => Promise<First>,
  second: (port: number) => Promise<Second>,
): Promise<[First, Second]> {
  const port = nextPort++;
  const listener = first(port);
  await Promise.race([listening(port), listener]);
  return Promise.all([listener, second(port)]);
}

/** GB/s read and written. */
function copyRate(): number {
  const from = new Float32Array(COPY_FLOATS).fill(1);
  const to = new Float32Array(COPY_FLOATS);
  const ms = Array.from({ length: COPIES }, () => {
    const before = performance.now();
    to.set(from);
    return performance.now() - before;
  });
  return (2 * COPY_FLOATS * FLOAT) / (median(ms) * 1e6);
}

interface Training {
  readonly stepMs: number;
  readonly coordinator: CoordinatorReport;
  readonly sockets: WorkersReport;
  readonly isChecked: boolean;
}

type Size = (typeof SIZES)[number];

const bytesPerStep = ({ parameters }: Size, workers: number): number => 2 * workers * parameters * FLOAT;

const warmStepsOf = (size: Size, workers: number): number =>
  Math.max(
    LEAST_WARM,
    Math.round(Math.min(WARM_PARTIALS / workers, WARM_BYTES / bytesPerStep(size, workers))),
  );

const stepsOf = (size: Size, workers: number): number =>
  Math.max(LEAST_STEPS, Math.min(MOST_STEPS, Math.round(CELL_BYTES / bytesPerStep(size, workers))));

/** Trains with so many workers, which join the coordinator, or as many relays. */
async function train(size: Size, workers: number, relays = 0): Promise<Training> {
  const { name, parameters } = size;
  const [warm, steps] = [warmStepsOf(size, workers), stepsOf(size, workers)];
  const model = name === 'wide' ? widePath : name;
  const doors = Array.from({ length: relays }, () => nextPort++);
  const join = async (port: number): Promise<WorkersReport> => {
    const below = doors.map((door, i) =>
      run(process.execPath, [
        ...[file('relay.js'), 'relay', '--join', `ws://127.0.0.1:${port}`, '--listen', `127.0.0.1:${door}`],
        ...['--min-workers', String(workers / relays), '--name', `relay-${i}`, '--no-shared-memory'],
      ]),
    );
    for (const [i, door] of doors.entries()) await Promise.race([listening(door), below[i]]);
    const report = await script<WorkersReport>('workers.js', [workers, ...(relays === 0 ? [port] : doors)]);
    await Promise.all(below);
    return report;
  };
  const joining = relays === 0 ? workers : relays;
  const [coordinator, sockets] = await pair(
    (port) => script<CoordinatorReport>('coordinator.js', [port, model, workers, warm, steps, joining]),
    join,
  );
  const isChecked = parameters * workers * coordinator.steps <= MOST_ADDITIONS;
  if (
    isChecked &&
    coordinator.weightsSha256 !== (await referenceWeightsSha256(model, workers, coordinator.steps))
  ) {
    throw new Error(`${name}, ${workers} workers, ${relays} relays: other weights than a plain loop's`);
  }
  return { stepMs: median(coordinator.stepMs), coordinator, sockets, isChecked };
}

interface Cell extends Training {
  readonly workers: number;
  readonly loopbackMs: number;
  readonly loopbackCpuMs: number;
  readonly memoryMs: number;
  readonly residentMiB: number;
  readonly grownMiB: number;
  readonly externalMiB: number;
}

const MIB = 2 ** 20;

async function cell(size: Size, workers: number, copyGBs: number): Promise<Cell> {
  const gradient = size.parameters * FLOAT;
  const warm = warmStepsOf(size, workers);
  const steps = warm + stepsOf(size, workers);
  const [floor] = await pair(
    (port) => script<LoopbackReport>('loopback.js', ['server', port, workers, gradient, steps]),
    (port) => script<null>('loopback.js', ['clients', port, workers, gradient, steps]),
  );
  const training = await train(size, workers);
  const { stepMs, coordinator } = training;
  const result: Cell = {
    ...training,
    workers,
    loopbackMs: median(floor.ms.slice(warm)),
    loopbackCpuMs: floor.cpuMsPerStep,
    // Each gradient is read, and the sum it is added to is read and written.
    memoryMs: (3 * workers * gradient) / (copyGBs * 1e6),
    residentMiB: coordinator.residentPeak / MIB,
    grownMiB: (coordinator.residentPeak - coordinator.residentBefore) / MIB,
    externalMiB: coordinator.externalPeak / MIB,
  };
  process.stderr.write(
    `${size.name} ${workers}: ${stepMs.toFixed(1)} ms, loopback ${result.loopbackMs.toFixed(1)}, memory ${result.memoryMs.toFixed(1)}; ` +
      `CPU ${coordinator.cpuMsPerStep.toFixed(1)} over ${result.loopbackCpuMs.toFixed(1)}; ${result.grownMiB.toFixed(0)} MiB; load ${(loadavg()[0] ?? 0).toFixed(1)}\n`,
  );
  return result;
}

/** The same training without relays and with them, one after the other. */
async function relayedLines({ size: index, workers, relays }: (typeof RELAYED)[number]): Promise<string[]> {
  const size = SIZES[index];
  const trainings = [await train(size, workers), await train(size, workers, relays)] as const;
  const hashes = trainings.map(({ coordinator }) => coordinator.weightsSha256);
  if (new Set(hashes).size !== 1) throw new Error(`${size.name}: relays changed the weights`);
  return trainings.map(({ stepMs, coordinator }, i) => {
    const { bytesInPerStep, bytesOutPerStep, cpuMsPerStep } = coordinator;
    const megabytes = [bytesInPerStep, bytesOutPerStep].map((bytes) => (bytes / 1e6).toFixed(2));
    const computed = ((i === 0 ? workers : relays) * size.parameters * FLOAT) / 1e6;
    const cells = [size.parameters.toLocaleString('en-US'), workers, i === 0 ? 'none' : relays, ...megabytes];
    const line = `| ${[...cells, computed.toFixed(2), cpuMsPerStep.toFixed(1), stepMs.toFixed(1)].join(' | ')} |`;
    process.stderr.write(`${line}\n`);
    return line;
  });
}

/** Least squares of `of` over the number of workers, each point weighted by 1/workers: all sizes count. */
function slope(cells: readonly Cell[], of: (cell: Cell) => number): number {
  const weight = cells.reduce((sum, { workers }) => sum + 1 / workers, 0);
  const meanX = cells.length / weight;
  const meanY = cells.reduce((sum, each) => sum + of(each) / each.workers, 0) / weight;
  let xy = 0;
  let xx = 0;
  for (const each of cells) {
    xy += ((each.workers - meanX) * (of(each) - meanY)) / each.workers;
    xx += (each.workers - meanX) ** 2 / each.workers;
  }
  return xy / xx;
}

const head = circumstances('not used');
const copyGBs = copyRate();
const sections: string[] = [];
const relayed: string[] = [];
const ratios: string[] = [];
let slowestHeartbeat = 0;
let heartbeats = 0;
let encodesOnce = true;
try {
  for (const size of SIZES) {
    const cells: Cell[] = [];
    for (let workers = 1; workers <= size.most; workers *= 2) cells.push(await cell(size, workers, copyGBs));
    const floorOf = ({ loopbackMs, memoryMs }: Cell): number => loopbackMs + memoryMs;
    const own = slope(cells, ({ stepMs }) => stepMs);
    const floor = slope(cells, floorOf);
    const grows = slope(cells, ({ grownMiB }) => grownMiB);
    const cpu =
      slope(cells, ({ coordinator }) => coordinator.cpuMsPerStep) /
      slope(cells, (each) => each.loopbackCpuMs + each.memoryMs);
    const [half, most] = cells.slice(-2);
    const doubling = (most?.stepMs ?? 0) / (half?.stepMs ?? 1);
    const shown = size.parameters.toLocaleString('en-US');
    ratios.push(
      `| ${shown} | ${own.toFixed(3)} | ${floor.toFixed(3)} | ${(own / floor).toFixed(2)} | ${cpu.toFixed(2)} | ${doubling.toFixed(2)} | ${(grows * 1024).toFixed(0)} |`,
    );
    slowestHeartbeat = Math.max(slowestHeartbeat, ...cells.map(({ sockets }) => sockets.slowestHeartbeatMs));
    heartbeats += cells.reduce((sum, each) => sum + each.sockets.heartbeats, 0);
    encodesOnce &&= cells.every(({ coordinator }) => coordinator.encodesPerStep === 1);
    const lines = cells.map((each) => {
      const ms = [each.stepMs, each.loopbackMs, each.memoryMs].map((value) => value.toFixed(2));
      const over = (each.stepMs / floorOf(each)).toFixed(2);
      const cpuMs = [each.coordinator.cpuMsPerStep, each.loopbackCpuMs].map((value) => value.toFixed(1));
      const { bytesInPerStep, bytesOutPerStep } = each.coordinator;
      const megabytes = [bytesInPerStep, bytesOutPerStep].map((bytes) => (bytes / 1e6).toFixed(1));
      const memory = [each.residentMiB, each.grownMiB, each.externalMiB].map((value) => value.toFixed(0));
      const beats = `${each.sockets.slowestHeartbeatMs.toFixed(0)} (${each.sockets.heartbeats})`;
      const checked = each.isChecked ? 'yes' : '-';
      return `| ${[each.workers, ...ms, over, ...cpuMs, ...megabytes, ...memory, beats, checked].join(' | ')} |`;
    });
    sections.push(`## ${shown} parameters

| workers | step ms | loopback ms | memory ms | over the floor | CPU ms | loopback's CPU ms | MB in | MB out | RSS MiB | of it since the start | external MiB | slowest heartbeat ms (of) | weights checked |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
${lines.join('\n')}
`);
  }
  for (const each of RELAYED) relayed.push(...(await relayedLines(each)));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
publish(
  'scale',
  `# A coordinator and its number of workers

${head}, load after: ${(loadavg()[0] ?? 0).toFixed(2)}
- One process is the coordinator of a training; another has the sockets of all workers, which answer each lease at once with made-up gradients. So
  with two cores each has one. No TensorFlow. Every worker has one shard (\`--shards\` is the number of workers: with fewer some would have
  nothing to do). Speeds of workers are not measured here, since whose socket is served first would count as fast.
- Medians of ${LEAST_STEPS} to ${MOST_STEPS} steps, after ${WARM_PARTIALS.toLocaleString('en-US')} partials (or ${WARM_BYTES / 1e9} GB, or ${LEAST_WARM} steps), when V8 has compiled what each runs. \`wide\` (ten million) ends at 32 workers: 2.6 GB a step; 512 would be 41 GB.
- The floor: the same bytes out and in through bare TCP sockets between two processes, with as many connections, read into one buffer as the coordinator does (loopback), and then each gradient added to a
  sum at the speed of a memory copy, ${copyGBs.toFixed(1)} GB/s read and written (memory).
- Bytes are those of the frames of partials (in) and of rounds (out).

| parameters | ms a worker | of the floor | slope over the floor's (wanted: ${WANTED}) | the same of CPU time | from half of the workers to all | KiB of memory a worker |
|---:|---:|---:|---:|---:|---:|---:|
${ratios.join('\n')}

- Slopes by least squares, points weighted by 1/workers. Memory: what the coordinator's RSS grew by from the first round on; of payloads at most
  ${MAX_RECEIVING_BYTES / MIB} MiB are received at once, the rest waits in the sockets.
- Heartbeats: ${heartbeats} asked, the slowest answered after ${slowestHeartbeat.toFixed(0)} ms; the deadline is ${HEARTBEAT_TIMEOUT_MS} ms.
- Each broadcast was encoded ${encodesOnce ? 'once' : 'MORE THAN ONCE'}.

## With relays

One level of them, between the same simulated workers and the coordinator; all processes share two cores, so what matters is what the coordinator has to do.
Computed: those who join x parameters x 4 bytes. The weights are the same with and without.

| parameters | workers | relays | MB in | MB out | computed | coordinator's CPU ms a step | step ms |
|---:|---:|---:|---:|---:|---:|---:|---:|
${relayed.join('\n')}

${sections.join('\n')}`,
);
