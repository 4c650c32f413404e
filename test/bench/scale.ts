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
const WARM = 2;
/** Of a cell, in either direction together: as many steps as that makes, within bounds. */
const CELL_BYTES = 1.5e9;
const [LEAST_STEPS, MOST_STEPS] = [3, 30];
/** Additions that a plain loop is given: a few seconds of them for each size. */
const MOST_ADDITIONS = 4e8;
const COPY_FLOATS = 10_000_000;
const COPIES = 11;
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

interface Cell {
  readonly workers: number;
  readonly stepMs: number;
  readonly cpuMs: number;
  readonly loopbackMs: number;
  readonly loopbackCpuMs: number;
  readonly memoryMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly residentMiB: number;
  readonly grownMiB: number;
  readonly externalMiB: number;
  readonly heartbeats: number;
  readonly slowestHeartbeatMs: number;
  readonly encodes: number;
  readonly isChecked: boolean;
}

const MIB = 2 ** 20;

async function cell(size: (typeof SIZES)[number], workers: number, copyGBs: number): Promise<Cell> {
  const { name, parameters } = size;
  const gradient = parameters * FLOAT;
  const stepBytes = 2 * workers * gradient;
  const steps = Math.max(LEAST_STEPS, Math.min(MOST_STEPS, Math.round(CELL_BYTES / stepBytes)));
  const model = name === 'wide' ? widePath : name;
  const [floor] = await pair(
    (port) => script<LoopbackReport>('loopback.js', ['server', port, workers, gradient, WARM + steps]),
    (port) => script<null>('loopback.js', ['clients', port, workers, gradient, WARM + steps]),
  );
  const [coordinator, sockets] = await pair(
    (port) => script<CoordinatorReport>('coordinator.js', [port, model, workers, WARM, steps]),
    (port) => script<WorkersReport>('workers.js', [port, workers]),
  );
  const isChecked = parameters * workers * coordinator.steps <= MOST_ADDITIONS;
  if (
    isChecked &&
    coordinator.weightsSha256 !== (await referenceWeightsSha256(model, workers, coordinator.steps))
  ) {
    throw new Error(`${name}, ${workers} workers: other weights than a plain loop's`);
  }
  const stepMs = median(coordinator.stepMs);
  const result: Cell = {
    ...{ workers, stepMs, isChecked, cpuMs: coordinator.cpuMsPerStep },
    loopbackMs: median(floor.ms.slice(WARM)),
    loopbackCpuMs: floor.cpuMsPerStep,
    // Each gradient is read, and the sum it is added to is read and written.
    memoryMs: (3 * workers * gradient) / (copyGBs * 1e6),
    bytesIn: sockets.sentBytes / coordinator.steps,
    // The round after the last step is not sent.
    bytesOut: sockets.receivedBytes / coordinator.steps,
    residentMiB: coordinator.residentPeak / MIB,
    grownMiB: (coordinator.residentPeak - coordinator.residentBefore) / MIB,
    externalMiB: coordinator.externalPeak / MIB,
    heartbeats: sockets.heartbeats,
    slowestHeartbeatMs: sockets.slowestHeartbeatMs,
    encodes: coordinator.encodesPerStep,
  };
  process.stderr.write(
    `${name} ${workers}: ${stepMs.toFixed(1)} ms, loopback ${result.loopbackMs.toFixed(1)}, memory ${result.memoryMs.toFixed(1)}; ` +
      `CPU ${result.cpuMs.toFixed(1)} over ${result.loopbackCpuMs.toFixed(1)}; ${result.grownMiB.toFixed(0)} MiB; load ${(loadavg()[0] ?? 0).toFixed(1)}\n`,
  );
  return result;
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
      slope(cells, ({ cpuMs }) => cpuMs) / slope(cells, (each) => each.loopbackCpuMs + each.memoryMs);
    const [half, most] = cells.slice(-2);
    const doubling = (most?.stepMs ?? 0) / (half?.stepMs ?? 1);
    const shown = size.parameters.toLocaleString('en-US');
    ratios.push(
      `| ${shown} | ${own.toFixed(3)} | ${floor.toFixed(3)} | ${(own / floor).toFixed(2)} | ${cpu.toFixed(2)} | ${doubling.toFixed(2)} | ${(grows * 1024).toFixed(0)} |`,
    );
    slowestHeartbeat = Math.max(slowestHeartbeat, ...cells.map((each) => each.slowestHeartbeatMs));
    heartbeats += cells.reduce((sum, each) => sum + each.heartbeats, 0);
    encodesOnce &&= cells.every(({ encodes }) => encodes === 1);
    const lines = cells.map((each) => {
      const ms = [each.stepMs, each.loopbackMs, each.memoryMs].map((value) => value.toFixed(2));
      const over = (each.stepMs / floorOf(each)).toFixed(2);
      const cpuMs = [each.cpuMs, each.loopbackCpuMs].map((value) => value.toFixed(1));
      const megabytes = [each.bytesIn, each.bytesOut].map((bytes) => (bytes / 1e6).toFixed(1));
      const memory = [each.residentMiB, each.grownMiB, each.externalMiB].map((value) => value.toFixed(0));
      const beats = `${each.slowestHeartbeatMs.toFixed(0)} (${each.heartbeats})`;
      const checked = each.isChecked ? 'yes' : '-';
      return `| ${[each.workers, ...ms, over, ...cpuMs, ...megabytes, ...memory, beats, checked].join(' | ')} |`;
    });
    sections.push(`## ${shown} parameters

| workers | step ms | loopback ms | memory ms | over the floor | CPU ms | loopback's CPU ms | MB in | MB out | RSS MiB | of it since the start | external MiB | slowest heartbeat ms (of) | weights checked |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|
${lines.join('\n')}
`);
  }
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
- Medians of ${LEAST_STEPS} to ${MOST_STEPS} steps after ${WARM}. \`wide\` (ten million) ends at 32 workers: 2.6 GB a step; 512 would be 41 GB.
- The floor: the same bytes out and in through bare TCP sockets between two processes, with as many connections (loopback), and then each gradient added to a
  sum at the speed of a memory copy, ${copyGBs.toFixed(1)} GB/s read and written (memory).
- Bytes are of a whole training over its steps, joining included.

| parameters | ms a worker | of the floor | slope over the floor's (wanted: ${WANTED}) | the same of CPU time | from half of the workers to all | KiB of memory a worker |
|---:|---:|---:|---:|---:|---:|---:|
${ratios.join('\n')}

- Slopes by least squares, points weighted by 1/workers. Memory: what the coordinator's RSS grew by from the first round on; of payloads at most
  ${MAX_RECEIVING_BYTES / MIB} MiB are received at once, the rest waits in the sockets.
- Heartbeats: ${heartbeats} asked, the slowest answered after ${slowestHeartbeat.toFixed(0)} ms; the deadline is ${HEARTBEAT_TIMEOUT_MS} ms.
- Each broadcast was encoded ${encodesOnce ? 'once' : 'MORE THAN ONCE'}.

${sections.join('\n')}`,
);
