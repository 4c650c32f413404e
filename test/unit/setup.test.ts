import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { readVerified } from '../../setup/dataset.js';
import { withLock, type LockTimes } from '../../setup/lock.js';
import { Attempts, type SetupTools } from '../../setup/tools.js';

const TIMES: LockTimes = { waitMs: 5_000, pollMs: 5, refreshMs: 1_000, staleMs: 60_000 };

let said: string[];
let tools: SetupTools;
beforeEach(() => {
  said = [];
  tools = {
    onExit: () => () => undefined,
    step: (_title, action) => action(() => undefined),
    say: (text) => said.push(text),
    run: () => Promise.reject(new Error('nothing is run here')),
  };
});

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-setup-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The number of a process that has ended. */
function deadPid(): number {
  return spawnSync(process.execPath, ['-e', '']).pid;
}

describe('the set-up lock', () => {
  test('lets one action run at a time, and the next when it is done', async () => {
    const lock = join(temporaryFolder(), 'lock');
    const order: string[] = [];
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const first = withLock(lock, tools, () => held.then(() => void order.push('first')), TIMES);
    const second = withLock(lock, tools, () => Promise.resolve(void order.push('second')), TIMES);
    release();
    await Promise.all([first, second]);
    expect(order).toEqual(['first', 'second']);
    expect(said.join()).toContain(`process ${process.pid}`);
    expect(existsSync(lock)).toBe(false);
  });

  test('is given back when the action fails', async () => {
    const lock = join(temporaryFolder(), 'lock');
    await expect(withLock(lock, tools, () => Promise.reject(new Error('broken')), TIMES)).rejects.toThrow(
      'broken',
    );
    expect(existsSync(lock)).toBe(false);
  });

  test('is taken from an owner whose process is gone', async () => {
    const folder = temporaryFolder();
    const lock = join(folder, 'lock');
    writeFileSync(lock, JSON.stringify({ pid: deadPid(), host: hostname() }));
    const owner = await withLock(lock, tools, () => Promise.resolve(readFileSync(lock, 'utf8')), TIMES);
    expect(JSON.parse(owner)).toEqual({ pid: process.pid, host: hostname() });
    expect(readdirSync(folder)).toEqual([]);
  });

  test('is taken from an owner on another host that gave no sign of life for long', async () => {
    const lock = join(temporaryFolder(), 'lock');
    writeFileSync(lock, JSON.stringify({ pid: 1, host: 'elsewhere' }));
    const longAgo = new Date(Date.now() - 2 * TIMES.staleMs);
    utimesSync(lock, longAgo, longAgo);
    expect(await withLock(lock, tools, () => Promise.resolve('ran'), TIMES)).toBe('ran');
  });

  test('is not waited for without end: the error names the holder', async () => {
    const lock = join(temporaryFolder(), 'lock');
    writeFileSync(lock, JSON.stringify({ pid: 4711, host: 'elsewhere' }));
    const waiting = withLock(lock, tools, () => Promise.resolve(), { ...TIMES, waitMs: 20 });
    await expect(waiting).rejects.toThrow(/process 4711 on elsewhere/);
    expect(existsSync(lock)).toBe(true);
  });
});

describe('dataset files', () => {
  test('that are missing are named', () => {
    expect(() => readVerified(temporaryFolder())).toThrow(/train-images-idx3-ubyte is missing/);
  });

  test.each([
    ['plain', 'train-images-idx3-ubyte', Buffer.from('altered')],
    ['gzipped', 'train-images-idx3-ubyte.gz', gzipSync('altered')],
  ])('that were altered are refused with both SHA-256 (%s)', (_how, name, contents) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, name), contents);
    expect(() => readVerified(folder)).toThrow(/SHA-256 [0-9a-f]{64}, not 47040016 with c59f468a/);
  });

  test('that are damaged archives are refused', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'train-images-idx3-ubyte.gz'), gzipSync('cut off').subarray(0, 12));
    expect(() => readVerified(folder)).toThrow(/cannot read .*train-images-idx3-ubyte.gz/);
  });
});

describe('a failed set-up', () => {
  test('says what was tried, what each try answered, and what to do', () => {
    const attempts = new Attempts();
    attempts.failed('the first way', 'line 1\nline 2');
    attempts.failed('the second way', 'no route');
    const { message, exitCode } = attempts.error('data', 'it is not to be had', 'fetch it by hand.');
    expect(exitCode).toBe(2);
    expect(message).toBe(
      'it is not to be had. Tried:\n- the first way:\n    line 1\n    line 2\n- the second way:\n    no route\n' +
        'What you can do: fetch it by hand.',
    );
  });
});
