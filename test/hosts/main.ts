/**
 * `npm run hosts`: four hosts with addresses of their own (network namespaces on a bridge): a coordinator and three
 * workers that have no data. They are given the very command lines of docs/cluster.md, so over TLS and with a token. The
 * cable of one worker is pulled in mid-epoch and plugged in again. The weights must be those of an undisturbed run on
 * this machine. Needs root and iproute2.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT_ROOT } from '../../shared/version.js';
import { Host, Switch } from './host.js';
import { pageCommands } from './page-commands.js';

const CASES: Readonly<Record<string, string>> = {
  cnn: '--model cnn --epochs 4',
  folds: '--model lenet --epochs 3 --folds 5',
};
const WORKERS = 3;
const PATIENCE_MS = 20 * 60_000;
const POLL_MS = 200;
const ATTEMPTS = 10;

const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const page = pageCommands();
const folder = mkdtempSync(join(tmpdir(), 'atelier-hosts-'));

interface Outcome {
  readonly weightsSha256: string;
  readonly seconds: number;
}

function outcomeOf(run: string): Outcome {
  const summary = JSON.parse(readFileSync(join(run, 'summary.json'), 'utf8')) as {
    weightsSha256: string;
    durationSeconds: number;
  };
  return { weightsSha256: summary.weightsSha256, seconds: summary.durationSeconds };
}

function eventsOf(run: string): { type: string; name?: string; resumed?: boolean }[] {
  const file = join(run, 'events.jsonl');
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as { type: string; name?: string; resumed?: boolean });
}

/** Waits until something is so, and fails when it never is. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  const end = Date.now() + PATIENCE_MS;
  while (!isSo()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await sleep(POLL_MS);
  }
}

function undisturbed(name: string, training: string): Outcome {
  const run = join(folder, `${name}-undisturbed`);
  const args = [
    'train',
    ...training.split(' '),
    '--workers',
    '2',
    '--slots',
    '1',
    '--quiet',
    '--run-dir',
    run,
  ];
  execFileSync(process.execPath, [join(PROJECT_ROOT, 'dist', 'cli', 'main.js'), ...args], {
    stdio: 'inherit',
  });
  return outcomeOf(run);
}

async function onFourHosts(name: string, training: string): Promise<Outcome> {
  const run = join(folder, `${name}-hosts`);
  const network = new Switch();
  const net = page.address.replace(/\d+$/, '');
  const at = { folder: join(folder, name) };
  const coordinator = new Host(network, { ...at, name: 'c', address: page.address, hasData: true });
  const workers = Array.from({ length: WORKERS }, (_, i) => i + 1).map(
    (i) => new Host(network, { ...at, name: `w${i}`, address: `${net}${100 + i}`, hasData: false }),
  );
  try {
    let trained: Promise<number> | undefined;
    for (const line of page.coordinator) {
      if (line.startsWith('atelier train ')) {
        // The page's door; what is trained in it, and where results go, is the case's.
        const door = line.replace(/--model \S+/, training);
        trained = coordinator.run(`${door} --min-workers ${WORKERS} --quiet --run-dir ${run}`, 'train');
      } else await mustWork(coordinator, line);
    }
    await until('the coordinator is there', () => existsSync(join(run, 'manifest.json')));
    for (const worker of workers) {
      copyFileSync(join(coordinator.folder, 'token'), join(worker.folder, 'token'));
      for (const line of page.worker) {
        if (line.startsWith('atelier worker ')) void worker.run(`${line} --slots 1`, 'worker');
        else if (line.startsWith('atelier doctor ')) await patiently(worker, line);
        else await mustWork(worker, line);
      }
    }
    const has = (type: string, more: (event: { resumed?: boolean }) => boolean = () => true): boolean =>
      eventsOf(run).some((event) => event.type === type && more(event));
    await until('the first step is done', () => has('first-step') || has('ended'));
    workers[0]?.link('down');
    say(`${name}: the cable of one worker is out`);
    await until('its loss is noticed', () => has('worker-left') || has('ended'));
    const noticed = has('worker-left') && !has('ended');
    workers[0]?.link('up');
    await until('it is back', () => has('worker-joined', ({ resumed }) => resumed === true) || has('ended'));
    const isBack = has('worker-joined', ({ resumed }) => resumed === true);
    say(
      `${name}: its loss was ${noticed ? '' : 'not '}noticed, it did ${isBack ? '' : 'not '}come back before the end`,
    );
    const code = await trained;
    if (code !== 0) throw new Error(`train ended with ${code ?? '?'}: see ${coordinator.folder}/train.log`);
    return outcomeOf(run);
  } finally {
    for (const host of [coordinator, ...workers]) await host.close();
    network.close();
  }
}

/** The coordinator may not be at its door yet. */
async function patiently(host: Host, line: string): Promise<void> {
  for (let attempt = 1; (await host.run(line, 'doctor')) !== 0; attempt++) {
    if (attempt === ATTEMPTS) throw new Error(`"${line}" fails: see ${host.folder}/doctor.log`);
  }
}

async function mustWork(host: Host, line: string): Promise<void> {
  const code = await host.run(line, 'commands');
  const said = (): string => readFileSync(join(host.folder, 'commands.log'), 'utf8');
  if (code !== 0) throw new Error(`"${line}" ended with ${code}:\n${said()}`);
}

if (process.getuid?.() !== 0 || spawnSync('ip', ['netns', 'list']).status !== 0) {
  say('skipped: network namespaces need root and iproute2');
} else {
  const asked = process.argv.slice(2);
  let isExact = true;
  for (const [name, training] of Object.entries(CASES)) {
    if (asked.length > 0 && !asked.includes(name)) continue;
    const hosts = await onFourHosts(name, training);
    const alone = undisturbed(name, training);
    const same = hosts.weightsSha256 === alone.weightsSha256;
    isExact &&= same;
    say(`${name}: four hosts ${hosts.weightsSha256} in ${hosts.seconds} s`);
    say(
      `${name}: one alone  ${alone.weightsSha256} in ${alone.seconds} s: ${same ? 'the same' : 'NOT the same'}`,
    );
  }
  if (isExact) rmSync(folder, { recursive: true });
  else say(`what there is lies in ${folder}`);
  process.exitCode = isExact ? 0 : 1;
}
