import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { RunState } from '../../shared/api.js';
import { Atelier, type Exit } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readLines, readSummary } from '../support/run-files.js';
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
const RUNS = ['1', '2', '3'].map((seed) => ['--seed', seed, '--epochs', '15', '--checkpoint-steps', '5']);

const ended = async (atelier: Atelier): Promise<Exit> => {
  const exit = await atelier.exit;
  expect(exit).toMatchObject({ code: 0 });
  return exit;
};

interface Service {
  readonly atelier: Atelier;
  readonly url: string;
  state(run: string): Promise<RunState>;
}

async function serve(listen: string, ...args: string[]): Promise<Service> {
  const atelier = new Atelier(['coordinator', '--listen', listen, '--runs', runs, ...args]);
  const [, url = ''] = await atelier.says(/Coordinator at (ws:\S+),/);
  const state = async (run: string): Promise<RunState> => {
    const response = await fetch(`${url.replace('ws:', 'http:')}/api/v1/runs/${run}`);
    return RunState.parse(await response.json());
  };
  return { atelier, url, state };
}

const events = (run: string, type: string): number =>
  readLines(join(runs, run), 'events.jsonl').filter((line) => line['type'] === type).length;

describe('a coordinator with one run in work and two in its queue', () => {
  test('killed, stopped and started again, ends all three as "atelier train" does', async () => {
    const first = await serve('127.0.0.1:0', '--concurrent-runs', '1');
    const { host: listen } = new URL(first.url);
    const env = { ATELIER_COORDINATOR: first.url };
    const submitted = await Promise.all(
      RUNS.map((settings) => ended(new Atelier(['submit', ...TRAINING, ...settings, '--json'], env))),
    );
    const names = submitted.map(({ stdout }) => (JSON.parse(stdout) as { name: string }).name);
    const other = await new Atelier(['coordinator', '--listen', '127.0.0.1:0', '--runs', runs]).exit;
    expect(other).toMatchObject({ code: 2 });
    expect(other.stderr).toContain('is in use by process');
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
    await expect.poll(() => byStatus('running'), { timeout: 60_000, interval: 20 }).toHaveLength(1);
    const [begun = ''] = await byStatus('running');
    expect(await byStatus('queued')).toHaveLength(2);
    first.atelier.child.kill('SIGKILL');
    await first.atelier.exit;

    const second = await serve(listen, '--concurrent-runs', '2');
    const goesOn = async (): Promise<boolean> => (await second.state(begun)).imagesPerSecond > 0;
    await expect.poll(goesOn, { timeout: 60_000 }).toBe(true);
    second.atelier.child.kill('SIGTERM');
    expect(await second.atelier.exit).toMatchObject({ code: 4 });
    expect(readdirSync(join(runs, begun))).not.toContain('summary.json');

    const third = await serve(listen);
    const { stdout } = await ended(new Atelier(['logs', begun, '-f'], env));
    expect(stdout).toMatch(/ended status=done/);
    const status = (name: string): Promise<string> => third.state(name).then((state) => state.status);
    for (const name of names) await expect.poll(() => status(name), { timeout: 60_000 }).toBe('done');
    const table = await ended(new Atelier(['status'], env));
    for (const name of names) expect(table.stdout).toMatch(new RegExp(`${name} .*done .*100 %`));
    expect(events(begun, 'resumed')).toBe(2);

    // The same worker, all the time.
    expect(worker.child.exitCode).toBeNull();
    third.atelier.child.kill('SIGTERM');
    expect(await third.atelier.exit).toMatchObject({ code: 0 });
    for (const [i, name] of names.entries()) {
      const alone = join(folder, `alone-${i}`);
      await ended(
        new Atelier(['train', ...TRAINING, ...(RUNS[i] ?? []), '--workers', '1', '--run-dir', alone]),
      );
      const { status, weightsSha256 } = readSummary(join(runs, name));
      expect({ status, weightsSha256 }).toEqual({
        status: 'done',
        weightsSha256: readSummary(alone).weightsSha256,
      });
    }
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
