/**
 * `npm run exports -- RUN...`: what other programs say of every test image, of networks that Atelier trained and
 * exported: plain tfjs in headless Chromium, and Python's TensorFlow (ATELIER_PEERS=/path/to/python). Each must name the
 * class that Atelier names, for every image, with probabilities within 1e-5; and Atelier's own accuracy must be the summary's.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { datasetOf, openModel, openTrial, parseFold } from '../../cli/trained.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { argMax, evaluationOf, testRows } from '../../results/split.js';
import { CHROMIUM } from '../support/chromium.js';
import { hasPeer, runPeer } from '../support/peers.js';
import { predictInChromium } from '../support/predict-in-chromium.js';

const MOST_DIFFERENCE = 1e-5;
/** So many images go to the page at once. */
const BATCH = 1_000;

const say = (text: string): boolean => process.stdout.write(`${text}\n`);
const runs = process.argv.slice(2);
if (runs.length === 0) {
  say('usage: npm run exports -- RUN...   (run directories of finished runs)');
  process.exit(2);
}
const hasTensorflow = hasPeer('tensorflow');
const scratch = mkdtempSync(join(tmpdir(), 'atelier-exports-'));

function exported(run: string, format: string): string {
  const out = join(scratch, `${format}-${runs.indexOf(run)}`);
  const main = join(PROJECT_ROOT, 'dist', 'cli', 'main.js');
  execFileSync(process.execPath, [main, 'export', run, '--format', format, '--out', out], {
    stdio: 'inherit',
  });
  return out;
}

async function inChromium(run: string, images: Uint8Array, pixels: number): Promise<Float32Array> {
  const folder = exported(run, 'tfjs');
  const rows: number[][] = [];
  for (let start = 0; start < images.length; start += BATCH * pixels) {
    rows.push(...(await predictInChromium(folder, images.subarray(start, start + BATCH * pixels))));
  }
  return Float32Array.from(rows.flat());
}

async function inPython(run: string, images: Uint8Array, shape: readonly number[]): Promise<Float32Array> {
  const folder = exported(run, 'savedmodel');
  const input = Float32Array.from(images, (value) => Math.fround(value / 255));
  writeFileSync(join(folder, 'images'), input);
  await runPeer('predict_saved_model.py', ...shape.map(String), folder);
  return new Float32Array(new Uint8Array(readFileSync(join(folder, 'out'))).buffer);
}

function compare(who: string, theirs: Float32Array, ours: Float32Array, classes: number): boolean {
  if (theirs.length !== ours.length) throw new Error(`${who} gave ${theirs.length} probabilities`);
  let others = 0;
  for (let at = 0; at < ours.length; at += classes) {
    if (argMax(theirs, at, classes) !== argMax(ours, at, classes)) others++;
  }
  const worst = ours.reduce((most, value, i) => Math.max(most, Math.abs(value - (theirs[i] ?? NaN))), 0);
  say(
    `  ${who}: another class for ${others} of ${ours.length / classes}, probabilities within ${worst.toExponential(1)}`,
  );
  return others === 0 && worst <= MOST_DIFFERENCE;
}

/** Do all say the same? */
async function check(directory: string): Promise<boolean> {
  const { run, trial, folder } = openTrial(directory, parseFold(undefined));
  const { images, labels } = testRows(datasetOf(run, null, process.env));
  const model = await openModel(folder);
  const { imageShape, classes } = model;
  const ours = model.predict(images);
  model.dispose();
  const { accuracy } = evaluationOf(ours, labels, classes);
  say(`${directory}: ${trial.weightsSha256}`);
  say(`  Atelier: accuracy ${accuracy}, the summary says ${trial.test?.accuracy ?? 'nothing'}`);
  const same = [accuracy === trial.test?.accuracy];
  const pixels = imageShape.reduce((size, d) => size * d, 1);
  if (CHROMIUM === undefined) say('  no Chromium: name one with ATELIER_CHROMIUM');
  else {
    same.push(compare('tfjs in Chromium', await inChromium(directory, images, pixels), ours, classes));
  }
  if (hasTensorflow) {
    same.push(compare("Python's TensorFlow", await inPython(directory, images, imageShape), ours, classes));
  }
  return same.every(Boolean);
}

try {
  for (const run of runs) if (!(await check(run))) process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true });
}
