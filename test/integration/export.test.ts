import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { exportLayersModel } from '../../coordinator/export-model.js';
import { safetensors } from '../../results/export/safetensors.js';
import { readExportedModel } from '../../shared/models/exported-model.js';
import { PRESETS, type Topology } from '../../shared/models/presets.js';
import { exportSavedModel } from '../../worker/compiled/export-saved-model.js';
import { NativeModel } from '../../worker/native-model.js';
import { tf } from '../../worker/tensorflow.js';
import { modelFixture, NORMALIZED, UNUSUAL } from '../support/model-fixture.js';
import { hasPeer, runPeer } from '../support/peers.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder();
const NETWORKS: Readonly<Record<string, Topology>> = {
  lenet: PRESETS.lenet([28, 28, 1], 10),
  cnn: PRESETS.cnn([28, 28, 1], 10),
  dense: PRESETS.dense([28, 28, 1], 10),
  normalized: NORMALIZED,
  unusual: UNUSUAL,
};
const PIXELS = 784;
const ROWS = 40;
/** Python's TensorFlow takes its time to load. */
const PEER_TIMEOUT_MS = 120_000;

let made = 0;

interface Exported {
  readonly model: NativeModel;
  readonly folder: string;
  readonly images: Uint8Array;
}

async function exported(name: string): Promise<Exported> {
  const fixture = await modelFixture(NETWORKS[name] as Topology);
  const plain = join(root, `${name}-${++made}`);
  mkdirSync(plain);
  exportLayersModel(plain, fixture.model, fixture.weights);
  const model = await NativeModel.create(readExportedModel(plain));
  const folder = join(plain, 'saved');
  mkdirSync(folder);
  writeFileSync(join(folder, 'saved_model.pb'), exportSavedModel(model));
  return { model, folder, images: fixture.batch(ROWS).images };
}

const inputOf = (images: Uint8Array): Float32Array =>
  Float32Array.from(images, (value) => Math.fround(value / 255));
const worstDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] ?? Number.NaN))), 0);

describe('an exported SavedModel', () => {
  test.each(Object.keys(NETWORKS))('of %s predicts any number of rows as the network does', async (name) => {
    const { model, folder, images } = await exported(name);
    const before = tf.memory().numTensors;
    const saved = await tf.node.loadSavedModel(folder);
    for (const rows of [1, 4, ROWS]) {
      const batch = images.subarray(0, rows * PIXELS);
      const input = tf.tensor(inputOf(batch), [rows, 28, 28, 1]);
      const { probabilities } = saved.predict({ images: input }) as Record<
        string,
        ReturnType<typeof tf.tensor>
      >;
      expect(probabilities?.shape).toEqual([rows, 10]);
      expect(
        worstDifference(probabilities?.dataSync<'float32'>() ?? new Float32Array(), model.predict(batch)),
      ).toBeLessThan(1e-6);
      probabilities?.dispose();
      input.dispose();
    }
    saved.dispose();
    expect(tf.memory().numTensors).toBe(before);
    model.dispose();
  });

  test.skipIf(!hasPeer('tensorflow'))(
    "of each network predicts the same in Python's TensorFlow",
    async () => {
      const all = await Promise.all(Object.keys(NETWORKS).map(exported));
      for (const { folder, images } of all) writeFileSync(join(folder, 'images'), inputOf(images));
      await runPeer('predict_saved_model.py', '28', '28', '1', ...all.map(({ folder }) => folder));
      for (const { model, folder, images } of all) {
        const theirs = new Float32Array(new Uint8Array(readFileSync(join(folder, 'out'))).buffer);
        expect(theirs).toHaveLength(ROWS * 10);
        expect(worstDifference(theirs, model.predict(images))).toBeLessThan(1e-5);
        model.dispose();
      }
    },
    PEER_TIMEOUT_MS,
  );
});

describe('exported safetensors', () => {
  const weights = [
    { name: 'a/kernel', shape: [2, 3], values: Float32Array.of(1, 2, 3, 4, 5, 6) },
    { name: 'a/bias', shape: [3], values: Float32Array.of(-1, 0.5, 7) },
  ];

  test('have a header of known length, padded, and the values in its order', () => {
    const bytes = safetensors(weights, { by: 'test' });
    const length = Number(bytes.readBigUInt64LE(0));
    expect(length % 8).toBe(0);
    expect(JSON.parse(bytes.toString('utf8', 8, 8 + length))).toEqual({
      __metadata__: { by: 'test' },
      'a/kernel': { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
      'a/bias': { dtype: 'F32', shape: [3], data_offsets: [24, 36] },
    });
    expect(bytes.length).toBe(8 + length + 36);
    expect(bytes.readFloatLE(8 + length + 24)).toBe(-1);
  });

  test.skipIf(!hasPeer('safetensors'))("are read by Python's safetensors", async () => {
    const path = join(root, 'a.safetensors');
    writeFileSync(path, safetensors(weights, { by: 'test' }));
    expect(JSON.parse(await runPeer('read_safetensors.py', path))).toEqual({
      metadata: { by: 'test' },
      tensors: { 'a/kernel': [[2, 3], 'float32', 21, 1], 'a/bias': [[3], 'float32', 6.5, -1] },
    });
  });
});
