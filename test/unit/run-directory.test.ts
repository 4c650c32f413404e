import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { writeFileAtomic } from '../../coordinator/files.js';
import { RunDirectory, runName } from '../../coordinator/run-directory.js';
import { parseRunConfig } from '../../shared/config.js';
import type { Summary } from '../../shared/summary.js';
import { atelierError } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const SHA = 'f'.repeat(64);

const summary: Summary = {
  schemaVersion: 1,
  status: 'done',
  reason: null,
  config: parseRunConfig({}),
  weightsSha256: SHA,
  trials: [
    {
      ...{ fold: null, status: 'done', reason: null, weightsSha256: SHA },
      ...{ epochs: [], validation: null, test: null },
      ledger: { epochs: 0, rowsPerEpoch: 0, rowsDigest: '0'.repeat(16), shards: [] },
    },
  ],
  folds: null,
  throughput: { imagesPerSecond: 1, stepMsP50: 1, stepMsP95: 1, slotUtilization: 1 },
  workers: [],
  retries: 0,
  elasticity: { workersLost: 0, reconnects: 0, speculated: 0, late: 0, resumes: 0 },
  durationSeconds: 1,
};

function made(path: string): RunDirectory {
  const directory = RunDirectory.fresh(path);
  directory.create();
  return directory;
}

describe('a run directory', () => {
  test('is made with the folders above it', () => {
    const path = join(folder, 'a', 'b', 'run');
    expect(made(path).path).toBe(path);
    expect(readdirSync(path)).toEqual(['lock']);
  });

  test('is not made before it is asked for', () => {
    RunDirectory.fresh(join(folder, 'later'));
    expect(existsSync(join(folder, 'later'))).toBe(false);
  });

  test('that someone else makes in between is refused', () => {
    const path = join(folder, 'between');
    const directory = RunDirectory.fresh(path);
    mkdirSync(path);
    atelierError('usage', () => directory.create());
  });

  test('that exists is refused and left as it is', () => {
    const path = join(folder, 'existing');
    mkdirSync(path);
    writeFileSync(join(path, 'summary.json'), 'mine');
    expect(atelierError('usage', () => made(path)).message).toContain(path);
    expect(readFileSync(join(path, 'summary.json'), 'utf8')).toBe('mine');
  });

  test('that is a file is refused', () => {
    const path = join(folder, 'file');
    writeFileSync(path, '');
    atelierError('usage', () => made(path));
  });

  test('below a file is refused', () => {
    writeFileSync(join(folder, 'plain'), '');
    atelierError('usage', () => made(join(folder, 'plain', 'run')));
  });

  test('that is a link to nowhere is refused', () => {
    const path = join(folder, 'link');
    symlinkSync(join(folder, 'nowhere'), path);
    atelierError('usage', () => made(path));
  });

  /** A run's folder as another process left it. */
  const left = (name: string, owner: string): RunDirectory => {
    const { path } = made(join(folder, name));
    writeFileSync(join(path, 'config.json'), '{}');
    writeFileSync(join(path, 'lock'), owner);
    return RunDirectory.existing(path);
  };

  test('that a living process holds is refused, and the process is named', () => {
    const directory = left('held', JSON.stringify({ pid: process.ppid, host: hostname() }));
    expect(atelierError('usage', () => directory.lock()).message).toContain(
      `in use by process ${process.ppid}`,
    );
  });

  test.each([
    ['that is gone', JSON.stringify({ pid: 2 ** 22 + 1, host: hostname() })],
    ['that died before it had said who it is', ''],
  ])('is taken over from a process %s', (_name, owner) => {
    const directory = left(`gone-${owner.length}`, owner);
    const lock = join(directory.path, 'lock');
    directory.lock();
    expect(JSON.parse(readFileSync(lock, 'utf8'))).toMatchObject({ pid: process.pid });
    directory.unlock();
    expect(existsSync(lock)).toBe(false);
  });

  test('gets a name from the time and the model', () => {
    expect(runName(new Date('2026-11-22T23:50:01.234Z'), 'lenet')).toBe('20261122T235001Z-lenet');
  });

  test('keeps what is written whole, without temporary files', () => {
    const directory = made(join(folder, 'whole'));
    directory.writeConfig(summary.config);
    directory.writeManifest({ argv: ['train'] });
    directory.writeSummary(summary);
    directory.unlock();
    expect(readdirSync(directory.path).sort()).toEqual(['config.json', 'manifest.json', 'summary.json']);
    expect(JSON.parse(readFileSync(join(directory.path, 'summary.json'), 'utf8'))).toEqual(summary);
  });

  test('does not take a summary that breaks its schema', () => {
    const directory = made(join(folder, 'schema'));
    expect(() => directory.writeSummary({ ...summary, weightsSha256: 'none' })).toThrow('weightsSha256');
    expect(readdirSync(directory.path)).toEqual(['lock']);
  });

  test('has one line for each epoch and each event', () => {
    const directory = made(join(folder, 'lines'));
    directory.appendEvent(0, { type: 'started', workers: 1 });
    directory.appendEvent(1_000, { type: 'ended', status: 'done', reason: null });
    const lines = readFileSync(join(directory.path, 'events.jsonl'), 'utf8').trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { time: '1970-01-01T00:00:00.000Z', type: 'started', workers: 1 },
      { time: '1970-01-01T00:00:01.000Z', type: 'ended', status: 'done', reason: null },
    ]);
  });
});

describe('writeFileAtomic', () => {
  test('replaces a file and leaves nothing else behind', () => {
    const home = join(folder, 'replace');
    mkdirSync(home);
    writeFileAtomic(join(home, 'x'), 'old and longer');
    writeFileAtomic(join(home, 'x'), Uint8Array.of(110, 101, 119));
    expect(readdirSync(home)).toEqual(['x']);
    expect(readFileSync(join(home, 'x'), 'utf8')).toBe('new');
  });

  test('that fails leaves nothing behind', () => {
    const home = join(folder, 'fails');
    mkdirSync(join(home, 'x'), { recursive: true });
    // A file cannot be renamed over a folder.
    expect(() => writeFileAtomic(join(home, 'x'), 'text')).toThrow();
    expect(readdirSync(home)).toEqual(['x']);
  });
});
