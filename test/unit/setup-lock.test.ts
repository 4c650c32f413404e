import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
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
import type { Readable, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { PROJECT_ROOT } from '../../shared/version.js';

const LOCK_MODULE = pathToFileURL(join(PROJECT_ROOT, 'setup', 'lock.mjs')).href;
const STALE_MS = 60_000;
const TIMES = { waitMs: 5_000, pollMs: 5, refreshMs: 1_000, staleMs: STALE_MS };

/** Plain JavaScript, because it works before anything is built. */
const { withLock } = (await import(LOCK_MODULE)) as {
  withLock: <Result>(
    path: string,
    action: () => Promise<Result>,
    times?: Partial<typeof TIMES>,
  ) => Promise<Result>;
};

function lockPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-lock-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'lock');
}

/** The number of a process that has ended. */
const deadPid = (): number => spawnSync(process.execPath, ['-e', '']).pid;

interface Contender {
  readonly process: ChildProcessByStdio<Writable, Readable, Readable>;
  /** Ends when it has printed `text`. */
  says(text: string): Promise<void>;
}

/** A process that takes the lock, says `has it`, and gives it back when its input ends. */
function contender(path: string): Contender {
  const script = `
    import { handleSignals } from ${JSON.stringify(LOCK_MODULE.replace('lock.mjs', 'tools.mjs'))};
    import { withLock } from ${JSON.stringify(LOCK_MODULE)};
    handleSignals();
    await withLock(${JSON.stringify(path)}, async () => {
      process.stderr.write('has it');
      for await (const _ of process.stdin);
    }, ${JSON.stringify(TIMES)});`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' });
  onTestFinished(() => void child.kill('SIGKILL'));
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  return {
    process: child,
    async says(text) {
      while (!said.includes(text)) await once(child.stderr, 'data');
    },
  };
}

describe('the set-up lock', () => {
  test('lets one process in at a time, the next when it is done', async () => {
    const path = lockPath();
    const first = contender(path);
    await first.says('has it');
    const second = contender(path);
    await second.says(
      `Waiting for another set-up to finish (process ${first.process.pid ?? 0} on ${hostname()})`,
    );
    first.process.stdin.end();
    await second.says('has it');
    second.process.stdin.end();
    await once(second.process, 'close');
    expect(existsSync(path)).toBe(false);
  });

  test('is taken over at once when its owner is killed', async () => {
    const path = lockPath();
    const first = contender(path);
    await first.says('has it');
    first.process.kill('SIGKILL');
    await once(first.process, 'close');
    expect(existsSync(path)).toBe(true);
    const second = contender(path);
    await second.says('has it');
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject({ pid: second.process.pid });
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('is given back on %s', async (signal, exitCode) => {
    const path = lockPath();
    const owner = contender(path);
    await owner.says('has it');
    owner.process.kill(signal);
    expect(await once(owner.process, 'close')).toEqual([exitCode, null]);
    expect(existsSync(path)).toBe(false);
  });

  test('is given back when the action fails', async () => {
    const path = lockPath();
    await expect(withLock(path, () => Promise.reject(new Error('broken')), TIMES)).rejects.toThrow('broken');
    expect(existsSync(path)).toBe(false);
  });

  test('is taken from an owner whose process is gone', async () => {
    const path = lockPath();
    writeFileSync(path, JSON.stringify({ pid: deadPid(), host: hostname() }));
    const owner = await withLock(path, () => Promise.resolve(readFileSync(path, 'utf8')), TIMES);
    expect(JSON.parse(owner)).toMatchObject({ pid: process.pid, host: hostname() });
    expect(readdirSync(join(path, '..'))).toEqual([]);
  });

  test.each([
    ['an owner on another host', JSON.stringify({ pid: 1, host: 'elsewhere' })],
    ['a damaged lock', '{"pid'],
    ['an empty lock', ''],
  ])('is taken from %s that gave no sign of life for long', async (_whose, contents) => {
    const path = lockPath();
    writeFileSync(path, contents);
    const longAgo = new Date(Date.now() - 2 * STALE_MS);
    utimesSync(path, longAgo, longAgo);
    expect(await withLock(path, () => Promise.resolve('ran'), TIMES)).toBe('ran');
  });

  test.each([
    ['process 4711 on elsewhere', JSON.stringify({ pid: 4711, host: 'elsewhere' })],
    ['an unknown process', '{"pid'],
  ])('is not waited for without end: the error names the holder (%s)', async (holder, contents) => {
    const path = lockPath();
    writeFileSync(path, contents);
    await expect(withLock(path, () => Promise.resolve(), { ...TIMES, waitMs: 20 })).rejects.toThrow(holder);
    expect(existsSync(path)).toBe(true);
  });

  test('of another owner is left alone by one who lost it', async () => {
    const path = lockPath();
    const other = JSON.stringify({ pid: 1, host: 'elsewhere', token: 'another' });
    await withLock(
      path,
      () => {
        writeFileSync(path, other);
        return Promise.resolve();
      },
      TIMES,
    );
    expect(readFileSync(path, 'utf8')).toBe(other);
  });
});
