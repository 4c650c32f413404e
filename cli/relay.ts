import { hostname } from 'node:os';
import { Option, type Command } from 'commander';
import { Exchange } from '../coordinator/exchange.js';
import { CoordinatorServer } from '../coordinator/server.js';
import { Relay } from '../relay/relay.js';
import { systemClock } from '../shared/clock.js';
import { ExitCode } from '../shared/errors.js';
import { parseListen } from '../shared/listen.js';
import { EventLoopLag } from '../shared/metrics/event-loop-lag.js';
import { MAX_WORKERS } from '../shared/protocol/limits.js';
import { ATELIER_VERSION } from '../shared/version.js';
import { openSocket } from '../worker/session.js';
import { localDataset, type LocalDataFlags } from './local-dataset.js';
import { parseCount } from './numbers.js';
import {
  addJoinOptions,
  addSecurityOptions,
  Entrance,
  serverSecurity,
  type JoinFlags,
  type SecurityFlags,
} from './security.js';

/** What both a worker and a coordinator have a flag for is the worker's; the door's begins with `listen`. */
interface RelayFlags extends JoinFlags, LocalDataFlags, Omit<SecurityFlags, keyof JoinFlags> {
  readonly listen: string;
  readonly listenTokenFile?: string;
  readonly listenTlsCert?: string;
  readonly listenTlsKey?: string;
  readonly name?: string;
  readonly minWorkers: string;
  readonly sharedMemory: boolean;
}

export function addRelayCommand(program: Command): void {
  const command = program
    .command('relay')
    .description('join a coordinator, or another relay, as one worker, and serve workers of its own')
    .requiredOption('--join <url>', 'where the coordinator listens, such as wss://10.0.0.5:7077')
    .addOption(
      new Option('--listen <host:port>', 'where workers join this relay')
        .env('ATELIER_LISTEN')
        .default('127.0.0.1:7078'),
    )
    .option('--name <name>', 'name in logs and metrics (default: relay, host and process)')
    .option('--min-workers <n>', 'workers to wait for before it joins', '1')
    .option('--dataset <name>', "dataset to use from this disk if it is the run's", 'fashion-mnist')
    .option(
      '--data-dir <folder>',
      'folder of its files; rows that are not here come over the wire, each once',
    )
    .option('--no-shared-memory', 'send parameters and gradients of workers on this machine too');
  addJoinOptions(command);
  addSecurityOptions(command, 'listen-');
  command.action(async (flags: RelayFlags) => {
    process.exitCode = await runRelay(flags, process.env);
    // Timers of workers that may come back are of no use now.
    process.exit();
  });
}

async function runRelay(flags: RelayFlags, env: NodeJS.ProcessEnv): Promise<ExitCode> {
  const listen = parseListen(flags.listen);
  const minWorkers = parseCount('--min-workers', flags.minWorkers, 1, MAX_WORKERS);
  const entrance = new Entrance(flags, env);
  const { security } = await serverSecurity(listen, doorFlags(flags), doorEnv(env), systemClock);
  const say = (text: string): boolean => process.stderr.write(`${text}\n`);
  const lag = new EventLoopLag();
  const exchange = flags.sharedMemory ? Exchange.open() : null;
  const relay = new Relay({
    ...{ url: flags.join, minWorkers, say, exchange, clock: systemClock },
    ...{ random: Math.random, host: hostname() },
    name: flags.name ?? `relay-${hostname()}-${process.pid}`,
    versions: { atelier: ATELIER_VERSION, node: process.version },
    local: localDataset(flags, env),
    figures: () => ({ eventLoopLagMs: lag.milliseconds, residentBytes: process.memoryUsage.rss() }),
    way: async () => {
      const trust = await entrance.check();
      if ('unreachable' in trust) return trust;
      return { connect: () => openSocket(flags.join, entrance.token, trust) };
    },
  });
  const server = await CoordinatorServer.listen({
    ...{ listen, security, listener: relay.listener, clock: systemClock },
    onTrouble: (message) => say(`security: ${message}`),
  });
  say(`Relay at ${server.url} for ${flags.join}`);
  let asked = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // Asked twice, it goes at once; what it held is computed elsewhere.
      if (asked) process.exit(ExitCode.done);
      asked = true;
      relay.drain(`${signal} on the relay`);
    });
  }
  try {
    say(`Left: ${await relay.serve()}`);
    return ExitCode.done;
  } finally {
    await server.close();
    exchange?.close();
    lag.stop();
  }
}

/** The flags of the relay's own door, named as a coordinator's. */
function doorFlags(flags: RelayFlags): SecurityFlags {
  const { listenTokenFile, listenTlsCert, listenTlsKey } = flags;
  const { insecure, tls, tlsClientCa, hostName, stateDir } = flags;
  const given = { insecure, tls, tlsClientCa, hostName, stateDir };
  const own = { tokenFile: listenTokenFile, tlsCert: listenTlsCert, tlsKey: listenTlsKey };
  return Object.fromEntries(Object.entries({ ...given, ...own }).filter(([, value]) => value !== undefined));
}

/** The token that a relay shows is not the one that it wants to see. */
const doorEnv = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
  ...env,
  ATELIER_TOKEN: env['ATELIER_LISTEN_TOKEN'],
});
