/**
 * `npm run bench -- attacks`: what an attacker on the network costs a training over TLS with tokens. `lenet` trains with two
 * local workers; another process attacks in one way after the other, at a stated rate, and computes only when nobody else wants to
 * (SCHED_IDLE), so that what is measured is what the coordinator has to do, not what the attacker computes on the same cores. Calm
 * and attack alternate. Needs chrt (util-linux). ATELIER_BENCH_ATTACKS="slow loris,no token" takes some ways alone.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureAuthority, pinOf } from '../../coordinator/security/certificates.js';
import { openClusterFolder } from '../../coordinator/security/cluster-folder.js';
import { TokenStore } from '../../coordinator/security/token-store.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ATTACKS, type Outcomes } from './attacks/attacker.js';
import { circumstances, publish } from './results.js';
import { median, trainHere } from './train-here.js';

const BATCH = 256;
const ROUNDS = Number(process.env['ATELIER_BENCH_ROUNDS'] ?? 9);
/** What some of them alone cost is only shown. */
const only = process.env['ATELIER_BENCH_ATTACKS']?.split(',');
const WINDOW_MS = 2_000;
/** Then V8 has compiled what a step runs. */
const WARM_STEPS = 1_500;
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

/** Images/s of the training over a window. */
async function rate(): Promise<number> {
  const [stepsBefore, startedAt] = [steps, performance.now()];
  await sleep(WINDOW_MS);
  return ((steps - stepsBefore) * BATCH * 1_000) / (performance.now() - startedAt);
}

async function say(attacker: ChildProcess, message: string): Promise<void> {
  await new Promise((resolve) => attacker.send(message, resolve));
}

interface Result {
  readonly kind: string;
  readonly calm: number;
  readonly attacked: number;
  readonly cost: number;
  readonly outcomes: Outcomes;
}

async function measure(kind: string): Promise<Result> {
  const script = join(PROJECT_ROOT, 'dist', 'test', 'bench', 'attacks', 'attacker.js');
  const attacker = fork(script, [kind, String(port), token, String(RATES[kind] ?? RATE)], {
    execPath: 'chrt',
    execArgv: ['--idle', '0', process.execPath],
  });
  const pairs: { calm: number; attacked: number }[] = [];
  const outcomes: Record<string, number> = {};
  try {
    await once(attacker, 'message');
    for (let round = 0; round < ROUNDS; round++) {
      const calm = await rate();
      await say(attacker, 'go');
      const attacked = await rate();
      const stopped = once(attacker, 'message') as Promise<[Outcomes]>;
      await say(attacker, 'stop');
      for (const [outcome, count] of Object.entries((await stopped)[0])) {
        outcomes[outcome] = (outcomes[outcome] ?? 0) + count;
      }
      pairs.push({ calm, attacked });
    }
  } finally {
    attacker.kill();
  }
  const others = Object.keys(outcomes).filter((outcome) => !(GOOD_TOKEN[kind] ?? REFUSED).includes(outcome));
  // After wrong tokens the door makes everybody of that address wait.
  if (others.some((outcome) => outcome !== '503')) throw new Error(`${kind}: ${JSON.stringify(outcomes)}`);
  const result = {
    kind,
    calm: median(pairs.map((pair) => pair.calm)),
    attacked: median(pairs.map((pair) => pair.attacked)),
    cost: median(pairs.map((pair) => 1 - pair.attacked / pair.calm)),
    outcomes,
  };
  process.stderr.write(`${kind}: ${(100 * result.cost).toFixed(1)} % ${JSON.stringify(outcomes)}\n`);
  return result;
}

async function attackAll(): Promise<Result[]> {
  const results: Result[] = [];
  try {
    while (steps < WARM_STEPS && !isOver) await sleep(100);
    for (const kind of only ?? ATTACKS) results.push(await measure(kind));
  } finally {
    isOver = true;
  }
  return results;
}

try {
  const attacks = attackAll();
  const training = trainHere(
    { model: 'lenet', batchSize: BATCH, epochs: EPOCHS, workers: 2, listen: `0.0.0.0:${port}` },
    { stepped: () => steps++ },
    () => isOver,
    { stateDir },
  );
  const [results, summary] = await Promise.all([attacks, training]);
  const lines = results.map(({ kind, calm, attacked, cost, outcomes }) => {
    const came = Object.entries(outcomes).map(([outcome, count]) => `${count} x ${outcome}`);
    const attempts = Object.values(outcomes).reduce((sum, count) => sum + count, 0);
    const perSecond = Math.round((attempts * 1_000) / (ROUNDS * WINDOW_MS));
    return `| ${kind} | ${RATES[kind] ?? RATE} | ${perSecond} | ${came.join(', ')} | ${Math.round(calm)} | ${Math.round(attacked)} | ${(100 * cost).toFixed(1)} % |`;
  });
  const page = `# What attacks cost a training

${circumstances(summary.workers[0]?.tensorflow ?? '?')}
- \`lenet\`, batch ${BATCH}, two local workers of one slot, TLS and tokens on all addresses. The attacker is another process of this machine that
  computes only when nobody else wants to (SCHED_IDLE): its own computing is not what is asked for. It still costs something: see the connections to itself. ${ROUNDS} rounds of ${WINDOW_MS / 1_000} s calm and ${WINDOW_MS / 1_000} s of attack; the cost is the median over the pairs.
- Status codes as in docs/security.md; 4400: closed for a bad frame; left: the attacker went; held open: until the door cuts it.

| attack | attempts a second, asked for | answered | what came of them | images/s calm | attacked | cost |
|---|---:|---:|---|---:|---:|---:|
${lines.join('\n')}

Workers lost: ${summary.elasticity.workersLost}; retries: ${summary.retries}.
`;
  if (only === undefined) publish('attacks', page);
  else process.stdout.write(page);
  if (results.some(({ cost }) => cost > MOST_COST)) process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exit();
