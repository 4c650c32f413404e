import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mkdirSync } from 'node:fs';
import { exportLayersModel } from '../../coordinator/export-model.js';
import { readExportedModel } from '../../shared/models/exported-model.js';
import { PRESETS } from '../../shared/models/presets.js';
import { NativeModel } from '../../worker/native-model.js';
import { tf } from '../../worker/tensorflow.js';
import { atelierError } from '../support/errors.js';
import { modelFixture } from '../support/model-fixture.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = join(temporaryFolder(), 'model');
const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
const { images } = fixture.batch(300);
let model: NativeModel;

beforeAll(async () => {
  mkdirSync(folder);
  exportLayersModel(folder, fixture.model, fixture.weights);
  model = await NativeModel.create(readExportedModel(folder));
});
afterAll(() => model.dispose());

describe('a model run natively', () => {
  test('predicts what tfjs predicts of it, in batches', async () => {
    const plain = await tf.loadLayersModel(`file://${join(folder, 'model.json')}`);
    const x = tf.tensor(Float32Array.from(images), [300, 28, 28, 1]).div(255);
    const expected = (plain.predict(x) as ReturnType<typeof tf.tensor>).dataSync();
    const probabilities = model.predict(images);
    expect(probabilities).toHaveLength(3_000);
    const worst = probabilities.reduce((most, p, i) => Math.max(most, Math.abs(p - (expected[i] ?? 2))), 0);
    expect(worst).toBeLessThan(1e-6);
    plain.dispose();
  });

  test('shows what each layer gives; the last gives the prediction', () => {
    const image = images.subarray(0, 784);
    const [first, last] = model.layerOutputs(image, ['conv1', 'output']);
    expect(first).toMatchObject({ layer: 'conv1', type: 'Conv2D', shape: [28, 28, 6] });
    expect(first?.values).toHaveLength(28 * 28 * 6);
    expect([...(last?.values ?? [])]).toEqual([...model.predict(image)]);
  });

  test('names its layers when one is asked for that it has not', () => {
    const error = atelierError('usage', () => model.layerOutputs(images.subarray(0, 784), ['conv9']));
    expect(error.message).toBe(
      'no layer "conv9": the model has conv1, pool1, conv2, pool2, conv3, flatten, dense1, output',
    );
  });

  test('gives the kernels of its convolutions', () => {
    const kernels = model.kernels();
    expect(kernels.map(({ layer, shape }) => [layer, ...shape])).toEqual([
      ['conv1', 5, 5, 1, 6],
      ['conv2', 5, 5, 6, 16],
      ['conv3', 5, 5, 16, 120],
    ]);
    expect(kernels[0]?.values).toEqual(fixture.weights.subarray(0, 150));
  });

  test('leaves no tensor behind', () => {
    const before = tf.memory().numTensors;
    model.predict(images);
    model.layerOutputs(images.subarray(0, 784), ['conv1', 'pool2']);
    model.kernels();
    expect(tf.memory().numTensors).toBe(before);
  });
});
