/**
 * `npm run bench -- attacks`: what an attacker on the network costs a training over TLS with tokens. `lenet` trains with one slot,
 * so that of two cores one is left for the attackers: other processes, each of an address of its own, that attack one
 * after the other, each in its way, at a stated rate, and compute only when nobody else wants to (SCHED_IDLE). What is measured is what
 * the coordinator has to do, not what the attacker computes. Needs chrt (util-linux). ATELIER_BENCH_ATTACKS="slow loris,no token"
 * takes some ways alone.
 *
 * This machine's own pace drifts by more than most attacks cost. Hence every window is as many steps as some epochs have, so that
 * each holds as many evaluations; each attack lies between two calm windows and is compared with both; and each round takes the
 * ways in another order, so that a slow minute is not one way's alone.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureAuthority, pinOf } from '../../coordinator/security/certificates.js';
import { openClusterFolder } from '../../coordinator/security/cluster-folder.js';
import { TokenStore } from '../../coordinator/security/token-store.js';
import { Purpose, RandomStream, shuffle } from '../../shared/rng.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ATTACKS, type Outcomes } from './attacks/attacker.js';
import { circumstances, publish } from './results.js';
import { median, trainHere } from './train-here.js';

const BATCH = 256;
const ROUNDS = Number(process.env['ATELIER_BENCH_ROUNDS'] ?? 3);
/** What some of them alone cost is only shown. */
const only = process.env['ATELIER_BENCH_ATTACKS']?.split(',');
/** Two epochs, some eight seconds: longer than it takes until the door has had enough of an address. */
const WINDOW_STEPS = 2 * Math.ceil(60_000 / BATCH);
/** Until V8 has compiled what a step runs and the training no longer gets faster. */
const WARM_WINDOWS = 5;
/** More than fit into the time. */
const EPOCHS = 10_000;
/** Attempts a second; connections that say nothing cost less, and come more often. */
const RATE = 25;
const RATES: Readonly<Record<string, number>> = {
  connections: 400,
  'connections to the attacker itself': 400,
  'slow loris': 200,
  'half a TLS handshake': 200,
};
const MOST_COST = 0.1;
/** Those with a good token are let in as what they are: workers; their connections must come to nothing else. */
const GOOD_TOKEN: Readonly<Record<string, readonly string[]>> = {
  'first frame too large': ['4400', 'left'],
  'credential made up': ['left'],
  'rows of another run': ['left'],
  'garbage for a frame': ['4400', 'left'],
};
const REFUSED = ['400', '401', '403', '404', '421', '503', 'cut', 'left', 'held open'];

const scratch = mkdtempSync(join(tmpdir(), 'atelier-attacks-'));
const stateDir = join(scratch, 'state');
const folder = openClusterFolder(stateDir);
const store = new TokenStore(folder, () => Date.now());
const pin = pinOf((await ensureAuthority(folder, Date.now())).certificate);
const { text: token } = store.create({ scope: 'worker', note: 'bench', lifetimeMs: null }, pin);
const port = 20_000 + Math.floor(Math.random() * 20_000);

let steps = 0;
let isOver = false;
let stepped: () => void = () => undefined;

/** Of a window. */
interface Pace {
  /** Images a second. */
  readonly rate: number;
  /** The share of a core that the coordinator, which is this process, takes. */
  readonly cpu: number;
}

async function pace(): Promise<Pace> {
  const [last, startedAt, cpuBefore] = [steps + WINDOW_STEPS, performance.now(), process.cpuUsage()];
  await new Promise<void>((resolve) => {
    stepped = () => {
      if (steps >= last) resolve();
    };
  });
  const ms = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  return { rate: (WINDOW_STEPS * BATCH * 1_000) / ms, cpu: (user + system) / 1_000 / ms };
}

/** One way of attacking: its process, and what came of it so far. */
class Attack {
  readonly costs: number[] = [];
  readonly windows: { readonly calm: Pace; readonly attacked: Pace }[] = [];
  readonly outcomes: Record<string, number> = {};
  private readonly attacker: ChildProcess;
  private readonly ready: Promise<unknown>;
  private attackedMs = 0;

  /** @param address the attacker's own: the door counts by address */
  constructor(
    readonly kind: string,
    address: string,
  ) {
    const script = join(PROJECT_ROOT, 'dist', 'test', 'bench', 'attacks', 'attacker.js');
    this.attacker = fork(script, [kind, address, String(port), token, String(this.asked)], {
      execPath: 'chrt',
      execArgv: ['--idle', '0', process.execPath],
    });
    this.ready = once(this.attacker, 'message');
  }

  /** Attempts a second. */
  get asked(): number {
    return RATES[this.kind] ?? RATE;
  }

  get answered(): number {
    const attempts = Object.values(this.outcomes).reduce((sum, count) => sum + count, 0);
    return (attempts * 1_000) / this.attackedMs;
  }

  /** Attacks for one window, and returns the pace of the calm one after it. */
  async take(calm: Pace): Promise<Pace> {
    await this.ready;
    const startedAt = performance.now();
    await this.say('go');
    const attacked = await pace();
    this.attackedMs += performance.now() - startedAt;
    const stopped = once(this.attacker, 'message') as Promise<[Outcomes]>;
    await this.say('stop');
    for (const [outcome, count] of Object.entries((await stopped)[0])) {
      this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + count;
    }
    const calmAfter = await pace();
    this.windows.push({ calm, attacked });
    this.costs.push(1 - (2 * attacked.rate) / (calm.rate + calmAfter.rate));
    return calmAfter;
  }

  /** Throws when somebody was let in. */
  check(): void {
    const expected = GOOD_TOKEN[this.kind] ?? REFUSED;
    const others = Object.keys(this.outcomes).filter((outcome) => !expected.includes(outcome));
    // After wrong tokens the door makes everybody of that address wait.
    if (others.some((outcome) => outcome !== '503')) {
      throw new Error(`${this.kind}: ${JSON.stringify(this.outcomes)}`);
    }
  }

  end(): void {
    this.attacker.kill();
  }

  private async say(message: string): Promise<void> {
    await new Promise((resolve) => this.attacker.send(message, resolve));
  }
}

const percent = (share: number): string => (100 * share).toFixed(1);

async function attackAll(): Promise<readonly Attack[]> {
  const attacks = (only ?? ATTACKS).map((kind, i) => new Attack(kind, `127.0.1.${i + 1}`));
  try {
    for (let i = 0; i < WARM_WINDOWS; i++) await pace();
    let calm = await pace();
    for (let round = 0; round < ROUNDS; round++) {
      const stream = new RandomStream({
        seed: 1,
        purpose: Purpose.shuffle,
        trial: 0,
        epoch: round,
        shard: 0,
      });
      const order = shuffle(Uint32Array.from(attacks.keys()), stream);
      for (const i of order) calm = (await attacks[i]?.take(calm)) ?? calm;
      const costs = attacks.map(({ kind, costs: all }) => `${kind} ${percent(all.at(-1) ?? NaN)}`);
      process.stderr.write(`round ${round + 1} of ${ROUNDS}, %: ${costs.join(', ')}\n`);
    }
    for (const attack of attacks) attack.check();
  } finally {
    isOver = true;
    for (const attack of attacks) attack.end();
  }
  return attacks;
}

try {
  const attacks = attackAll();
  const training = trainHere(
    { model: 'lenet', batchSize: BATCH, epochs: EPOCHS, workers: 1, slots: 1, listen: `0.0.0.0:${port}` },
    {
      stepped: () => {
        steps++;
        stepped();
      },
    },
    () => isOver,
    { stateDir },
  );
  const [results, summary] = await Promise.all([attacks, training]);
  const lines = results.map(({ kind, asked, answered, outcomes, windows, costs }) => {
    const came = Object.entries(outcomes).map(([outcome, count]) => `${count} x ${outcome}`);
    const middle = (of: (window: { readonly calm: Pace; readonly attacked: Pace }) => number): number =>
      median(windows.map(of));
    const rates = [middle(({ calm }) => calm.rate), middle(({ attacked }) => attacked.rate)].map(Math.round);
    const cpu = [middle(({ calm }) => calm.cpu), middle(({ attacked }) => attacked.cpu)].map(percent);
    const range = `${percent(Math.min(...costs))} to ${percent(Math.max(...costs))}`;
    const figures = [...rates, percent(median(costs)), range, ...cpu];
    return `| ${[kind, asked, Math.round(answered), came.join(', '), ...figures].join(' | ')} |`;
  });
  const page = `# What attacks cost a training

${circumstances(summary.workers[0]?.tensorflow ?? '?')}
- \`lenet\`, batch ${BATCH}, a local worker of one slot, TLS and tokens on all addresses. Each attacker is another process of this machine, of an
  address of its own, that computes only when nobody else wants to (SCHED_IDLE), and of two cores one is left for it.
- ${ROUNDS} rounds, each of all ways in another order. An attack lasts ${WINDOW_STEPS} steps, some eight seconds, and as many are calm before and after it. Its cost in a
  round: how much slower it is than the mean of those two; in the table: the median of the rounds, and the least and the most.
- CPU: the share of a core that the coordinator takes.
- Status codes as in docs/security.md; 4400: closed for a bad frame; left: the attacker went; held open: until the door cuts it.

| attack | attempts a second, asked for | answered | what came of them | images/s calm | attacked | cost, % | of the rounds | CPU calm, % | attacked |
|---|---:|---:|---|---:|---:|---:|---|---:|---:|
${lines.join('\n')}

Workers lost: ${summary.elasticity.workersLost}; retries: ${summary.retries}.
`;
  if (only === undefined) publish('attacks', page);
  else process.stdout.write(page);
  if (results.some(({ costs }) => median(costs) > MOST_COST)) process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exit();
