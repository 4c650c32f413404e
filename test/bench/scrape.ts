/**
 * `npm run bench -- scrape`: what a scrape of a coordinator takes and how many series it has, with 64 workers (sockets
 * without TensorFlow) and 1, then 10 runs of 10 folds; and what noting a step costs.
 */
import { once } from 'node:events';
import { Cluster } from '../../coordinator/cluster.js';
import { CoordinatorMetrics } from '../../coordinator/metrics/coordinator-metrics.js';
import { METRICS_PATH, metricRoutes } from '../../coordinator/metrics/metric-routes.js';
import type { RunFigures, TrialFigures } from '../../coordinator/run-figures.js';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { StepTimer } from '../../coordinator/step-timer.js';
import { systemClock } from '../../shared/clock.js';
import { PROTOCOL_VERSION } from '../../shared/protocol/limits.js';
import { encodeToCoordinator } from '../../shared/protocol/messages.js';
import { openSocket } from '../../worker/session.js';
import { circumstances, publish } from './results.js';

const WORKERS = 64;
const FOLDS = 10;
const SCRAPES = 200;
const STEPS = 100_000;
const HEARTBEAT_MS = 2_000;

const clock = systemClock;
const cluster = new Cluster(clock);
const versions = { version: '0', node: process.version, tensorflow: 'tfjs' };
const metrics = new CoordinatorMetrics({ cluster, clock, runsFolder: '.', versions });
const server = await CoordinatorServer.listen({
  ...{ listen: { host: '127.0.0.1', port: 0 }, security: OPEN_TO_LOCAL, listener: cluster, clock },
  routes: [metricRoutes(metrics, cluster, false)],
});

const hello = {
  ...{
    type: 'hello' as const,
    protocolVersion: PROTOCOL_VERSION,
    host: 'here',
    pid: 1,
    slots: 4,
    credential: null,
  },
  versions: { atelier: '0', node: process.version, tensorflow: '2.21.0' },
} as const;
const report = {
  ...{ tensors: 40, tensorBytes: 5e6, eventLoopLagMs: 2.25, busySlots: 4, busyRatio: 0.987654 },
  ...{ rows: 123_456, rowsPerSecond: 1234.567, residentBytes: 5e8, metrics: null },
} as const;
for (let i = 0; i < WORKERS; i++) {
  const socket = openSocket(server.url, null);
  await once(socket, 'open');
  const welcome = once(socket, 'message');
  socket.send(encodeToCoordinator({ ...hello, name: `worker-${i}.cluster.example` }));
  await welcome;
  setInterval(() => socket.send(encodeToCoordinator({ type: 'heartbeat' })), HEARTBEAT_MS).unref();
  socket.send(encodeToCoordinator({ type: 'report', report }));
}

const trial = (fold: number): TrialFigures => ({
  ...{ fold, status: 'running', epochsDone: 3, epochs: 10, stepsDone: 1_234, steps: 4_000 },
  ...{ train: { loss: 0.54321, accuracy: 0.87654 }, validation: { loss: 0.6, accuracy: 0.8 }, test: null },
  ...{ learningRate: 0.001, ledgerRows: 1.5e5, counted: { steps: 1_234, rows: 2e5 } },
  checkpoints: { count: 3, bytes: 1e7, writtenAt: Date.now() },
});
const figures: RunFigures = {
  ...{
    status: 'running',
    startedAt: Date.now(),
    progress: 0.3,
    etaSeconds: 1_000,
    imagesPerSecond: 12_345.6,
  },
  ...{ workersWanted: WORKERS, died: 0, late: 1 },
  leases: { leases: 1e5, speculated: 3, returned: 2, wins: 1 },
  trials: Array.from({ length: FOLDS }, (_, fold) => trial(fold)),
};
const times = { compute: 4.1, wait: 3.2, reduce: 1.3, optimizer: 1.4, broadcast: 1.5, total: 11.5 };
const written = { file: '', bytes: 1e7, milliseconds: 20 };
const addRun = (name: string): void => {
  metrics.watch(name, { figures: () => figures, ended: new Promise(() => undefined) });
  metrics.observer(name).stepped({} as never, 0, times);
  metrics.observer(name).checkpointed(0, written);
};

const url = server.url.replace('ws:', 'http:') + METRICS_PATH;
async function measure(): Promise<{ p50: number; p95: number; series: number; bytes: number; cpu: number }> {
  const ms: number[] = [];
  let text = '';
  const cpuBefore = process.cpuUsage();
  for (let i = 0; i < SCRAPES; i++) {
    const before = performance.now();
    text = await (await fetch(url)).text();
    ms.push(performance.now() - before);
  }
  const { user, system } = process.cpuUsage(cpuBefore);
  ms.sort((a, b) => a - b);
  const series = text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
  return {
    p50: ms[SCRAPES >> 1] ?? NaN,
    p95: ms[Math.floor(SCRAPES * 0.95)] ?? NaN,
    series,
    bytes: text.length,
    cpu: (user + system) / 1_000 / SCRAPES,
  };
}

const rows: string[] = [];
for (let runs = 0; runs < 10;) {
  const wanted = runs === 0 ? 1 : 10;
  while (runs < wanted) addRun(`run-${runs++}`);
  const { p50, p95, series, bytes, cpu } = await measure();
  const figuresOf = [
    p50.toFixed(1),
    p95.toFixed(1),
    cpu.toFixed(1),
    String(series),
    (bytes / 1024).toFixed(0),
  ];
  rows.push(`| ${runs} | ${figuresOf.join(' | ')} |`);
}

const observer = metrics.observer('run-0');
const before = performance.now();
for (let step = 0; step < STEPS; step++) {
  const timer = new StepTimer();
  for (let answer = 0; answer < 8; answer++) timer.answered({ number: answer & 1, slots: 1 }, 1, 1, 0.1);
  observer.stepped({} as never, 0, timer.finish(0.5));
}
const stepMicroseconds = ((performance.now() - before) / STEPS) * 1_000;

publish(
  'scrape',
  `# A scrape of a coordinator with ${WORKERS} workers

${circumstances('none')}

${SCRAPES} scrapes over HTTP on loopback; runs of ${FOLDS} folds. CPU: of the process, which asks too and has the sockets of the workers.

| runs | ms, median | ms, 95th percentile | CPU ms | series | KiB |
| ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

Noting the times of a step with eight partials: ${stepMicroseconds.toFixed(1)} microseconds.
`,
);
process.exit(0);
