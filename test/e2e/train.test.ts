import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { Summary } from '../../shared/summary.js';
import { Atelier, type Exit } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readJson, readLines, readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');

const TRAIN = ['train', '--model', 'lenet', '--dataset', data, '--validation-rows', '200', '--json'];
const train = (run: string, ...args: string[]): Promise<Exit> =>
  new Atelier([...TRAIN, '--run-dir', join(folder, run), ...args]).exit;
/** Of one epoch, on one worker. */
let oneEpoch: string;

beforeAll(async () => {
  writeSmallFashionMnist(data, 2_000, 500);
  const { code, stderr } = await train('one', '--epochs', '1', '--workers', '1');
  expect({ code, stderr }).toMatchObject({ code: 0 });
  oneEpoch = readSummary(join(folder, 'one')).weightsSha256;
});

describe('training', () => {
  test('gives the same weights on 1, 2 and 3 workers, and other weights for another seed', async () => {
    const hashes: string[] = [];
    for (const [name, ...args] of [
      ['two', '--workers', '2'],
      ['three', '--workers', '3'],
      ['seed', '--workers', '2', '--seed', '2'],
    ] as [string, ...string[]][]) {
      const { code, stderr } = await train(name, '--epochs', '1', ...args);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      hashes.push(readSummary(join(folder, name)).weightsSha256);
    }
    const [two, three, seed] = hashes;
    expect([two, three]).toEqual([oneEpoch, oneEpoch]);
    expect(seed).not.toBe(oneEpoch);
  });
});

describe('with --wire bf16', () => {
  test('the weights are the same through memory and sockets, and others than with float32', async () => {
    const hashes: string[] = [];
    for (const [name, ...args] of [
      ['memory', '--wire', 'bf16', '--workers', '2'],
      ['sockets', '--wire', 'bf16', '--workers', '3', '--slots', '1', '--no-shared-memory'],
    ] as [string, ...string[]][]) {
      const { code, stderr } = await train(`wire-${name}`, '--epochs', '1', ...args);
      expect({ code, stderr }).toMatchObject({ code: 0 });
      hashes.push(readSummary(join(folder, `wire-${name}`)).weightsSha256);
    }
    const [memory, sockets] = hashes;
    expect(sockets).toBe(memory);
    expect(oneEpoch).not.toBe(memory);
  });
});

describe('a finished run', () => {
  const path = join(folder, 'finished');
  let exit: Exit;
  beforeAll(async () => {
    // `Atelier` belongs to a test; this run is shared by several.
    const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
    const args = [main, ...TRAIN, '--run-dir', path, '--epochs', '2', '--workers', '2'];
    const { stdout, stderr } = await promisify(execFile)(process.execPath, args);
    exit = { code: 0, signal: null, stdout, stderr };
  });

  test('leaves its files and no temporary ones', () => {
    expect(readdirSync(path).sort()).toEqual([
      'checkpoints',
      'config.json',
      'events.jsonl',
      'manifest.json',
      'metrics.jsonl',
      'model',
      'report.html',
      'step-losses.f64',
      'summary.json',
      'tensorboard',
    ]);
    expect(readdirSync(join(path, 'model')).sort()).toEqual(['model.json', 'weights.bin']);
  });

  test('prints its summary and nothing else with --json', () => {
    expect(Summary.parse(JSON.parse(exit.stdout))).toEqual(readSummary(path));
    expect(readJson(path, 'summary.json')).toEqual(JSON.parse(exit.stdout));
  });

  test('counts every row once an epoch, and every row of validation and test', () => {
    const { trials, workers } = readSummary(path);
    expect(trials).toMatchObject([
      { epochs: [{ rows: 1_800 }, { rows: 1_800 }], validation: { rows: 200 }, test: { rows: 500 } },
    ]);
    expect(workers.reduce((sum, { examples }) => sum + examples, 0)).toBe(3_600);
  });

  test('has learned something', () => {
    const [first, second] = readSummary(path).trials[0]?.epochs ?? [];
    expect(second?.loss).toBeLessThan(first?.loss ?? 0);
    expect(second?.valAccuracy).toBeGreaterThan(0.5);
  });

  test('has a confusion matrix that agrees with its accuracy', () => {
    const evaluation = readSummary(path).trials[0]?.test;
    const confusion = evaluation?.confusion ?? [];
    const correct = confusion.reduce((sum, row, truth) => sum + (row[truth] ?? 0), 0);
    expect(confusion.flat().reduce((sum, n) => sum + n, 0)).toBe(500);
    expect(evaluation?.accuracy).toBe(correct / 500);
  });

  test('has the same figures in metrics.jsonl', () => {
    const epochs = readSummary(path).trials[0]?.epochs ?? [];
    expect(readLines(path, 'metrics.jsonl')).toEqual(epochs.map((epoch) => ({ trial: 0, ...epoch })));
  });

  test('has the config it was started with, with every default', () => {
    const { config } = readSummary(path);
    expect(readJson(path, 'config.json')).toEqual(config);
    expect(config).toMatchObject({ model: 'lenet', epochs: 2, batchSize: 256, shards: 8, seed: 1 });
  });

  test('logs who came, what they held and how it ended', () => {
    const events = readLines(path, 'events.jsonl');
    expect(events.map(({ type }) => type)).toEqual([
      'start-up',
      'worker-joined',
      'worker-joined',
      'started',
      'first-step',
      'checkpoint',
      'checkpoint',
      'checkpoint',
      'ended',
    ]);
  });

  test('has a model that gives the same test accuracy where Atelier is not', async () => {
    const script = fileURLToPath(new URL('../support/evaluate-exported-model.js', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [script, join(path, 'model'), data]);
    const { rows, correct, isDistribution } = JSON.parse(stdout) as Record<string, number>;
    expect({ rows, isDistribution, accuracy: (correct ?? 0) / (rows ?? 1) }).toEqual({
      rows: 500,
      isDistribution: true,
      accuracy: readSummary(path).trials[0]?.test?.accuracy,
    });
  });
});

describe('a worker without the data', () => {
  test('joins, takes part, and the weights are those of a run without it', async () => {
    const path = join(folder, 'joined');
    const args = ['--epochs', '1', '--workers', '1', '--min-workers', '2', '--run-dir', path];
    const coordinator = new Atelier([...TRAIN, ...args]);
    const [, url = ''] = await coordinator.says(/Coordinator at (ws:\S+)/);
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    const flags = ['--join', url, '--name', 'far', '--slots', '1', '--data-dir', empty];
    const worker = new Atelier(['worker', ...flags], { ATELIER_CACHE_DIR: empty });
    const [ended, left] = await Promise.all([coordinator.exit, worker.exit]);

    expect(ended).toMatchObject({ code: 0 });
    expect(left).toMatchObject({ code: 0 });
    expect(left.stderr).toContain('rows will come from the coordinator');
    expect(readdirSync(empty)).toEqual([]);
    const { workers, weightsSha256 } = readSummary(path);
    expect(workers.find(({ name }) => name === 'far')?.examples).toBeGreaterThan(0);
    expect(readLines(path, 'events.jsonl')).toContainEqual(
      expect.objectContaining({ type: 'worker-joined', name: 'far' }),
    );
    expect(weightsSha256).toBe(oneEpoch);
  });
});
