import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_PORT = 17_000;
const POLL_MS = 200;
const START_TIMEOUT_MS = 60_000;
/** A node that does not answer for so long is down. */
const NODE_TIMEOUT_S = 15;
/** How long a requeued job waits: until nobody takes its old credential any more. */
const REQUEUE_DELAY_S = 15;
/** From the warning of a job that is preempted to its end. */
const GRACE_S = 30;

/**
 * A Slurm of this machine's own: munged, slurmctld and a slurmd for each node, all of them in one folder. There are two
 * partitions, `low` (the default) and `high`, whose jobs preempt those of `low`, which are requeued.
 */
export class SlurmCluster {
  private readonly folder: string;
  private readonly daemons = new Map<string, ChildProcess>();
  /** What Slurm's commands want in their environment. */
  readonly env: NodeJS.ProcessEnv;

  constructor(folder: string, nodes: number) {
    this.folder = folder;
    for (const name of ['state', 'munge', 'spool'])
      mkdirSync(join(folder, name), { recursive: true, mode: 0o755 });
    writeFileSync(join(folder, 'slurm.conf'), this.configuration(nodes));
    this.env = { ...process.env, SLURM_CONF: join(folder, 'slurm.conf') };
    const munge = (file: string): string => join(folder, 'munge', file);
    execFileSync('mungekey', ['--create', `--keyfile=${munge('key')}`]);
    this.start('munged', 'munged', [
      ...['--foreground', '--force', `--key-file=${munge('key')}`, `--socket=${munge('socket')}`],
      ...[`--pid-file=${munge('pid')}`, `--seed-file=${munge('seed')}`, `--log-file=${munge('log')}`],
    ]);
    this.start('slurmctld', 'slurmctld', ['-D', '-i']);
    for (let i = 1; i <= nodes; i++) this.startNode(`n${i}`);
  }

  /** Waits until so many nodes are idle. */
  async ready(nodes: number): Promise<void> {
    const end = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      try {
        const idle = this.command('sinfo', '-h', '-p', 'low', '-t', 'idle', '-o', '%D');
        if (Number(idle) === nodes) return;
      } catch {
        // The controller is not there yet.
      }
      if (Date.now() > end) throw new Error(`Slurm does not start: see ${this.folder}`);
      await sleep(POLL_MS);
    }
  }

  /** Runs one of Slurm's commands; returns what it printed. */
  command(name: string, ...args: string[]): string {
    return execFileSync(name, args, {
      env: this.env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();
  }

  /** @returns the job's number */
  submit(args: readonly string[], env: NodeJS.ProcessEnv): number {
    const text = execFileSync('sbatch', ['--parsable', ...args], {
      env: { ...this.env, ...env },
      encoding: 'utf8',
    });
    return Number(text.trim());
  }

  /** Such as PENDING, RUNNING or COMPLETED. */
  stateOf(job: number): string {
    return /JobState=(\w+)/.exec(this.command('scontrol', 'show', 'job', String(job)))?.[1] ?? 'UNKNOWN';
  }

  restartsOf(job: number): number {
    return Number(/Restarts=(\d+)/.exec(this.command('scontrol', 'show', 'job', String(job)))?.[1] ?? 0);
  }

  startNode(name: string): void {
    this.start(name, 'slurmd', ['-D', '-N', name]);
  }

  /** The power of a node fails: its daemon and all that it runs are gone at once. */
  async killNode(name: string): Promise<void> {
    const daemon = this.daemons.get(name);
    if (daemon === undefined) throw new Error(`no node ${name}`);
    const exited = once(daemon, 'exit');
    daemon.kill('SIGKILL');
    await exited;
    killTasksOf(name);
  }

  async close(): Promise<void> {
    for (const daemon of [...this.daemons.values()].reverse()) {
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
      const exited = once(daemon, 'exit');
      daemon.kill('SIGTERM');
      await exited;
    }
  }

  private start(name: string, program: string, args: readonly string[]): void {
    const log = openSync(join(this.folder, `${name}.log`), 'a');
    this.daemons.set(name, spawn(program, args, { env: this.env, stdio: ['ignore', log, log] }));
  }

  private configuration(nodes: number): string {
    const { folder } = this;
    const host = hostname();
    return [
      'ClusterName=atelier-test',
      `SlurmctldHost=${host}(127.0.0.1)`,
      `SlurmctldPort=${FIRST_PORT}`,
      'SlurmUser=root',
      'AuthType=auth/munge',
      `AuthInfo=socket=${join(folder, 'munge', 'socket')},cred_expire=${REQUEUE_DELAY_S}`,
      `StateSaveLocation=${join(folder, 'state')}`,
      `SlurmdSpoolDir=${join(folder, 'spool')}/%n`,
      `SlurmdPidFile=${folder}/%n.pid`,
      `SlurmctldPidFile=${folder}/slurmctld.pid`,
      'ProctrackType=proctrack/linuxproc',
      'TaskPlugin=task/none',
      'SelectType=select/cons_tres',
      'SelectTypeParameters=CR_CPU',
      'ReturnToService=2',
      `SlurmdTimeout=${NODE_TIMEOUT_S}`,
      'SchedulerParameters=sched_interval=2,bf_interval=2',
      'PreemptType=preempt/partition_prio',
      'PreemptMode=REQUEUE',
      'MpiDefault=none',
      ...Array.from(
        { length: nodes },
        (_, i) =>
          `NodeName=n${i + 1} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${FIRST_PORT + 1 + i} CPUs=1`,
      ),
      `PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=${GRACE_S}`,
      'PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF',
      '',
    ].join('\n');
  }
}

/** Kills what runs on a node: tasks have its name in their environment, and their parent is Slurm's own process. */
function killTasksOf(node: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const variables = readFileSync(join('/proc', pid, 'environ'), 'utf8').split('\0');
      if (!variables.includes(`SLURMD_NODENAME=${node}`)) continue;
      const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(join('/proc', pid, 'status'), 'utf8'))?.[1] ?? '0';
      const isStep = readFileSync(join('/proc', parent, 'comm'), 'utf8').startsWith('slurmstepd');
      process.kill(Number(pid), 'SIGKILL');
      if (isStep) process.kill(Number(parent), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}
