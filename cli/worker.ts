import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import type { Command } from 'commander';
import { backoffMs } from '../worker/backoff.js';
import { ComputePool } from '../worker/compute-pool.js';
import { SharedFolder } from '../worker/exchange.js';
import { serveMetrics } from '../worker/metrics-server.js';
import { RunWork, WorkerMemory } from '../worker/run-work.js';
import { openSocket, WorkerSession, type SessionEnd } from '../worker/session.js';
import { tensorflowSettings } from '../worker/tensorflow-settings.js';
import { WorkerFigures } from '../worker/worker-figures.js';
import { WorkerMetrics } from '../worker/worker-metrics.js';
import { systemClock } from '../shared/clock.js';
import { AtelierError, ExitCode } from '../shared/errors.js';
import { isLoopback, parseListen } from '../shared/listen.js';
import type { SessionCredential } from '../shared/protocol/messages.js';
import { ATELIER_VERSION } from '../shared/version.js';
import { addLogOption, openLog, workerLog, type LogFlags } from './log.js';
import { localDataset, type LocalDataFlags } from './local-dataset.js';
import { availableCores, parseCount } from './numbers.js';
import { readToken } from './options.js';
import { addJoinOptions, Entrance, type JoinFlags } from './security.js';

const MAX_SLOTS = 256;

interface WorkerFlags extends JoinFlags, LocalDataFlags, LogFlags {
  readonly name?: string;
  readonly slots?: string;
  readonly metricsListen?: string;
  readonly metricsTokenFile?: string;
}

export function addWorkerCommand(program: Command): void {
  const command = program
    .command('worker')
    .description('join a coordinator and compute for it until its run is over')
    .requiredOption('--join <url>', 'where the coordinator listens, such as wss://10.0.0.5:7077')
    .option('--name <name>', 'name in logs and metrics (default: host and process)')
    .option('--slots <n>', 'compute threads (default: one a core)')
    .option('--dataset <name>', "dataset to use from this disk if it is the run's", 'fashion-mnist')
    .option('--data-dir <folder>', 'folder of its files; rows that are not here come over the wire')
    .option(
      '--metrics-listen <host:port>',
      'serve metrics here too; off loopback with --metrics-token-file, --tls-cert and --tls-key',
    )
    .option('--metrics-token-file <file>', 'file with the secret that who reads metrics here must show')
    .action(async (flags: WorkerFlags) => {
      process.exitCode = await runWorker(flags, process.env);
    });
  addJoinOptions(command);
  addLogOption(command);
}

async function runWorker(flags: WorkerFlags, env: NodeJS.ProcessEnv): Promise<ExitCode> {
  const slots =
    flags.slots === undefined ? availableCores() : parseCount('--slots', flags.slots, 1, MAX_SLOTS);
  const entrance = new Entrance(flags, env);
  const name = flags.name ?? `${hostname()}-${process.pid}`;
  const kept = await openLog(flags);
  const log = kept && workerLog(kept, name);
  const say = (text: string): void => {
    if (log === null) process.stderr.write(`${text}\n`);
    else log.say(text);
  };
  // Started by `atelier train`: ends with it.
  const managed = process.send !== undefined;
  if (managed) process.on('disconnect', () => process.exit(ExitCode.done));

  Object.assign(process.env, tensorflowSettings(slots, process.env));
  const pool = new ComputePool(slots);
  const { figures, page } = await openMetrics(flags, entrance, pool);
  if (page !== null) say(`Metrics at ${page}`);
  // The slots load TensorFlow while this thread reads the dataset.
  const warm = pool.warmUp();
  const local = localDataset(flags, env);
  const { tensorflow } = await warm;
  if (local === null) say('No dataset on this disk: rows will come from the coordinator');

  let session: WorkerSession | undefined;
  const leaving = { asked: false };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // Asked twice, it goes at once; what it held is computed elsewhere.
      if (session === undefined || leaving.asked) process.exit(ExitCode.done);
      leaving.asked = true;
      session.drain(`${signal} on the worker`);
    });
  }
  const memory = new WorkerMemory(pool, local);
  let credential: SessionCredential | null = null;
  const versions = { atelier: ATELIER_VERSION, node: process.version, tensorflow };
  for (let failures = 0; ;) {
    const trust = await entrance.check();
    let end: SessionEnd;
    if ('unreachable' in trust) end = { kind: 'unreachable', reason: trust.unreachable };
    else {
      session = new WorkerSession({
        url: flags.join,
        token: entrance.token,
        connect: (url, token) => openSocket(url, token, trust),
        openExchange: (offer, given) => SharedFolder.open(offer, given),
        hello: { name, host: hostname(), pid: process.pid, slots, versions, credential },
        employ: (run, spec, port) => new RunWork(memory, run, spec, port),
        report: () => figures.report(),
        log: kept?.level === 'debug' ? log : null,
        clock: systemClock,
        onJoined: (given) => {
          credential = given;
          failures = 0;
          say(`Joined ${flags.join} as ${name} with ${slots} slots`);
        },
      });
      end = await session.ended;
    }
    session = undefined;
    if (end.kind === 'finished' || leaving.asked) {
      say(`Left: ${end.reason}`);
      await pool.close();
      // The channel to `atelier train` would keep this process alive.
      if (managed) process.disconnect();
      return ExitCode.done;
    }
    const waitMs = backoffMs(++failures, Math.random());
    say(
      `${end.kind === 'lost' ? 'Connection lost' : 'Cannot reach the coordinator'}: ${end.reason}. ` +
        `Trying again in ${(waitMs / 1000).toFixed(1)} s`,
    );
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

/** How this worker does, and where it serves that itself: null unless it was asked to. */
async function openMetrics(
  { metricsListen, metricsTokenFile, tlsCert, tlsKey }: WorkerFlags,
  { url }: Entrance,
  pool: ComputePool,
): Promise<{ figures: WorkerFigures; page: string | null }> {
  const figures = new WorkerFigures(() => pool.usage());
  if (metricsListen === undefined) return { figures, page: null };
  const { host, port } = parseListen(metricsListen, '--metrics-listen');
  const token =
    metricsTokenFile === undefined ? null : readToken(metricsTokenFile, {}, '--metrics-token-file');
  const isLocal = isLoopback(host);
  if (!isLocal && (token === null || tlsCert === undefined || tlsKey === undefined)) {
    throw new AtelierError(
      'usage',
      `--metrics-listen ${metricsListen} is open to the network: give --metrics-token-file, --tls-cert and --tls-key ` +
        `too, or listen on 127.0.0.1. The coordinator's /metrics has this worker's figures in any case`,
    );
  }
  const tls =
    isLocal || tlsCert === undefined || tlsKey === undefined
      ? null
      : { cert: readFileSync(tlsCert), key: readFileSync(tlsKey) };
  const metrics = new WorkerMetrics(figures);
  const server = await serveMetrics({ ...{ host, port, token, tls }, render: () => metrics.render() });
  // A page on loopback is of use to a coordinator of this machine alone.
  const isReachable = !isLocal || isLoopback(url.hostname.replace(/^\[|\]$/g, ''));
  if (isReachable) figures.metrics = { port: server.port, tls: tls !== null };
  const shown = host.includes(':') ? `[${host}]` : host;
  return { figures, page: `${tls === null ? 'http' : 'https'}://${shown}:${server.port}/metrics` };
}
