import { mkdirSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { HEARTBEAT_TIMEOUT_MS } from '../../shared/protocol/limits.js';
import { Atelier, isAlive } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
beforeAll(() => {
  writeSmallFashionMnist(data, 600, 250);
});

/** Training without end, on two workers. */
const train = (run: string): Atelier =>
  new Atelier([
    ...['train', '--model', 'lenet', '--dataset', data, '--validation-rows', '100'],
    ...['--workers', '2', '--epochs', '100000', '--run-dir', join(folder, run)],
  ]);

describe('a run that is told to stop', () => {
  test.each(['SIGINT', 'SIGTERM'] as const)('by %s ends with 4, and so do its workers', async (signal) => {
    const atelier = train(signal);
    await atelier.says(/^Epoch 1\//m);
    const workers = atelier.workers();
    expect(workers).toHaveLength(2);
    atelier.child.kill(signal);
    const { code, stderr } = await atelier.exit;
    expect(code).toBe(4);
    expect(stderr).toContain(`atelier train --resume ${join(folder, signal)}`);
    expect(readdirSync(join(folder, signal, 'checkpoints'))).not.toEqual([]);
    expect(workers.filter(isAlive)).toEqual([]);
    const { status, reason } = readSummary(join(folder, signal));
    expect({ status, reason }).toEqual({ status: 'stopped', reason: 'stopped on request' });
  });
});

describe('workers of a coordinator that is killed', () => {
  test('end with it', async () => {
    const atelier = train('orphans');
    await atelier.says(/^Epoch 1\//m);
    const workers = atelier.workers();
    expect(workers).toHaveLength(2);
    atelier.child.kill('SIGKILL');
    await atelier.exit;
    await expect.poll(() => workers.filter(isAlive), { timeout: HEARTBEAT_TIMEOUT_MS }).toEqual([]);
  });
});

describe('a worker', () => {
  const worker = (url: string, env: Record<string, string> = {}): Atelier => {
    const empty = join(folder, 'empty');
    mkdirSync(empty, { recursive: true });
    return new Atelier(['worker', '--join', url, '--slots', '1', '--data-dir', empty], env);
  };

  test('that is pointed at a web server ends with 2', async () => {
    const server = createServer((_request, response) => response.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      server.close();
    });
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { code, stderr } = await worker(url).exit;
    expect(code).toBe(2);
    expect(stderr).toContain(`${url} is not an Atelier coordinator`);
  });

  test('without the token of its coordinator ends with 5, with it is let in', async () => {
    const token = 'correct-horse-battery-staple';
    const flags = ['--model', 'lenet', '--dataset', data, '--validation-rows', '100', '--workers', '0'];
    const run = ['--min-workers', '2', '--run-dir', join(folder, 'token')];
    const coordinator = new Atelier(['train', ...flags, ...run], { ATELIER_TOKEN: token });
    const [, url = ''] = await coordinator.says(/Coordinator at (ws:\S+)/);
    const { code, stderr } = await worker(url).exit;
    expect(code).toBe(5);
    expect(stderr).toContain('token');
    await worker(url, { ATELIER_TOKEN: token }).says(/Joined/);
  });

  test('that is asked to leave while it waits for a coordinator ends with 0', async () => {
    const atelier = worker('ws://127.0.0.1:1');
    await atelier.says(/Trying again/);
    atelier.child.kill('SIGTERM');
    expect(await atelier.exit).toMatchObject({ code: 0 });
  });
});
