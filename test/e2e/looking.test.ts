import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { PNG } from 'pngjs';
import { beforeAll, describe, expect, test } from 'vitest';
import { Reports } from '../../cli/reports.js';
import { Atelier, type Exit } from '../support/atelier.js';
import { CHROMIUM, launchChromium } from '../support/chromium.js';
import { predictInChromium } from '../support/predict-in-chromium.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
const run = join(folder, 'run');
const folds = join(folder, 'folds');
const MAX_REPORT_BYTES = 5_000_000;

beforeAll(async () => {
  writeSmallFashionMnist(data, 1_200, 300);
  // `Atelier` belongs to a test; this run is shared by all.
  const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
  const options = ['--model', 'lenet', '--dataset', data, '--epochs', '2', '--quiet'];
  const start = (...args: string[]): Promise<unknown> =>
    promisify(execFile)(process.execPath, [main, ...args, ...options]);
  await start('train', '--run-dir', run, '--validation-rows', '200');
  await start('kfold', '--run-dir', folds, '--augment', 'strong');
});

const atelier = (...args: string[]): Promise<Exit> => new Atelier(args).exit;
/** Its error, without what TensorFlow says as it is loaded. */
const complaint = async (code: number, ...args: string[]): Promise<string> => {
  const exit = await atelier(...args);
  expect(exit.code).toBe(code);
  return exit.stderr.slice(exit.stderr.indexOf('error: '));
};

describe('evaluate', () => {
  test.each(['validation', 'test'] as const)("gives the run's own figures of %s", async (split) => {
    const { code, stdout } = await atelier('evaluate', run, '--split', split, '--json');
    expect(code).toBe(0);
    const { loss, ...figures } = readSummary(run).trials[0]?.[split] ?? { loss: 0 };
    const again = JSON.parse(stdout) as { loss: number };
    expect(again).toMatchObject({ split, ...figures });
    expect(again.loss).toBeCloseTo(loss, 5);
  });

  test('refuses data that is not the data of the run', async () => {
    const other = writeSmallFashionMnist(join(folder, 'other'), 100, 50);
    expect(await complaint(2, 'evaluate', run, '--data-dir', other)).toMatch(
      /are not those of the run .*name the right folder with --data-dir/,
    );
  });

  test("of a fold takes that fold's rows", async () => {
    const { stdout } = await atelier('evaluate', folds, '--fold', '3', '--split', 'validation', '--json');
    const { accuracy, confusion } = readSummary(folds).trials[3]?.validation ?? {};
    expect(JSON.parse(stdout)).toMatchObject({ split: 'validation', accuracy, confusion });
  });
});

describe('predict', () => {
  test('says the same of IDX rows as the run did in its test', async () => {
    const images = join(data, 't10k-images-idx3-ubyte');
    const labels = readFileSync(join(data, 't10k-labels-idx1-ubyte')).subarray(8);
    const { code, stdout } = await atelier('predict', '--run', run, images, '--json');
    expect(code).toBe(0);
    const predictions = JSON.parse(stdout) as { row: number; class: number; notes: string[] }[];
    expect(predictions).toHaveLength(300);
    const correct = predictions.filter((prediction, row) => prediction.class === labels[row]).length;
    expect(correct / 300).toBe(readSummary(run).trials[0]?.test?.accuracy);
    expect(predictions.every(({ notes }) => notes.length === 0)).toBe(true);
  });

  test('takes a photograph, and says what it did to it', async () => {
    const photo = new PNG({ width: 120, height: 90 });
    photo.data.fill(255);
    for (let y = 30; y < 60; y++) photo.data.fill(20, 4 * (y * 120 + 30), 4 * (y * 120 + 90));
    for (let i = 3; i < photo.data.length; i += 4) photo.data[i] = 255;
    const path = join(folder, 'photo.png');
    writeFileSync(path, PNG.sync.write(photo));
    const { code, stdout } = await atelier('predict', '--model', join(run, 'model'), path);
    expect(code).toBe(0);
    expect(stdout).toMatch(/photo\.png {2}\d 0\.\d{4} {2}\d 0\.\d{4}/);
    expect(stdout).toMatch(/inverted: its border is light/);
    expect(stdout).toMatch(/resized from 120 x 90 to 28 x 21 and centred on 28 x 28/);
  });

  test('says what is wrong with its input', async () => {
    const text = join(folder, 'text.png');
    writeFileSync(text, 'no image');
    expect(await complaint(2, 'predict', '--run', run, text)).toMatch(
      /is not an image: give PNG, JPEG, or IDX/,
    );
    expect(await complaint(2, 'predict', text)).toMatch(/name one network: --run RUN, or --model FOLDER/);
    expect(await complaint(2, 'predict', '--model', data, text)).toMatch(/is not an image|model.json/);
  });
});

describe('summary', () => {
  test('prints the layers of a run and of a preset', async () => {
    const [ofRun, ofPreset] = await Promise.all([
      atelier('summary', run, '--json'),
      atelier('summary', '--model', 'cnn'),
    ]);
    const layers = JSON.parse(ofRun.stdout) as { name: string; parameters: number }[];
    expect(layers.map(({ name }) => name).slice(0, 3)).toEqual(['conv1', 'pool1', 'conv2']);
    expect(layers.reduce((sum, { parameters }) => sum + parameters, 0)).toBe(61_706);
    expect(ofPreset.stdout).toMatch(/conv4 +│ Conv2D +│ \(14, 14, 32\) +│ +100,384/);
    expect(ofPreset.stdout).toMatch(/169,078 trainable parameters/);
  });
});

describe('export', () => {
  test('to tfjs runs in Chromium with plain tfjs, and predicts the same', async ({ skip }) => {
    if (CHROMIUM === undefined) skip('there is no Chromium: name one with ATELIER_CHROMIUM');
    const out = join(folder, 'tfjs');
    expect(await atelier('export', run, '--format', 'tfjs', '--out', out)).toMatchObject({ code: 0 });
    const images = join(data, 't10k-images-idx3-ubyte');
    const { stdout } = await atelier('predict', '--run', run, images, '--json');
    const ours = (JSON.parse(stdout) as { probabilities: Record<string, number> }[]).map(
      ({ probabilities }) => Array.from({ length: 10 }, (_, i) => probabilities[String(i)] ?? Number.NaN),
    );
    const theirs = await predictInChromium(out, readFileSync(images).subarray(16));
    expect(theirs).toHaveLength(300);
    const argMax = (row: readonly number[]): number => row.indexOf(Math.max(...row));
    expect(theirs.map(argMax)).toEqual(ours.map(argMax));
    const worst = Math.max(
      ...theirs.flatMap((row, r) => row.map((p, i) => Math.abs(p - (ours[r]?.[i] ?? 2)))),
    );
    expect(worst).toBeLessThan(1e-5);
  });

  test('writes what each format has, and nothing over what is there', async () => {
    const saved = join(folder, 'saved');
    const tensors = join(folder, 'tensors');
    expect((await atelier('export', run, '--format', 'savedmodel', '--out', saved)).stdout).toBe(
      `${saved}\n`,
    );
    expect(
      (await atelier('export', folds, '--fold', '2', '--format', 'safetensors', '--out', tensors)).code,
    ).toBe(0);
    expect(readdirSync(saved)).toEqual(['class-names.txt', 'saved_model.pb']);
    expect(readdirSync(tensors)).toEqual(['class-names.txt', 'model.safetensors', 'topology.json']);
    expect(readFileSync(join(tensors, 'model.safetensors')).toString('latin1')).toContain(
      readSummary(folds).trials[2]?.weightsSha256,
    );
    expect(await complaint(2, 'export', run, '--format', 'tfjs', '--out', saved)).toMatch(
      /exists: name a folder/,
    );
    expect((await atelier('export', run, '--format', 'onnx', '--out', join(folder, 'onnx'))).stderr).toMatch(
      /Allowed choices are tfjs, savedmodel, safetensors/,
    );
  });
});

describe('report', () => {
  test('says which layers, images and folds there are', async () => {
    expect(await complaint(2, 'report', run, '--layer', 'conv9')).toMatch(
      /no layer "conv9": the model has conv1, pool1, conv2, pool2, conv3, flatten, dense1, output/,
    );
    expect(await complaint(2, 'report', run, '--image', '300')).toMatch(/numbered 0 to 299/);
    expect(await complaint(2, 'report', folds, '--fold', '7')).toMatch(/has the folds 0, 1, 2, 3, 4/);
    expect(await complaint(2, 'report', data)).toMatch(/is not a run directory: it has no config.json/);
  });

  test('compares runs', async () => {
    const out = join(folder, 'comparison.html');
    expect(await atelier('report', run, folds, '--out', out)).toMatchObject({ code: 0, stdout: `${out}\n` });
    expect(readFileSync(out, 'utf8')).toContain('2 runs compared');
  });

  test('is written without pictures of its inside when the data is gone', async () => {
    const out = join(folder, 'no-data.html');
    const path = join(folder, 'moved');
    cpSync(run, path, { recursive: true });
    const summary = readSummary(run);
    const moved = { ...summary, config: { ...summary.config, dataset: join(folder, 'gone') } };
    writeFileSync(join(path, 'summary.json'), JSON.stringify(moved));
    expect((await atelier('report', path, '--out', out)).code).toBe(0);
    expect(readFileSync(out, 'utf8')).toMatch(/No pictures of the network&#39;s inside: unknown dataset/);
    rmSync(out);
  });

  test('that a service has made is there when it waits for it', async () => {
    const path = join(folder, 'of a service');
    cpSync(run, path, { recursive: true });
    rmSync(join(path, 'report.html'));
    const reports = new Reports(process.env);
    reports.write(path);
    await reports.ended();
    expect(readFileSync(join(path, 'report.html'), 'utf8')).toContain('</html>');
  });

  test.skipIf(CHROMIUM === undefined)(
    'of a k-fold run opens in Chromium: no error, no request, every figure there, narrow and wide',
    async () => {
      const { code, stdout } = await atelier('report', folds, '--image', '7');
      const path = stdout.trim();
      expect({ code, path }).toEqual({ code: 0, path: join(folds, 'report.html') });
      expect(statSync(path).size).toBeLessThan(MAX_REPORT_BYTES);
      const browser = await launchChromium();
      try {
        for (const [width, colorScheme] of [
          [390, 'dark'],
          [1440, 'light'],
        ] as const) {
          const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
          const trouble: string[] = [];
          page.on('console', (message) => trouble.push(message.text()));
          page.on('pageerror', (error) => trouble.push(error.message));
          page.on('request', (request) => {
            if (!request.url().startsWith('data:')) trouble.push(request.url());
          });
          await page.goto(`file://${path}`);
          expect(trouble).toEqual([`file://${path}`]);
          // Evaluated in the page, which has a DOM; this project's types have none.
          const seen = await page.evaluate<Seen>(LOOK_AT_PAGE);
          expect(seen.headings).toEqual([
            'What was run',
            'Learning',
            'Folds',
            'Confusion',
            'Calibration of fold 0',
            'Most confident mistakes of fold 0',
            'Filters of fold 0',
            'Feature maps of fold 0',
            'Augmented images',
            'Layers',
            'Timing',
            'Workers',
            'Faults survived',
            'How to reproduce',
          ]);
          expect(seen.scrollWidth).toBeLessThanOrEqual(width);
          // Curves, box plot, matrices (pooled, test, training, each fold's), calibration, timing.
          expect(seen.charts).toBe(2 + 1 + (3 + 5) + 2 + 1);
          expect(seen.emptyCharts).toEqual([]);
          expect(seen.brokenImages).toEqual([]);
          expect(seen.images).toBeGreaterThan(30);
          expect(seen.titles).toBe(800);
          expect(seen.smallestText).toBeGreaterThanOrEqual(7);
          await page.close();
        }
      } finally {
        await browser.close();
      }
    },
  );
});

interface Seen {
  readonly headings: string[];
  readonly scrollWidth: number;
  readonly charts: number;
  readonly emptyCharts: string[];
  readonly images: number;
  readonly brokenImages: string[];
  readonly titles: number;
  /** Pixels on the screen. */
  readonly smallestText: number;
}

const LOOK_AT_PAGE = `(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const charts = all('figure > svg');
  const textHeights = charts.flatMap((svg) => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return all('text', svg).map((text) => parseFloat(getComputedStyle(text).fontSize) * scale);
  });
  return {
    headings: all('h2').map((heading) => heading.textContent),
    scrollWidth: document.documentElement.scrollWidth,
    charts: charts.length,
    emptyCharts: charts
      .filter((svg) => svg.getBoundingClientRect().height < 100 || all('path, rect', svg).length < 5)
      .map((svg) => svg.getAttribute('aria-label')),
    images: all('img').length,
    brokenImages: all('img').filter((img) => !img.complete || img.naturalWidth === 0).map((img) => img.alt),
    titles: all('svg title').length,
    smallestText: Math.min(...textHeights),
  };
})()`;
