/**
 * `npm run bench -- cost`: what watching costs. One cross-validation on two workers, watched every other few seconds: metrics noted and
 * scraped once a second, the event stream of the live page followed. What is beside each other is compared, so that other load of the
 * machine cancels out.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import '@tensorflow/tfjs-backend-cpu';
import { loadMaterial } from '../../cli/run-on-cluster.js';
import { Cluster } from '../../coordinator/cluster.js';
import { Exchange } from '../../coordinator/exchange.js';
import { coordinatorRoutes } from '../../coordinator/http/routes.js';
import { LiveRun } from '../../coordinator/live-run.js';
import { CoordinatorMetrics } from '../../coordinator/metrics/coordinator-metrics.js';
import { metricRoutes } from '../../coordinator/metrics/metric-routes.js';
import { RunDirectory } from '../../coordinator/run-directory.js';
import { Run } from '../../coordinator/run.js';
import { observeAll, type RunObserver } from '../../coordinator/run-observer.js';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { systemClock as clock } from '../../shared/clock.js';
import { parseRunConfig } from '../../shared/config.js';
import { AtelierError } from '../../shared/errors.js';
import { parseListen } from '../../shared/listen.js';
import { REPORT_INTERVAL_MS } from '../../shared/protocol/limits.js';
import { decodeFromWorker, encodeToCoordinator } from '../../shared/protocol/messages.js';
import { WorkerFigures } from '../../worker/worker-figures.js';
import { IGNORE_ALL } from '../support/observers.js';
import { circumstances, publish } from './results.js';
import { BenchWorkers, median } from './train-here.js';

const PAIRS = 30;
const SEGMENT_MS = 4_000;
/** After each change, before it counts. */
const SETTLING_MS = 300;
const REPORTS = 10_000;

const workers = new BenchWorkers();
const folder = mkdtempSync(join(tmpdir(), 'atelier-cost-'));
const config = parseRunConfig({ model: 'lenet', folds: 5, epochs: 10_000, workers: 0, seed: 7 });
const { dataset, model, plans } = await loadMaterial(config, process.env);
const directory = RunDirectory.fresh(join(folder, 'run'));
directory.create();
directory.writeConfig(config);
directory.writeManifest({});

const cluster = new Cluster(clock, Exchange.open());
const versions = { version: '0', node: process.version, tensorflow: 'tfjs' };
const metrics = new CoordinatorMetrics({ cluster, clock, runsFolder: folder, versions });
const live = new LiveRun({ path: directory.path, config, plans, cluster });
const server = await CoordinatorServer.listen({
  ...{ listen: parseListen(workers.listen), security: OPEN_TO_LOCAL, listener: cluster, clock },
  routes: [
    ...coordinatorRoutes({ runs: { list: () => [live], find: () => live }, cluster, clock }),
    metricRoutes(metrics, cluster, false),
  ],
});

/** Who looks on, while somebody does. */
const watchers = observeAll([live.observer, metrics.observer(live.name)]);
let isWatched = false;
let rows = 0;
let steps = 0;
const observer: RunObserver = {
  ...IGNORE_ALL,
  stepped: (progress, imagesPerSecond, times) => {
    rows += progress.rowsInStep;
    steps++;
    if (isWatched) watchers.stepped(progress, imagesPerSecond, times);
  },
};
const run = new Run({
  ...{ config, model, dataset, plans, directory, cluster, observer, clock },
  ...{ minWorkers: 2, minWorkersToGoOn: 2, resumed: null },
});
live.follow(run);
metrics.watch(live.name, run);
workers.start('one', 1);
workers.start('two', 1);

const watcher = fork(fileURLToPath(new URL('./cost-watcher.js', import.meta.url)), [
  server.url.replace('ws:', 'http:'),
  live.name,
]);
const watch = (on: boolean): void => {
  isWatched = on;
  watcher.send(on ? 'on' : 'off');
};

/** Images a second, and CPU of this process for each step, of one segment. */
async function segment(on: boolean): Promise<{ rate: number; cpuMs: number }> {
  watch(on);
  await sleep(SETTLING_MS);
  const before = { rows, steps, at: performance.now(), cpu: process.cpuUsage() };
  await sleep(SEGMENT_MS);
  const { user, system } = process.cpuUsage(before.cpu);
  const rate = ((rows - before.rows) / (performance.now() - before.at)) * 1_000;
  if (on) watch(false);
  return { rate, cpuMs: (user + system) / 1_000 / (steps - before.steps) };
}

/** What a worker's report costs both sides: it is sent whether somebody watches or not. */
function reportMs(): number {
  const figures = new WorkerFigures(() => ({
    ...{ slots: 1, busySlots: 1, computeMs: performance.now(), rows, tensors: 40, tensorBytes: 5e6 },
  }));
  const before = performance.now();
  for (let i = 0; i < REPORTS; i++) {
    decodeFromWorker(encodeToCoordinator({ type: 'report', report: figures.report() }));
  }
  return (performance.now() - before) / REPORTS;
}

while (steps < 200) await sleep(100);
const ratios: number[] = [];
const rates = { on: [] as number[], off: [] as number[] };
const cpu = { on: [] as number[], off: [] as number[] };
for (let pair = 0; pair < PAIRS; pair++) {
  const of = { on: 0, off: 0 };
  // On and off take turns in coming first.
  for (const on of pair % 2 === 0 ? [true, false] : [false, true]) {
    const { rate, cpuMs } = await segment(on);
    of[on ? 'on' : 'off'] = rate;
    rates[on ? 'on' : 'off'].push(rate);
    cpu[on ? 'on' : 'off'].push(cpuMs);
  }
  ratios.push(of.on / of.off);
}
const answer = once(watcher, 'message');
watcher.send('tell');
const [seen] = (await answer) as [{ scrapes: number; events: number; bytes: number }];
run.stop(new AtelierError('stopped', 'that is enough'));
await run.ended;
workers.kill();
watcher.disconnect();
const report = reportMs();
rmSync(folder, { recursive: true, force: true });

const sorted = ratios.toSorted((a, b) => a - b);
const percent = (ratio: number): string => `${((1 - ratio) * 100).toFixed(2)} %`;
/** CPU of the coordinator that a second of watching takes; other load of the machine hardly changes it. */
const extraMs = ((median(cpu.on) - median(cpu.off)) * median(rates.on)) / config.batchSize;
const share = (extraMs / 1_000 / cpus().length) * 100;
const quartile = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? NaN;
publish(
  'cost',
  `# What watching costs

${circumstances('2.21.0')}

Five folds of \`lenet\`, batch ${config.batchSize}, two workers of one slot each; ${PAIRS} pairs of ${SEGMENT_MS / 1000} s. Watched: steps noted, \`/metrics\` scraped once a second
(${seen.scrapes} scrapes of ${(seen.bytes / seen.scrapes / 1024).toFixed(0)} KiB), the live page's event stream followed (${seen.events} events), by a process on the same cores.

| | watched | not watched |
| --- | ---: | ---: |
| images/s, median | ${median(rates.on).toFixed(0)} | ${median(rates.off).toFixed(0)} |
| CPU of the coordinator for each step, ms, median | ${median(cpu.on).toFixed(3)} | ${median(cpu.off).toFixed(3)} |

Images/s lost, median of the pairs: **${percent(median(ratios))}** (quartiles ${percent(quartile(0.75))} to ${percent(quartile(0.25))}).

Being watched takes ${extraMs.toFixed(1)} ms of the coordinator's CPU a second: **${share.toFixed(2)} %** of what the machine's ${cpus().length} cores have.

A worker's report costs both sides together ${(report * 1_000).toFixed(0)} microseconds each ${REPORT_INTERVAL_MS / 1000} s; it is sent in either case.
`,
);
process.exit(0);
