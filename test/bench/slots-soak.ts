/**
 * `npm run bench -- slots-soak`: 20,000 steps of a tiny model on four slots, twice: undisturbed, and with threads
 * killed at random moments. Says whether tensors and memory stay flat and whether the results are the same bits.
 */
import '@tensorflow/tfjs-backend-cpu';
import { createHash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { backend } from '@tensorflow/tfjs-core';
import { ComputePool } from '../../worker/compute-pool.js';
import { tensorflowSettings } from '../../worker/tensorflow-settings.js';
import { modelFixture, PLACE, TINY, TINY_IMAGE } from '../support/model-fixture.js';
import { circumstances, publish } from './results.js';

const STEPS = 20_000;
const SLOTS = 4;
const ROWS = 16;
const TRAIN_ROWS = 1_000;
/** Steps between two kills, on average. */
const STEPS_PER_KILL = 400;
const SAMPLES = 40;

Object.assign(process.env, tensorflowSettings(SLOTS, process.env));
(backend() as { firstUse?: boolean }).firstUse = false;

// Memory is read after a collection, here and in the threads, which start later: garbage would hide a leak, or look like one.
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const fixture = await modelFixture(TINY, TINY_IMAGE, 3);
const { spec, model, weights: initial, pixels, batch } = fixture;
const text = Buffer.from(JSON.stringify(spec));
const specMemory = new SharedArrayBuffer(text.byteLength);
new Uint8Array(specMemory).set(text);
const data = batch(TRAIN_ROWS);
const images = new SharedArrayBuffer(TRAIN_ROWS * pixels);
new Uint8Array(images).set(data.images);
const labels = new SharedArrayBuffer(TRAIN_ROWS);
new Uint8Array(labels).set(data.labels);

interface Outcome {
  readonly hash: string;
  readonly rss: number[];
  readonly tensors: number[];
  readonly kills: number;
  readonly retries: number;
  readonly tensorflow: string;
}

async function soak(id: number, killing: boolean): Promise<Outcome> {
  const pool = new ComputePool(SLOTS);
  const { tensorflow } = await pool.warmUp();
  const run = { id, spec: specMemory, rows: { images, labels } };
  const weights = new SharedArrayBuffer(model.layout.size * 4);
  new Float32Array(weights).set(initial);
  const outs = Array.from(
    { length: SLOTS },
    () => new Float32Array(new SharedArrayBuffer(weights.byteLength)),
  );
  const hash = createHash('sha256');
  const rss: number[] = [];
  const tensors: number[] = [];
  let kills = 0;
  let retries = 0;
  for (let step = 0; step < STEPS; step += SLOTS) {
    const tasks = outs.map((out, i) => {
      const rows = Uint32Array.from({ length: ROWS }, (_, row) => ((step + i) * ROWS + row) % TRAIN_ROWS);
      return pool.gradient({
        run,
        weights: { version: String(step), values: weights },
        out,
        batches: [{ rows, seed: Int32Array.of(step, i), place: PLACE }],
      });
    });
    if (killing && Math.random() < SLOTS / STEPS_PER_KILL) {
      const victim = pool.threads[Math.floor(Math.random() * pool.threads.length)];
      void victim?.terminate();
      kills++;
    }
    for (const result of await Promise.all(tasks)) retries += result.retries;
    for (const out of outs) hash.update(new Uint8Array(out.buffer));
    if (step % (STEPS / SAMPLES) === 0) {
      // A thread that was killed a moment ago may take the question with it.
      const held = await pool.memory().catch((error: unknown) => {
        if (!killing) throw error;
      });
      if (!killing && held !== undefined) tensors.push(held.nativeTensors);
      collectGarbage();
      rss.push(process.memoryUsage().rss);
    }
  }
  await pool.close();
  return { hash: hash.digest('hex'), rss, tensors, kills, retries, tensorflow };
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
const quarter = (values: readonly number[], index: number): number => {
  const size = Math.floor(values.length / 4);
  return mean(values.slice(index * size, (index + 1) * size));
};
const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

const calm = await soak(1, false);
const disturbed = await soak(2, true);
publish(
  'slots-soak',
  `# ${STEPS.toLocaleString('en-US')} steps of a tiny model on ${SLOTS} slots

${circumstances(calm.tensorflow)}

| | undisturbed | threads killed at random |
|---|---|---|
| kills, tasks run again | 0, ${calm.retries} | ${disturbed.kills}, ${disturbed.retries} |
| SHA-256 over all gradients | ${calm.hash.slice(0, 16)} | ${disturbed.hash.slice(0, 16)} (${calm.hash === disturbed.hash ? 'the same' : 'DIFFERENT'}) |
| native tensors, second and last quarter | ${quarter(calm.tensors, 1)}, ${quarter(calm.tensors, 3)} | |
| resident memory, second and last quarter | ${mib(quarter(calm.rss, 1))}, ${mib(quarter(calm.rss, 3))} | ${mib(quarter(disturbed.rss, 1))}, ${mib(quarter(disturbed.rss, 3))} |
`,
);
if (calm.hash !== disturbed.hash) process.exitCode = 1;
