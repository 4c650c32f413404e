import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { RunState } from '../../shared/api.js';
import { Atelier, type Exit } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readJson, readLines, readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const nothing = join(folder, 'nothing');
const runs = join(folder, 'runs');
beforeAll(() => {
  writeSmallFashionMnist(data, 2_000, 250);
  mkdirSync(nothing);
});

const TRAINING = ['--model', 'lenet', '--dataset', data, '--validation-rows', '200', '--batch-size', '64'];
const EPOCHS = 15;
/** The seeds of the runs; the second and the third are to end in the same weights. */
const SEEDS = [1, 2, 2];
const settingsOf = (seed: number): string[] => [
  ...[...TRAINING, '--epochs', String(EPOCHS), '--checkpoint-steps', '20', '--seed', String(seed)],
];

const ended = async (atelier: Atelier): Promise<Exit> => {
  const exit = await atelier.exit;
  expect(exit).toMatchObject({ code: 0 });
  return exit;
};

/** The weights that `atelier train` gives. */
async function alone(seed: number): Promise<string> {
  const path = join(folder, `alone-${seed}`);
  await ended(new Atelier(['train', ...settingsOf(seed), '--workers', '1', '--run-dir', path]));
  return readSummary(path).weightsSha256;
}

interface Service {
  readonly atelier: Atelier;
  readonly url: string;
  state(run: string): Promise<RunState>;
  submit(config: object): Promise<string>;
}

async function serve(listen: string, ...args: string[]): Promise<Service> {
  const atelier = new Atelier(['coordinator', '--listen', listen, '--runs', runs, ...args]);
  const [, url = ''] = await atelier.says(/Coordinator at (ws:\S+),/);
  const state = async (run: string): Promise<RunState> => {
    const response = await fetch(`${url.replace('ws:', 'http:')}/api/v1/runs/${run}`);
    return RunState.parse(await response.json());
  };
  const submit = async (config: object): Promise<string> => {
    const response = await fetch(`${url.replace('ws:', 'http:')}/api/v1/runs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ config }),
    });
    return ((await response.json()) as { name: string }).name;
  };
  return { atelier, url, state, submit };
}

const events = (run: string, type: string): number =>
  readLines(join(runs, run), 'events.jsonl').filter((line) => line['type'] === type).length;

describe('a coordinator with one run in work and two in its queue', () => {
  test('killed, stopped and started again, ends all three as "atelier train" does', async () => {
    const first = await serve('127.0.0.1:0', '--concurrent-runs', '1');
    const { host: listen } = new URL(first.url);
    const env = { ATELIER_COORDINATOR: first.url };
    const { stdout: said } = await ended(new Atelier(['submit', ...settingsOf(1), '--json'], env));
    const names = [(JSON.parse(said) as { name: string }).name];
    const config = readJson(runs, names[0] ?? '', 'config.json') as object;
    for (const seed of SEEDS.slice(1)) names.push(await first.submit({ ...config, seed }));
    // It has no data: rows come over the wire, for two runs at once.
    const worker = new Atelier(['worker', '--join', first.url, '--slots', '2', '--data-dir', nothing]);
    const byStatus = async (status: string): Promise<string[]> => {
      const states = await Promise.all(names.map((name) => first.state(name)));
      return states
        .filter(
          (state) => state.status === status && (status === 'queued' || (state.trials[0]?.epoch ?? 0) > 1),
        )
        .map(({ name }) => name);
    };
    await expect.poll(() => byStatus('running'), { timeout: 120_000, interval: 20 }).toHaveLength(1);
    const [begun = ''] = await byStatus('running');
    expect(await byStatus('queued')).toHaveLength(2);
    first.atelier.child.kill('SIGKILL');
    await first.atelier.exit;

    const second = await serve(listen, '--concurrent-runs', '2');
    const goesOn = async (): Promise<boolean> => (await second.state(begun)).imagesPerSecond > 0;
    await expect.poll(goesOn, { timeout: 120_000 }).toBe(true);
    second.atelier.child.kill('SIGTERM');
    expect(await second.atelier.exit).toMatchObject({ code: 4 });
    expect(readdirSync(join(runs, begun))).not.toContain('summary.json');

    // This one starts a worker of its own.
    const third = await serve(listen, '--workers', '1', '--slots', '1');
    const { stdout } = await ended(new Atelier(['logs', begun, '-f'], env));
    expect(stdout).toMatch(/ended status=done/);
    const status = (name: string): Promise<string> => third.state(name).then((state) => state.status);
    for (const name of names) await expect.poll(() => status(name), { timeout: 120_000 }).toBe('done');
    const table = await ended(new Atelier(['status'], env));
    for (const name of names) expect(table.stdout).toMatch(new RegExp(`${name} .*done .*100 %`));
    expect(events(begun, 'resumed')).toBe(2);
    const joined = names
      .flatMap((name) => readLines(join(runs, name), 'events.jsonl'))
      .map(({ name }) => name);
    expect(joined).toContain('local-0');

    // The same worker, all the time.
    expect(worker.child.exitCode).toBeNull();
    third.atelier.child.kill('SIGTERM');
    expect(await third.atelier.exit).toMatchObject({ code: 0 });
    const [one, two] = await Promise.all([alone(1), alone(2)]);
    const results = names.map((name) => readSummary(join(runs, name)));
    expect(results.map((summary) => summary.status)).toEqual(['done', 'done', 'done']);
    expect(results.map(({ weightsSha256 }) => weightsSha256)).toEqual([one, two, two]);
  });
});

describe('the client of a coordinator', () => {
  test('says what to do when nobody answers, and refuses names that would leave the folder', async () => {
    const env = { ATELIER_COORDINATOR: 'ws://127.0.0.1:1' };
    const nobody = await new Atelier(['status'], env).exit;
    expect(nobody.code).toBe(3);
    expect(nobody.stderr).toContain('Is "atelier coordinator" running there?');
    const { code, stderr } = await new Atelier(['cancel', '../elsewhere'], env).exit;
    expect(code).toBe(2);
    expect(stderr).toContain('"atelier status" lists them');
  });
});
