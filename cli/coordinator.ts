import { Option, type Command } from 'commander';
import { Cluster } from '../coordinator/cluster.js';
import { Exchange } from '../coordinator/exchange.js';
import { coordinatorRoutes } from '../coordinator/http/routes.js';
import { submissionRoutes } from '../coordinator/http/submissions.js';
import { metricRoutes } from '../coordinator/metrics/metric-routes.js';
import { CoordinatorServer } from '../coordinator/server.js';
import { parseListen } from '../shared/listen.js';
import { RunsFolder } from '../coordinator/service/runs-folder.js';
import { CONCURRENT_RUNS, MAX_QUEUED_RUNS, RunService } from '../coordinator/service/service.js';
import { systemClock } from '../shared/clock.js';
import { FASHION_MNIST } from '../shared/dataset/fashion-mnist.js';
import { ExitCode } from '../shared/errors.js';
import { MAX_SLOTS, MAX_WORKERS } from '../shared/protocol/limits.js';
import { executeRun } from './execute-run.js';
import { LocalWorkers, slotsOfEach } from './local-workers.js';
import { addLogOption, openLog, type LogFlags } from './log.js';
import { addMetricsOptions, coordinatorMetrics, targetFile, type MetricsFlags } from './metrics.js';
import { parseCount } from './numbers.js';
import { Reports } from './reports.js';
import { addSecurityOptions, serverSecurity, type SecurityFlags } from './security.js';

const MAX_CONCURRENT_RUNS = 64;
const MOST_QUEUED_RUNS = 10_000;

interface CoordinatorFlags extends SecurityFlags, MetricsFlags, LogFlags {
  readonly listen: string;
  readonly runs: string;
  readonly concurrentRuns: string;
  readonly queue: string;
  readonly workers: string;
  readonly slots?: string;
}

export function addCoordinatorCommand(program: Command): void {
  const command = program
    .command('coordinator')
    .description('serve workers and runs for as long as it is left to: see submit, status, logs, cancel')
    .addOption(
      new Option('--listen <host:port>', 'where workers join and runs are handed in')
        .env('ATELIER_LISTEN')
        .default('127.0.0.1:7077'),
    )
    .addOption(
      new Option('--runs <folder>', 'folder of the runs: all that it remembers')
        .env('ATELIER_RUNS')
        .default('runs'),
    )
    .option('--concurrent-runs <n>', 'runs at the same time', String(CONCURRENT_RUNS))
    .option('--queue <n>', 'runs that may wait', String(MAX_QUEUED_RUNS))
    .option('--workers <n>', 'worker processes to start on this machine', '0')
    .option('--slots <n>', 'slots of each of them (default: the cores, shared out)');
  addSecurityOptions(command);
  addMetricsOptions(command);
  addLogOption(command);
  command.action(async (flags: CoordinatorFlags) => {
    process.exitCode = await coordinate(flags, process.env);
    // Timers of workers that may come back are of no use now.
    process.exit();
  });
}

/** Serves until SIGTERM or SIGINT. Runs that are not over then are gone on with by the next one on the same folder. */
async function coordinate(flags: CoordinatorFlags, env: NodeJS.ProcessEnv): Promise<ExitCode> {
  const concurrentRuns = parseCount('--concurrent-runs', flags.concurrentRuns, 1, MAX_CONCURRENT_RUNS);
  const maxQueued = parseCount('--queue', flags.queue, 0, MOST_QUEUED_RUNS);
  const local = parseCount('--workers', flags.workers, 0, MAX_WORKERS);
  const slots =
    flags.slots === undefined ? slotsOfEach(local) : parseCount('--slots', flags.slots, 1, MAX_SLOTS);
  const listen = parseListen(flags.listen);
  const clock = systemClock;
  const { security, localToken } = await serverSecurity(listen, flags, env, clock);
  const say = (line: string): boolean => process.stdout.write(`${line}\n`);
  const log = await openLog(flags);
  const folder = RunsFolder.open(flags.runs);
  const exchange = Exchange.open();
  try {
    const cluster = new Cluster(clock, exchange);
    const metrics = coordinatorMetrics(cluster, folder.path);
    const reports = new Reports(env);
    const service = new RunService({
      ...{ folder, clock, concurrentRuns, maxQueued, say },
      execute: (path, isBegun) => executeRun({ path, isBegun, cluster, metrics, reports, env, say, log }),
      hasWorkers: () => cluster.hasWorkers,
    });
    const server = await CoordinatorServer.listen({
      ...{ listen, security, listener: cluster, clock, refusals: metrics.logins },
      routes: [
        ...coordinatorRoutes({ runs: service, cluster, clock, readiness: () => service.trouble }),
        submissionRoutes(service),
        metricRoutes(metrics, cluster, security.tls !== null),
      ],
      onTrouble: (message) => say(`security: ${message}`),
    });
    say(`Coordinator at ${server.url}, runs in ${folder.path}`);
    const targets = targetFile(flags, server, cluster, (message) => say(`metrics: ${message}`));
    const workers = new LocalWorkers({
      ...{ count: local, slots, url: server.url, token: localToken, log },
      ...{ dataset: FASHION_MNIST.name, dataDir: null },
      onRestart: (name, how) => say(`worker ${name} ${how}: started again`),
      onDeath: (name, how) => say(`worker ${name} ${how}: not started again`),
    });
    service.pump();
    await asked();
    say('Stopping ... (once more to quit at once)');
    const left = await service.stop();
    await workers.dismiss();
    // Other workers are not sent home: they wait for the next coordinator.
    await server.close();
    targets?.close();
    metrics.close();
    await reports.ended();
    if (left > 0)
      say(`${left} runs are to be gone on with: start the coordinator again with --runs ${folder.path}`);
    return left > 0 ? ExitCode.stopped : ExitCode.done;
  } finally {
    exchange?.close();
    folder.close();
  }
}

/** Resolves on the first SIGINT or SIGTERM; the second ends the process. */
function asked(): Promise<void> {
  return new Promise((resolve) => {
    let before = false;
    const handler = (): void => {
      if (before) process.exit(ExitCode.stopped);
      before = true;
      resolve();
    };
    process.on('SIGINT', handler);
    process.on('SIGTERM', handler);
  });
}
