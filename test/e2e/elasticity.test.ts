import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadDataset } from '../../shared/dataset/load.js';
import { cutFolds } from '../../shared/folds.js';
import { formatRowDigest, rowDigest } from '../../shared/row-digest.js';
import { Atelier } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readLines, readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const at = (run: string): string => join(folder, run);
const EPOCHS = ['--epochs', '6'];
const train = (run: string, ...args: string[]): Atelier =>
  new Atelier([
    ...['train', '--model', 'lenet', '--dataset', data, '--validation-rows', '200', '--workers', '2'],
    ...['--checkpoint-steps', '3', '--run-dir', at(run), ...EPOCHS, ...args],
  ]);
let undisturbed: string;

beforeAll(async () => {
  writeSmallFashionMnist(data, 3_000, 250);
  // `Atelier` ends what the file leaves behind.
  const { code, stderr } = await train('undisturbed').exit;
  expect({ code, stderr }).toMatchObject({ code: 0 });
  undisturbed = readSummary(at('undisturbed')).weightsSha256;
});

describe('a run that is stopped in the middle', () => {
  test('and resumed ends in the same bits and the same metrics', async () => {
    const first = train('stopped');
    await first.says(/^Epoch 2\//m);
    first.child.kill('SIGTERM');
    expect(await first.exit).toMatchObject({ code: 4 });
    const changed = await new Atelier(['train', '--resume', at('stopped'), '--epochs', '7']).exit;
    expect(changed.code).toBe(2);
    expect(changed.stderr).toContain('--epochs is 6, not 7');
    const second = await new Atelier(['train', '--resume', at('stopped'), '--workers', '1']).exit;
    expect({ code: second.code, stderr: second.stderr }).toMatchObject({ code: 0 });
    const summary = readSummary(at('stopped'));
    expect(summary.weightsSha256).toBe(undisturbed);
    expect(summary.elasticity.resumes).toBe(1);
    const hashes = (run: string): unknown[] =>
      readLines(at(run), 'metrics.jsonl').map(({ epoch, weightsSha256 }) => [epoch, weightsSha256]);
    expect(hashes('stopped')).toEqual(hashes('undisturbed'));
    const done = await new Atelier(['train', '--resume', at('stopped')]).exit;
    expect(done.code).toBe(0);
    expect(done.stdout).toContain('is done: there is nothing to resume');
  });
});

describe('a run that loses a worker', () => {
  test('starts it again and ends in the same bits', async () => {
    const atelier = train('killed');
    await atelier.says(/^Epoch 1\//m);
    const workers = atelier.workers();
    expect(workers).toHaveLength(2);
    process.kill(workers[0] ?? 0, 'SIGKILL');
    const { code, stderr } = await atelier.exit;
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(readSummary(at('killed')).weightsSha256).toBe(undisturbed);
    const events = readLines(at('killed'), 'events.jsonl').map(({ type }) => type);
    expect(events).toContain('worker-left');
    expect(events).toContain('worker-restarted');
  });
});

describe('a cross-validation', () => {
  const kfold = (run: string, ...args: string[]): Atelier =>
    new Atelier([
      ...['kfold', '--model', 'lenet', '--dataset', data, '--folds', '3', '--epochs', '2', '--seed', '5'],
      ...['--run-dir', at(run), ...args],
    ]);
  const hashes = (run: string): string[] => readSummary(at(run)).trials.map((trial) => trial.weightsSha256);

  beforeAll(async () => {
    const { code, stderr } = await kfold('at-once', '--workers', '2', '--slots', '1').exit;
    expect({ code, stderr }).toMatchObject({ code: 0 });
  });

  test('ends in the same weights for each fold, at once or one after the other, on 1, 2 or 4 slots', async () => {
    const ways = {
      'one-after-the-other': ['--workers', '1', '--slots', '1', '--fold-concurrency', '1'],
      'four-slots': ['--workers', '2', '--slots', '2'],
    };
    for (const [run, args] of Object.entries(ways)) {
      const { code, stderr } = await kfold(run, ...args).exit;
      expect({ code, stderr }).toMatchObject({ code: 0 });
      expect(hashes(run)).toEqual(hashes('at-once'));
    }
  });

  test('trains each fold on the rows it is not validated on, each once an epoch', () => {
    const { labels } = loadDataset({ dataset: data, dataDir: null, env: {} });
    const cuts = cutFolds(labels.subarray(0, 3_000), { folds: 3, repeat: 0, seed: 5, stratified: true });
    const trials = readSummary(at('at-once')).trials;
    expect(trials).toHaveLength(3);
    for (const [fold, { training, validation }] of cuts.entries()) {
      const ledger = trials[fold]?.ledger;
      expect(ledger).toMatchObject({ epochs: 2, rowsPerEpoch: training.length });
      expect(ledger?.rowsDigest).toBe(formatRowDigest(rowDigest(training)));
      const held = new Set(validation);
      expect(training.some((row) => held.has(row))).toBe(false);
    }
  });

  test('of which every fold diverges ends with 3 and a complete summary', async () => {
    const args = ['--model', 'dense', '--optimizer', 'sgd', '--learning-rate', '1000', '--workers', '2'];
    const { code, stderr } = await kfold('diverged', ...args).exit;
    expect(code).toBe(3);
    expect(stderr).toContain('3 of 3 trials failed');
    const { status, trials, folds } = readSummary(at('diverged'));
    expect({ status, folds }).toEqual({ status: 'failed', folds: null });
    expect(trials.map((trial) => trial.status)).toEqual(['failed', 'failed', 'failed']);
  });

  test('leaves a model and metrics for each fold, and their statistics', () => {
    const { folds, trials } = readSummary(at('at-once'));
    const accuracies = trials.map(({ validation }) => validation?.accuracy ?? 0);
    expect(trials.map(({ fold }) => fold)).toEqual([0, 1, 2]);
    expect(folds?.n).toBe(3);
    expect(folds?.mean).toBeCloseTo(accuracies.reduce((sum, x) => sum + x, 0) / 3, 12);
    expect(new Set(trials.map(({ weightsSha256 }) => weightsSha256)).size).toBe(3);
    for (const fold of ['0', '1', '2']) {
      const path = join(at('at-once'), 'folds', fold);
      expect(readdirSync(join(path, 'model')).sort()).toEqual(['model.json', 'weights.bin']);
      expect(readLines(path, 'metrics.jsonl')).toMatchObject([
        { trial: Number(fold), epoch: 1, rows: 2_000 },
        { trial: Number(fold), epoch: 2, rows: 2_000 },
      ]);
    }
  });
});
