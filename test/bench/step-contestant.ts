/**
 * One contestant of `npm run bench -- step`, in a process of its own: TensorFlow reads its thread counts once. Says
 * `ready LOSS` (the mean loss of a fixed batch under fixed weights, to check that it computes the same), then answers
 * each line `run SECONDS` on stdin with `result ROWS SECONDS`: the sum of the slots' rates, each over whole steps of its own, times the seconds.
 *
 * Arguments: mode (eager | compiled | slots), model, rows of a batch, number of slots, augmentation (none), shards of a
 * step (8): so many tasks share one version of the weights.
 */
import '@tensorflow/tfjs-backend-cpu';
import { backend } from '@tensorflow/tfjs-core';
import { performance } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { initialWeights } from '../../coordinator/initial-weights.js';
import { augmentationOf } from '../../shared/augmentation.js';
import { parseRunConfig } from '../../shared/config.js';
import { loadDataset } from '../../shared/dataset/load.js';
import { compileModel } from '../../shared/models/compile.js';
import { loadTopology } from '../../shared/models/topology.js';
import type { RunSpec } from '../../shared/protocol/messages.js';
import { ComputePool } from '../../worker/compute-pool.js';

const [mode, modelName = '', rowsText, slotsText, augment = 'none', shardsText = '8'] = process.argv.slice(2);
const shards = Number(shardsText);
const batchRows = Number(rowsText);
const slots = Number(slotsText);

(backend() as { firstUse?: boolean }).firstUse = false;
const dataset = loadDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env });
const { imageShape, classNames, trainRows } = dataset.info;
const model = await compileModel(
  loadTopology(modelName, imageShape, classNames.length),
  imageShape,
  classNames.length,
  null,
);
const spec: RunSpec = {
  seed: 1,
  batchSize: batchRows,
  shards: 1,
  evaluationRows: batchRows,
  step: mode === 'eager' ? 'eager' : 'compiled',
  recipe: { augmentation: augmentationOf(parseRunConfig({ augment })), labelSmoothing: 0, pixelMax: 255 },
  dataset: dataset.info,
  layout: model.layout,
  topology: { ...model.training },
};
const text = Buffer.from(JSON.stringify(spec));
const specMemory = new SharedArrayBuffer(text.byteLength);
new Uint8Array(specMemory).set(text);
const run = {
  id: 1,
  spec: specMemory,
  rows: {
    images: dataset.images.buffer as SharedArrayBuffer,
    labels: dataset.labels.buffer as SharedArrayBuffer,
  },
};
const weights = new SharedArrayBuffer(model.layout.size * Float32Array.BYTES_PER_ELEMENT);
new Float32Array(weights).set(initialWeights(model, 1, 0));

const pool = new ComputePool(slots);
await pool.warmUp();
const outs = Array.from({ length: slots }, () => new Float32Array(new SharedArrayBuffer(weights.byteLength)));
let next = 0;

/** One gradient of the next rows, on whichever slot is free. */
async function step(slot: number): Promise<number> {
  const start = (next++ * batchRows) % (trainRows - batchRows);
  const rows = Uint32Array.from({ length: batchRows }, (_, i) => start + i);
  const out = outs[slot] as Float32Array;
  // New weights as often as in training: each of a step's shards is one task.
  const version = String(Math.floor(next / shards));
  const place = { seed: 1, trial: 0, epoch: 0, shard: 0, position: start };
  const batches = [{ rows, seed: Int32Array.of(1, 2), place }];
  const task = { run, weights: { version, values: weights }, out, batches };
  const { lossSum } = await pool.gradient(task);
  return lossSum;
}

// The first batch compiles; its loss is the check.
const losses = await Promise.all(outs.map((_, slot) => ((next = 0), step(slot))));
process.stdout.write(`ready ${(losses[0] as number) / batchRows}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const seconds = Number(line.split(' ')[1]);
  const startedAt = performance.now();
  const until = startedAt + seconds * 1000;
  let missing = slots;
  const rates = await Promise.all(
    outs.map(async (_, slot) => {
      let steps = 0;
      let now = startedAt;
      for (; now < until; now = performance.now()) {
        await step(slot);
        steps++;
      }
      missing--;
      // The others' last step is not to be faster for having the machine to itself.
      while (missing > 0) await step(slot);
      return (steps * batchRows * 1000) / (now - startedAt);
    }),
  );
  const rate = rates.reduce((sum, each) => sum + each, 0);
  process.stdout.write(`result ${rate * seconds} ${seconds}\n`);
}
await pool.close();
