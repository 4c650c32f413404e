/**
 * `npm run chaos -- --seed N --minutes M`: real processes under real faults. A coordinator and its workers are killed,
 * stopped and cut off while they train; the weights must be those of an undisturbed run, to the bit.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';
import { Command, Option } from 'commander';
import { Summary } from '../../shared/summary.js';
import { Chance } from '../simulation/world.js';
import { integer } from '../support/integer.js';
import { atelier, endAll, exitOf, WorkerPlace } from './processes.js';
import { Proxy } from './proxy.js';

const CHECKPOINT_STEPS = 50;
/** Seconds between two faults: 40 and more in five minutes. */
const PAUSE_S = [2, 6] as const;
/** The least faults a minute for a run to count. */
const FAULTS_A_MINUTE = 8;
/** Beyond the heartbeat time-out of 15 s. */
const LONG_STOP_S = [16, 24] as const;
/** Between two deaths of the coordinator. */
const COORDINATOR_REST_S = 40;
const MAX_GUESTS = 2;
/** Of the undisturbed speed, what is left under faults: decides the epochs. */
const DISTURBED_SPEED = 0.5;

const flags = new Command('chaos')
  .description(
    'Trains with real processes under real faults; the weights have to be those of an undisturbed run.',
  )
  .addOption(new Option('--seed <n>', 'of the faults').argParser(integer).default(1))
  .addOption(new Option('--minutes <n>', 'how long').argParser(integer).default(5))
  .option('--model <name>', 'what is trained', 'lenet')
  .addOption(new Option('--workers <n>', 'that are there all the time').argParser(integer).default(4))
  .addOption(new Option('--epochs <n>', 'instead of as many as take that long').argParser(integer))
  .addOption(new Option('--folds <n>', 'trains so many folds').argParser(integer))
  .option('--reference <sha256>', 'of the undisturbed run, which is then not trained')
  .option('--keep', 'leaves the run directories', false)
  .parse()
  .opts<{
    seed: number;
    minutes: number;
    model: string;
    workers: number;
    epochs?: number;
    folds?: number;
    reference?: string;
    keep: boolean;
  }>();
const { seed, minutes, workers } = flags;
const chance = new Chance(seed);
const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const scratch = mkdtempSync(join(tmpdir(), 'atelier-chaos-'));
const log = join(scratch, 'log');
const runFolder = join(scratch, 'run');

interface Event {
  readonly time: string;
  readonly type: string;
  readonly roundsDone?: readonly number[];
}

function events(): Event[] {
  const path = join(runFolder, 'events.jsonl');
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => JSON.parse(line) as Event);
}

const readSummary = (folder: string): Summary =>
  Summary.parse(JSON.parse(readFileSync(join(folder, 'summary.json'), 'utf8')));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const training = (epochs: number): string[] =>
  ['--model', flags.model, '--epochs', String(epochs), '--seed', String(seed), '--quiet'].concat([
    ...['--checkpoint-steps', String(CHECKPOINT_STEPS)],
    ...(flags.folds === undefined ? [] : ['--folds', String(flags.folds)]),
  ]);

/** A run that nobody disturbs, on as many local workers. */
async function undisturbed(epochs: number, name: string): Promise<Summary> {
  const folder = join(scratch, name);
  const cluster = ['--workers', String(workers), '--slots', '1', '--run-dir', folder];
  const exit = await exitOf(atelier(['train', ...training(epochs), ...cluster], log));
  if (exit !== 0) throw new Error(`the undisturbed run ended with ${exit}: see ${log}`);
  return readSummary(folder);
}

/** Epochs that take about the time that was asked for. */
async function chooseEpochs(): Promise<number> {
  if (flags.epochs !== undefined) return flags.epochs;
  const { trials } = await undisturbed(2, 'calibration');
  const seconds = trials[0]?.epochs.at(-1)?.seconds ?? 1;
  return Math.max(2, Math.round((minutes * 60 * DISTURBED_SPEED) / seconds));
}

interface Disturbed {
  readonly summary: Summary;
  readonly seconds: number;
  readonly faults: ReadonlyMap<string, number>;
  /** Steps that were done since the last checkpoint when the coordinator was killed, from the speed before. */
  readonly recomputed: number;
  readonly oddExits: readonly number[];
}

/** The run under faults. */
async function disturbed(epochs: number): Promise<Disturbed> {
  const port = await freePort();
  const proxy = await Proxy.start(port);
  const url = `ws://127.0.0.1:${proxy.port}`;
  const listen = ['--workers', '0', '--listen', `127.0.0.1:${port}`];
  const places = Array.from({ length: workers }, (_, i) => new WorkerPlace(`worker-${i}`, url, log));
  const guests: WorkerPlace[] = [];
  const startedAt = performance.now();
  const seconds = (): number => (performance.now() - startedAt) / 1000;
  const fresh = ['train', ...training(epochs), ...listen, '--min-workers', '1', '--run-dir', runFolder];
  let coordinator = atelier(fresh, log);
  let ended = exitOf(coordinator);
  let coordinatorSince = 0;
  let recomputed = 0;
  const faults = new Map<string, number>();

  /** Seconds of the first step: faults come from then on. */
  let trainingSince: number | undefined;
  const maySuffer = (): boolean => {
    if (trainingSince === undefined && events().some(({ type }) => type === 'first-step'))
      trainingSince = seconds();
    return trainingSince !== undefined && seconds() < trainingSince + minutes * 60;
  };
  const held = (): WorkerPlace[] =>
    [...places, ...guests].filter(({ isHeld, isStopped }) => isHeld && !isStopped);
  const onWorker = (action: (place: WorkerPlace) => void): boolean => {
    const candidates = held();
    if (candidates.length === 0) return false;
    action(chance.pick(candidates));
    return true;
  };

  const killCoordinator = async (): Promise<boolean> => {
    // It dies while it trains, not while it starts.
    const resumes = events().filter(({ type }) => type === 'resumed').length;
    if (
      resumes < (faults.get('coordinator killed') ?? 0) ||
      seconds() - coordinatorSince < COORDINATOR_REST_S
    ) {
      return false;
    }
    coordinator.kill('SIGKILL');
    const killedAt = Date.now();
    await ended;
    recomputed += stepsSinceCheckpoint(killedAt);
    await wait(chance.between(200, 3_000));
    coordinatorSince = seconds();
    coordinator = atelier(['train', '--resume', runFolder, ...listen, '--quiet'], log);
    ended = exitOf(coordinator);
    return true;
  };

  const inject: Readonly<Record<string, () => boolean | Promise<boolean>>> = {
    'worker killed': () => onWorker((place) => place.signal('SIGKILL')),
    'worker stopped briefly': () => onWorker((place) => place.pause(chance.between(200, 3_000))),
    'worker stopped for long': () =>
      onWorker((place) => place.pause(1000 * chance.between(LONG_STOP_S[0], LONG_STOP_S[1]))),
    'connection cut': () => proxy.cut(chance),
    'connection silent': () => proxy.silence(chance),
    'worker joined': () => {
      if (guests.filter(({ isHeld }) => isHeld).length >= MAX_GUESTS) return false;
      guests.push(new WorkerPlace(`guest-${guests.length}`, url, log, true));
      return true;
    },
    'worker drained': () => onWorker((place) => place.signal('SIGTERM')),
    'coordinator killed': killCoordinator,
  };

  try {
    const limit = minutes * 60 * 4 + 300;
    for (;;) {
      const pause = wait(1000 * chance.between(PAUSE_S[0], PAUSE_S[1]), null);
      const exit = await Promise.race([ended, pause]);
      if (exit === 0) break;
      if (exit !== null) throw new Error(`the coordinator ended with ${exit}: see ${log}`);
      if (seconds() > limit) throw new Error(`the run is not over after ${Math.round(limit)} s: see ${log}`);
      if (!maySuffer()) continue;
      // One that cannot be done now is replaced by another.
      for (let tries = 0; tries < 20; tries++) {
        const name = chance.pick(Object.keys(inject));
        if ((await inject[name]?.()) !== true) continue;
        faults.set(name, (faults.get(name) ?? 0) + 1);
        say(`${seconds().toFixed(1)} s: ${name}`);
        break;
      }
    }
    const oddExits = [...places, ...guests].flatMap((place) => place.oddExits);
    return { summary: readSummary(runFolder), seconds: seconds(), faults, recomputed, oddExits };
  } finally {
    for (const place of [...places, ...guests]) place.close();
    coordinator.kill('SIGKILL');
    proxy.close();
  }
}

/** Time since the last checkpoint over the time of a step between the last two: what the kill has cost, about. */
function stepsSinceCheckpoint(killedAt: number): number {
  const [before, last] = events()
    .filter(({ type }) => type === 'checkpoint')
    .slice(-2)
    .map(({ time }) => Date.parse(time));
  if (before === undefined || last === undefined) return 0;
  return Math.min(CHECKPOINT_STEPS, (CHECKPOINT_STEPS * (killedAt - last)) / Math.max(1, last - before));
}

/** What is wrong with the disturbed run. */
function verdict({ summary, faults }: Disturbed, hash: string, epochs: number): string[] {
  const wrong: string[] = [];
  if (summary.status !== 'done') wrong.push(`it is ${summary.status}`);
  if (summary.weightsSha256 !== hash) wrong.push(`its weights are ${summary.weightsSha256}, not ${hash}`);
  for (const { ledger, epochs: records } of summary.trials) {
    const rows = ledger.shards.reduce((sum, shard) => sum + shard.rows, 0);
    if (ledger.epochs !== epochs) wrong.push(`its ledger has ${ledger.epochs} epochs, not ${epochs}`);
    if (rows !== ledger.rowsPerEpoch) wrong.push(`its shards have ${rows} rows, not ${ledger.rowsPerEpoch}`);
    if (records.length !== epochs || records.some((record) => record.rows !== ledger.rowsPerEpoch)) {
      wrong.push('an epoch did not use every row once');
    }
  }
  const count = [...faults.values()].reduce((sum, times) => sum + times, 0);
  const wanted = Math.floor(FAULTS_A_MINUTE * minutes);
  if (count < wanted) wrong.push(`only ${count} faults, not ${wanted}: give it more --epochs`);
  return wrong;
}

async function chaos(): Promise<boolean> {
  const epochs = await chooseEpochs();
  say(
    `seed ${seed}: ${flags.model}, ${flags.folds ?? 'no'} folds, ${epochs} epochs, ${workers} workers, about ${minutes} minutes`,
  );
  const quiet = flags.reference === undefined ? await undisturbed(epochs, 'undisturbed') : null;
  const hash = quiet?.weightsSha256 ?? flags.reference ?? '';
  say(`undisturbed: ${hash}${quiet === null ? '' : `, ${quiet.durationSeconds.toFixed(0)} s`}`);
  const result = await disturbed(epochs);
  const { summary, seconds, faults, recomputed, oddExits } = result;
  const { elasticity, retries } = summary;
  const count = [...faults.values()].reduce((sum, times) => sum + times, 0);
  const lost =
    quiet === null
      ? 'unknown without an undisturbed run'
      : `${(seconds - quiet.durationSeconds).toFixed(0)} s`;
  const left = events().filter(({ type }) => type === 'worker-left').length;
  say(`disturbed:   ${summary.weightsSha256}, ${seconds.toFixed(0)} s
${count} faults: ${[...faults].map(([name, times]) => `${name} ${times}`).join(', ')}
coordinator resumed ${elasticity.resumes} times; workers left ${left} times; odd exits of workers: ${oddExits.join(', ') || 'none'}
since the last resumption: retries ${retries}, speculated ${elasticity.speculated}, late ${elasticity.late}, reconnects ${elasticity.reconnects}
steps recomputed after kills of the coordinator: about ${recomputed.toFixed(0)}; time lost: ${lost}`);
  const wrong = verdict(result, hash, epochs);
  say(wrong.length === 0 ? 'PASS' : `FAIL: ${wrong.join('; ')}`);
  return wrong.length === 0;
}

let passed = false;
process.once('SIGINT', () => {
  endAll();
  process.exit(130);
});
try {
  passed = await chaos();
} catch (error) {
  say(`FAIL: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  endAll();
}
if (passed && !flags.keep) rmSync(scratch, { recursive: true, force: true });
else say(`Files: ${scratch}`);
process.exit(passed ? 0 : 1);
