import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { ensureAuthority, pinOf } from '../coordinator/security/certificates.js';
import { clusterFolderPath, openClusterFolder } from '../coordinator/security/cluster-folder.js';
import { TokenStore } from '../coordinator/security/token-store.js';
import { AtelierError, ExitCode, messageOf } from '../shared/errors.js';
import { parseHostFile } from './hostfile.js';
import { rankFromEnvironment, type Rank } from './launched-rank.js';
import { parseCount } from './numbers.js';
import { readToken } from './options.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
const DEFAULT_PORT = 7077;
/** How long workers may take to leave when the run is over. */
const LEAVE_TIMEOUT_MS = 15_000;
/** A token that outlives its launch, because the launcher was killed, ends by itself. */
const TOKEN_LIFETIME_MS = 30 * 24 * 60 * 60 * 1000;

interface LaunchFlags {
  readonly hosts?: string;
  readonly slurm?: boolean;
  readonly port?: string;
  readonly address?: string;
  readonly ssh: string;
  readonly remoteCommand?: string;
  readonly stateDir?: string;
  readonly tokenFile?: string;
}

export function addLaunchCommand(program: Command): void {
  program
    .command('launch')
    .description(
      'train over several machines: coordinator here, workers over ssh, in a Slurm allocation, or by rank',
    )
    .argument('<command...>', 'behind --: train or kfold with their options')
    .option(
      '--hosts <file>',
      'start a worker on each host of this file over ssh (lines such as "node1 slots=4")',
    )
    .option('--slurm', 'start a worker on each node of the Slurm allocation that this runs in (srun)')
    .option('--port <n>', `port of the coordinator (default: ${DEFAULT_PORT}; by rank: MASTER_PORT)`)
    .option('--address <name>', 'name or address of this machine as workers see it (default: its host name)')
    .option('--ssh <command>', 'ssh and its options', 'ssh -o BatchMode=yes')
    .option('--remote-command <command>', 'the atelier command there (default: node and path of this one)')
    .option('--token-file <file>', 'by rank: the token, the same for all')
    .option('--state-dir <folder>', 'folder of the cluster (default: ~/.config/atelier)')
    .action(async (command: string[], flags: LaunchFlags) => {
      process.exitCode = await launch(command, flags, process.env);
    });
}

async function launch(command: string[], flags: LaunchFlags, env: NodeJS.ProcessEnv): Promise<ExitCode> {
  if (command[0] !== 'train' && command[0] !== 'kfold') {
    throw new AtelierError(
      'usage',
      'what to launch? Such as: atelier launch --hosts FILE -- train --model cnn',
    );
  }
  if (flags.hosts !== undefined && flags.slurm === true) {
    throw new AtelierError('usage', '--hosts or --slurm, not both');
  }
  if (flags.hosts !== undefined) return overSsh(flags.hosts, command, flags, env);
  if (flags.slurm === true) return inAllocation(command, flags, env);
  const rank = rankFromEnvironment(env);
  if (rank !== null) return byRank(rank, command, flags, env);
  throw new AtelierError(
    'usage',
    'where? Give --hosts FILE, or --slurm inside an allocation, or start this with torchrun, mpirun or srun',
  );
}

/** One worker for each host. The token goes through ssh's standard input: it is in no command line. */
async function overSsh(
  file: string,
  command: string[],
  flags: LaunchFlags,
  env: NodeJS.ProcessEnv,
): Promise<ExitCode> {
  const hosts = parseHostFile(readHostFile(file), file);
  const [ssh = 'ssh', ...sshOptions] = flags.ssh.split(/\s+/).filter(Boolean);
  const start = (url: string, token: string): StartedWorker[] =>
    hosts.map(({ host, slots }) => {
      const settings = slots === null ? '' : ` --slots ${slots}`;
      const script = remoteScript(`${remoteCommand(flags)} worker --join ${quoted(url)}${settings}`);
      const child = spawn(ssh, [...sshOptions, '--', host, script], {
        stdio: ['pipe', 'inherit', 'inherit'],
      });
      child.stdin.on('error', () => undefined);
      child.stdin.write(`${token}\n`);
      return { name: host, child };
    });
  return coordinate(command, flags, env, start);
}

/** One srun for all nodes. The token goes in the environment, which Slurm hands to its tasks. */
async function inAllocation(
  command: string[],
  flags: LaunchFlags,
  env: NodeJS.ProcessEnv,
): Promise<ExitCode> {
  if (env['SLURM_JOB_ID'] === undefined) {
    throw new AtelierError(
      'usage',
      '--slurm works inside an allocation: sbatch deploy/slurm/atelier.sbatch, or salloc first',
    );
  }
  const cores = env['SLURM_CPUS_PER_TASK'] ?? env['SLURM_CPUS_ON_NODE'];
  const start = (url: string, token: string): StartedWorker[] => {
    const worker = [...remoteCommand(flags).split(' '), 'worker', '--join', url];
    if (cores !== undefined)
      worker.push('--slots', String(parseCount('CPUs of the Slurm task', cores, 1, 256)));
    // A node that fails does not end the step: the others go on.
    const options = ['--ntasks-per-node=1', '--no-kill', '--kill-on-bad-exit=0', '--overlap'];
    const nodes = env['SLURM_JOB_NUM_NODES'] ?? env['SLURM_NNODES'] ?? '1';
    const child = spawn('srun', [`--nodes=${nodes}`, `--ntasks=${nodes}`, ...options, ...worker], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...env, ATELIER_TOKEN: token },
    });
    return [{ name: 'srun', child }];
  };
  return coordinate(command, flags, env, start);
}

/** Started once on each machine by somebody else: rank 0 coordinates and computes, the others compute. */
async function byRank(
  rank: Rank,
  command: string[],
  flags: LaunchFlags,
  env: NodeJS.ProcessEnv,
): Promise<ExitCode> {
  const port = portOf(flags, rank.port);
  const host = flags.address ?? rank.coordinatorHost;
  if (host === null) {
    throw new AtelierError(
      'usage',
      'where is rank 0? Set MASTER_ADDR (mpirun -x MASTER_ADDR), or give --address',
    );
  }
  const token = readToken(flags.tokenFile, env);
  if (token === null) {
    throw new AtelierError(
      'usage',
      'all ranks need the same token: "atelier token create --out token" on rank 0\'s machine, then --token-file token',
    );
  }
  const environment = { ...env, ATELIER_TOKEN: token };
  const [what = 'train', ...rest] = command;
  const state = flags.stateDir === undefined ? [] : ['--state-dir', flags.stateDir];
  const door = ['--listen', `0.0.0.0:${port}`, '--host-name', host, ...state];
  const args =
    rank.rank === 0
      ? [what, ...door, '--workers', '1', ...rest]
      : ['worker', '--join', `wss://${host}:${port}`];
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: 'inherit', env: environment });
  const forget = forwardSignals(child);
  const code = await exitOf(child);
  forget();
  return code;
}

interface StartedWorker {
  readonly name: string;
  readonly child: ChildProcess;
}

/**
 * Runs the coordinator here and the workers there, until the run is over. SIGTERM, SIGINT and SIGUSR1 (Slurm's warning
 * before the time limit) stop it with a checkpoint.
 * @returns the exit code of the run
 */
async function coordinate(
  command: string[],
  flags: LaunchFlags,
  env: NodeJS.ProcessEnv,
  start: (url: string, token: string) => StartedWorker[],
): Promise<ExitCode> {
  const port = portOf(flags, null);
  const address = flags.address ?? hostname();
  const folder = openClusterFolder(clusterFolderPath(flags.stateDir, env));
  const store = new TokenStore(folder, () => Date.now());
  const pin = pinOf((await ensureAuthority(folder, Date.now())).certificate);
  const { text: token, stored } = store.create(
    { scope: 'worker', note: `launch ${process.pid}`, lifetimeMs: TOKEN_LIFETIME_MS },
    pin,
  );
  const [what = 'train', ...rest] = command;
  const door = ['--listen', `0.0.0.0:${port}`, '--host-name', address, '--state-dir', folder.path];
  try {
    const run = spawn(process.execPath, [MAIN, what, ...door, '--workers', '0', ...rest], {
      // Its own process group: Ctrl-C reaches us alone, and we tell it.
      detached: true,
      stdio: 'inherit',
      env: withoutToken(env),
    });
    const forget = forwardSignals(run);
    const over = exitOf(run);
    const workers = start(`wss://${address}:${port}`, token);
    let left = workers.length;
    for (const { name, child } of workers) {
      void exitOf(child).then((code) => {
        left--;
        if (run.exitCode !== null || code === ExitCode.done) return;
        process.stderr.write(`worker on ${name} ended with exit code ${code}\n`);
        if (left === 0) {
          process.stderr.write('no worker is left: stopping\n');
          run.kill('SIGTERM');
        }
      });
    }
    const code = await over;
    forget();
    await dismiss(workers);
    return code;
  } finally {
    store.revoke(stored.id);
  }
}

/** Workers leave when the run is over; those that do not are ended. */
async function dismiss(workers: readonly StartedWorker[]): Promise<void> {
  const alive = workers
    .map(({ child }) => child)
    .filter((child) => child.exitCode === null && child.signalCode === null);
  const timer = setTimeout(() => {
    for (const child of alive) {
      child.stdin?.end();
      child.kill('SIGTERM');
    }
  }, LEAVE_TIMEOUT_MS);
  await Promise.all(alive.map((child) => exitOf(child)));
  clearTimeout(timer);
}

/**
 * What the shell of the other machine runs: the token is the first line of standard input; when that input ends, because
 * ssh or the launcher is gone, the worker is told to leave.
 */
export const remoteScript = (worker: string): string =>
  'exec 3<&0; IFS= read -r ATELIER_TOKEN <&3; export ATELIER_TOKEN; ' +
  `${worker} </dev/null & w=$!; ` +
  '{ cat; kill $w; } <&3 >/dev/null 2>&1 & wait $w';

function readHostFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AtelierError('usage', `--hosts ${file}: ${messageOf(cause)}`, { cause });
  }
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const remoteCommand = (flags: LaunchFlags): string => flags.remoteCommand ?? `${process.execPath} ${MAIN}`;

function portOf(flags: LaunchFlags, fromLauncher: number | null): number {
  if (flags.port !== undefined) return parseCount('--port', flags.port, 1, 65_535);
  return fromLauncher ?? DEFAULT_PORT;
}

/** The launcher's own token is the workers' business. */
const withoutToken = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => name !== 'ATELIER_TOKEN'));

function forwardSignals(child: ChildProcess): () => void {
  const stop = (): boolean => child.kill('SIGTERM');
  const signals = ['SIGTERM', 'SIGINT', 'SIGUSR1'] as const;
  for (const signal of signals) process.on(signal, stop);
  return () => signals.forEach((signal) => process.off(signal, stop));
}

/** The exit code of a process; killed, or not even started, is a failed run. */
function exitOf(child: ChildProcess): Promise<ExitCode> {
  const known = (code: number | null): ExitCode =>
    Object.values(ExitCode).find((one) => one === code) ?? ExitCode.runFailed;
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(known(child.exitCode));
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(known(code)));
    child.once('error', (error) => {
      process.stderr.write(`${child.spawnfile}: ${error.message}\n`);
      resolve(ExitCode.runFailed);
    });
  });
}
