/**
 * `npm run slurm`: deploy/slurm/atelier.sbatch in a real Slurm of this machine's own: slurmctld and three slurmd from Debian's
 * packages slurm-wlm and munge. A node fails, the time limit comes near, and the job is preempted: each time the weights must be
 * those of an undisturbed run. Needs root.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../shared/version.js';
import { SlurmCluster } from './slurm-cluster.js';

const NODES = 3;
const TRAINING = '--model lenet --epochs 3 --batch-size 256 --checkpoint-steps 50 --quiet'.split(' ');
const PATIENCE_MS = 10 * 60_000;
const POLL_MS = 200;

const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const folder = mkdtempSync(join(tmpdir(), 'atelier-slurm-'));

interface Outcome {
  readonly weightsSha256: string;
  readonly durationSeconds: number;
  readonly elasticity: { readonly workersLost: number; readonly resumes: number };
}

const outcomeOf = (run: string): Outcome =>
  JSON.parse(readFileSync(join(run, 'summary.json'), 'utf8')) as Outcome;

async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!isSo()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await sleep(POLL_MS);
  }
}

function undisturbed(): Outcome {
  const run = join(folder, 'undisturbed');
  const main = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
  const args = [main, 'train', ...TRAINING, '--workers', '2', '--slots', '1', '--run-dir', run];
  execFileSync(process.execPath, args, { stdio: 'inherit' });
  return outcomeOf(run);
}

/** A job that trains on all nodes. */
class Job {
  readonly id: number;
  readonly run: string;
  private readonly slurm: SlurmCluster;

  constructor(slurm: SlurmCluster, name: string) {
    this.slurm = slurm;
    const runs = join(folder, name);
    const script = join(PROJECT_ROOT, 'deploy', 'slurm', 'atelier.sbatch');
    const output = join(folder, `${name}.out`);
    this.id = slurm.submit([`--nodes=${NODES}`, '-o', output, script, ...TRAINING], {
      ATELIER_HOME: PROJECT_ROOT,
      ATELIER_RUNS: runs,
      ATELIER_STATE_DIR: join(folder, `${name}-state`),
    });
    this.run = join(runs, `slurm-${this.id}`);
  }

  /** Waits until it trains, and has a checkpoint. */
  async trains(): Promise<void> {
    await until('a checkpoint is written', () => this.has('checkpoint'));
  }

  async ends(): Promise<Outcome> {
    await until('the job ends', () =>
      ['COMPLETED', 'FAILED', 'TIMEOUT', 'CANCELLED', 'NODE_FAIL'].includes(this.state),
    );
    if (this.state !== 'COMPLETED') throw new Error(`job ${this.id} ended as ${this.state}`);
    return outcomeOf(this.run);
  }

  async startsAgain(): Promise<void> {
    await until('the job starts again', () => this.slurm.restartsOf(this.id) > 0 && this.state !== 'PENDING');
  }

  has(type: string): boolean {
    const file = join(this.run, 'events.jsonl');
    return existsSync(file) && readFileSync(file, 'utf8').includes(`"type":"${type}"`);
  }

  private get state(): string {
    return this.slurm.stateOf(this.id);
  }
}

type Disturbance = (slurm: SlurmCluster, job: Job) => Promise<void>;

const DISTURBANCES: Readonly<Record<string, Disturbance>> = {
  'a node fails': async (slurm, job) => {
    await slurm.killNode(`n${NODES}`);
    await until('its worker is missed', () => job.has('worker-left'));
    slurm.startNode(`n${NODES}`);
  },
  'the time limit comes near': async (slurm, job) => {
    slurm.command('scancel', '--batch', '--signal=USR1', String(job.id));
    await job.startsAgain();
  },
  'it is preempted': async (slurm, job) => {
    const other = slurm.submit(
      ['--partition=high', `--nodes=${NODES}`, '-o', '/dev/null', '--wrap=true'],
      {},
    );
    await until('the other job is over', () => slurm.stateOf(other) === 'COMPLETED');
    await job.startsAgain();
  },
};

if (
  process.getuid?.() !== 0 ||
  spawnSync('slurmctld', ['-V']).status !== 0 ||
  spawnSync('munged', ['-V']).status !== 0
) {
  say('skipped: needs root, and slurmctld, slurmd and munged (Debian: slurm-wlm, munge)');
  process.exit();
}
const slurm = new SlurmCluster(join(folder, 'slurm'), NODES);
try {
  const reference = undisturbed();
  say(`undisturbed: ${reference.weightsSha256}, ${reference.durationSeconds} s`);
  const asked = process.argv.slice(2);
  for (const [index, [what, disturb]] of Object.entries(DISTURBANCES).entries()) {
    if (asked.length > 0 && !asked.includes(what)) continue;
    await slurm.ready(NODES);
    const job = new Job(slurm, `job-${index}`);
    await job.trains();
    await disturb(slurm, job);
    const { weightsSha256, durationSeconds, elasticity } = await job.ends();
    const { workersLost, resumes } = elasticity;
    say(`${what}: ${weightsSha256}, ${durationSeconds} s, ${workersLost} workers lost, ${resumes} resumes`);
    if (weightsSha256 !== reference.weightsSha256) throw new Error('other weights');
  }
  say('the same weights each time');
  await slurm.close();
  rmSync(folder, { recursive: true, force: true });
} catch (error) {
  say(`FAILED; what was written is in ${folder}`);
  await slurm.close();
  throw error;
}
