import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PNG } from 'pngjs';
import { describe, expect, test } from 'vitest';
import { parseRunConfig } from '../../shared/config.js';
import type { Evaluation, Summary } from '../../shared/summary.js';
import { calibrationOf } from '../../results/report/calibration.js';
import { fiveNumbers, linesFigure } from '../../results/report/chart.js';
import { comparisonPage } from '../../results/report/comparison-page.js';
import { confusionFigure } from '../../results/report/confusion.js';
import { faultsSection, reproducingFlags } from '../../results/report/facts.js';
import { duration, html, table } from '../../results/report/html.js';
import { mosaicPng, normalised } from '../../results/report/picture.js';
import { runPage } from '../../results/report/run-page.js';
import { chooseTrial, modelFolder, readRun } from '../../results/run-files.js';
import { evaluationOf } from '../../results/split.js';
import { atelierError } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const HASH = '0'.repeat(64);
const evaluation: Evaluation = {
  rows: 10,
  loss: 0.5,
  accuracy: 0.7,
  confusion: [
    [4, 1],
    [2, 3],
  ],
};
const epochs = [1, 2].map((epoch) => ({
  epoch,
  loss: 1 / epoch,
  accuracy: 0.5,
  valLoss: 0.9 / epoch,
  valAccuracy: 0.6,
  rows: 100,
  seconds: 2,
  weightsSha256: HASH,
}));
const trialOf = (fold: number | null): Summary['trials'][number] => ({
  fold,
  status: 'done',
  reason: null,
  weightsSha256: HASH,
  ledger: { epochs: 2, rowsPerEpoch: 100, rowsDigest: '0'.repeat(16), shards: [] },
  epochs,
  validation: evaluation,
  test: { ...evaluation, accuracy: 0.7 + (fold ?? 0) / 100 },
});
const summaryOf = (change: Partial<Summary> = {}): Summary => ({
  schemaVersion: 1,
  status: 'done',
  reason: null,
  config: parseRunConfig({ model: 'lenet' }),
  weightsSha256: HASH,
  trials: [trialOf(null)],
  folds: null,
  throughput: { imagesPerSecond: 1_234, stepMsP50: 5, stepMsP95: 9, slotUtilization: 0.8 },
  workers: [{ name: 'w<1>', host: 'h', slots: 1, tensorflow: '2', node: '20', examples: 200 }],
  retries: 0,
  elasticity: { workersLost: 0, reconnects: 0, speculated: 0, late: 0, resumes: 0 },
  durationSeconds: 12,
  ...change,
});
const MANIFEST = {
  startedAt: '2026-01-02T03:04:05.000Z',
  gitCommit: 'abc',
  dataset: {
    name: 'd',
    sha256: HASH,
    trainRows: 100,
    testRows: 10,
    imageShape: [4, 4, 1],
    classNames: ['a & b', '<c>'],
  },
  model: { name: 'lenet', parameters: 7 },
  argv: ['train', '--name', "it's"],
};

const root = temporaryFolder();
let made = 0;
/** A run directory with these files. */
function runDirectory(files: Readonly<Record<string, unknown>> = {}): string {
  const folder = join(root, `run-${++made}`);
  mkdirSync(folder);
  const all = { 'config.json': {}, 'manifest.json': MANIFEST, 'summary.json': summaryOf(), ...files };
  for (const [name, value] of Object.entries(all)) {
    writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
  }
  return folder;
}

describe('a run directory', () => {
  test('that is none, or is incomplete, says what to do', () => {
    const incomplete = runDirectory();
    rmSync(join(incomplete, 'summary.json'));
    const damaged = runDirectory({ 'summary.json': '{"half":' });
    const foreign = runDirectory({ 'summary.json': { schemaVersion: 99 } });
    expect(atelierError('usage', () => readRun(join(root, 'none'))).message).toMatch(/name a run directory/);
    expect(atelierError('usage', () => readRun(root)).message).toMatch(/has no config.json/);
    expect(atelierError('data', () => readRun(incomplete)).message).toMatch(
      /no summary.json.*Wait for its end/,
    );
    expect(atelierError('data', () => readRun(damaged)).message).toMatch(/cannot read .*summary.json/);
    expect(atelierError('data', () => readRun(foreign)).message).toMatch(/use the version that wrote it/);
  });

  test('may end its event log in half a line', () => {
    const line = JSON.stringify({ time: 't', type: 'started', workers: 2 });
    expect(readRun(runDirectory({ 'events.jsonl': `${line}\n{"time":"t","ty` })).events).toEqual([
      { time: 't', type: 'started', workers: 2 },
    ]);
  });

  test('of a k-fold run has a network for each fold', () => {
    const run = readRun(
      runDirectory({
        'summary.json': summaryOf({
          trials: [0, 1].map(trialOf),
          folds: { mean: 0.7, sd: 0, ci95: 0, n: 2 },
        }),
      }),
    );
    expect(modelFolder(run, chooseTrial(run, 1))).toBe(join(run.path, 'folds', '1', 'model'));
    expect(chooseTrial(run, null).fold).toBe(0);
    expect(atelierError('usage', () => chooseTrial(run, 5)).message).toMatch(/has the folds 0, 1/);
    const plain = readRun(runDirectory());
    expect(modelFolder(plain, chooseTrial(plain, null))).toBe(join(plain.path, 'model'));
    expect(atelierError('usage', () => chooseTrial(plain, 0)).message).toMatch(/is not a k-fold run/);
  });
});

describe('figures from predictions', () => {
  const probabilities = Float32Array.of(0.9, 0.1, 0.6, 0.4, 0.2, 0.8, 0.55, 0.45);
  const labels = Uint8Array.of(0, 1, 1, 0);

  test('evaluate loss, accuracy and confusion', () => {
    const { loss, ...rest } = evaluationOf(probabilities, labels, 2);
    expect(rest).toEqual({
      rows: 4,
      accuracy: 0.75,
      confusion: [
        [2, 0],
        [1, 1],
      ],
    });
    expect(loss).toBeCloseTo(-(Math.log(0.9) + Math.log(0.4) + Math.log(0.8) + Math.log(0.55)) / 4, 6);
  });

  test('keep the loss finite when a right class has probability 0', () => {
    expect(evaluationOf(Float32Array.of(0, 1), Uint8Array.of(0), 2).loss).toBeCloseTo(126 * Math.LN2);
  });

  test('have the calibration error of their definition', () => {
    // Four bins of one image each: |1 - 0.9|, |0 - 0.6|, |1 - 0.8|, |1 - 0.55|.
    const { ece, accuracy, meanConfidence, bins } = calibrationOf(probabilities, labels, 2);
    expect(ece).toBeCloseTo((0.1 + 0.6 + 0.2 + 0.45) / 4, 6);
    expect(accuracy).toBe(0.75);
    expect(meanConfidence).toBeCloseTo((0.9 + 0.6 + 0.8 + 0.55) / 4, 6);
    expect(bins.reduce((sum, { rows }) => sum + rows, 0)).toBe(4);
  });

  test('are calibrated when every bin is as right as it says', () => {
    const half = new Float32Array(8).fill(0.5);
    expect(calibrationOf(half, Uint8Array.of(0, 1, 0, 1), 2).ece).toBe(0);
  });
});

describe('parts of a report', () => {
  test('escape what they are given', () => {
    expect(html`<b>${'<&"'}</b>${[html`<i></i>`]}`.text).toBe('<b>&lt;&amp;&quot;</b><i></i>');
    expect(table(['<h>'], [['<x>']]).text).not.toMatch(/<[hx]>/);
  });

  test('say durations as people do', () => {
    expect([4.26, 75, 3_661].map(duration)).toEqual(['4.3 s', '1 min 15 s', '1 h 01 min']);
  });

  test('box plots have quartiles by linear interpolation', () => {
    expect(fiveNumbers([4, 1, 3, 2])).toEqual([1, 1.75, 2.5, 3.25, 4]);
    expect(fiveNumbers([7])).toEqual([7, 7, 7, 7, 7]);
  });

  test('draw lines as SVG without script, fixed colours or size', () => {
    const { text } = linesFigure('Loss', [{ name: 'a', values: [3, null, 1] }]);
    expect(text).toMatch(/<svg role="img" aria-label="Loss over 3 epochs: a"/);
    expect(text).toContain('var(--c1)');
    expect(text).not.toMatch(/<script|NaN|undefined|<svg[^>]* width="/);
  });

  test('say on hover what a cell of the confusion matrix counts', () => {
    const { text } = confusionFigure('Test', evaluation, ['a & b', '<c>']);
    expect(text).toContain('<title>&lt;c&gt;: 2 of 5 taken for a &amp; b (40.0 %)</title>');
    expect(text.match(/<title>/g)).toHaveLength(4);
  });

  test('scale values to greys, with clear gaps between tiles', () => {
    expect([...normalised(Float32Array.of(-2, 0, 2))]).toEqual([0, 0.5, 1]);
    expect([...normalised(Float32Array.of(3, 3))]).toEqual([0, 0]);
    const tiles = [Float32Array.of(0, 1), Float32Array.of(1, 0), Float32Array.of(1, 1)];
    const { width, height, data } = PNG.sync.read(mosaicPng({ tiles, width: 2, height: 1, columns: 2 }));
    const grey = (x: number, y: number): number[] => [...data.subarray(4 * (y * width + x)).subarray(2, 4)];
    expect([width, height]).toEqual([5, 3]);
    expect([grey(0, 0), grey(1, 0), grey(2, 0), grey(3, 0), grey(0, 1), grey(0, 2), grey(4, 2)]).toEqual([
      [0, 255],
      [255, 255],
      [0, 0],
      [255, 255],
      [0, 0],
      [255, 255],
      [0, 0],
    ]);
  });

  test('say which faults a run survived, or that there were none', () => {
    const quiet = readRun(runDirectory());
    expect(faultsSection(quiet).text).toMatch(/None: no worker was lost/);
    const elasticity = { ...quiet.summary.elasticity, workersLost: 2 };
    const hurt = { ...quiet, summary: { ...quiet.summary, elasticity, retries: 3 } };
    const text = faultsSection(hurt).text.replace(/\s+/g, ' ');
    expect(text).toMatch(/>2<\/td> ?<td>workers lost<.*>3<\/td> ?<td>shards or chunks computed again</);
    expect(text).not.toMatch(/connections taken up/);
  });

  test('reproduce a run by the flags that decide its weights', () => {
    const config = parseRunConfig({ model: 'my nets/a.json', epochs: 7, workers: 4, batchSize: 64 });
    expect(reproducingFlags(config).join(' ')).toBe(
      "--model 'my nets/a.json' --dataset fashion-mnist --epochs 7 --batch-size 64 --seed 1",
    );
    const folded = parseRunConfig({ model: 'lenet', folds: 3, finalFit: true, stratified: false });
    expect(reproducingFlags(folded).join(' ')).toMatch(/ --folds 3 .*--no-stratified .*--final-fit /);
  });
});

describe('a page', () => {
  const isSelfContained = (page: string): void => {
    expect(page).toMatch(/^<!doctype html>/);
    expect(page).not.toMatch(/<script|src="(?!data:)|href="(?![#]|data:)|url\((?!#)|@import/);
    expect(page).not.toMatch(/NaN|undefined|\[object/);
  };

  test('shows a run without its network, and says what is missing', () => {
    const run = readRun(runDirectory());
    const page = runPage(run, chooseTrial(run, null), null, 'no network');
    isSelfContained(page);
    expect(page).toContain('70.00 %');
    expect(page).toContain('no network');
    expect(page).toContain('w&lt;1&gt;');
    expect(page).toContain('--name &#39;it&#39;\\&#39;&#39;s&#39;');
  });

  test('shows what there is of a run that failed before its first epoch', () => {
    const files = { 'summary.json': summaryOf({ status: 'failed', reason: 'the disk is full', trials: [] }) };
    const page = runPage(readRun(runDirectory(files)), null, null, null);
    isSelfContained(page);
    expect(page).toContain('This run failed: the disk is full');
  });

  test('of a k-fold run has a box plot and each fold', () => {
    const summary = summaryOf({
      trials: [0, 1, 2].map(trialOf),
      folds: { mean: 0.71, sd: 0.01, ci95: 0.02, n: 3 },
    });
    const run = readRun(runDirectory({ 'summary.json': summary }));
    const page = runPage(run, chooseTrial(run, 2), null, null);
    isSelfContained(page);
    expect(page).toContain('Accuracy of 3 folds');
    expect(page).toContain('71.00 %');
    expect(page.match(/Confusion matrix, Validation, fold \d/g)).toHaveLength(3);
    expect(page).toMatch(/Confusion matrix, Validation, all folds: accuracy 70.00 %/);
  });

  test('compares runs by what differs', () => {
    const other = summaryOf({ config: parseRunConfig({ model: 'lenet', epochs: 9 }) });
    const page = comparisonPage([runDirectory(), runDirectory({ 'summary.json': other })].map(readRun));
    isSelfContained(page);
    expect(page).toMatch(/<td>epochs<\/td>\s*<td class="n">5<\/td>\s*<td class="n">9<\/td>/);
    expect(page).not.toContain('<td>batchSize</td>');
  });
});
