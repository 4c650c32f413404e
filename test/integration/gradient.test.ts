import * as tf from '@tensorflow/tfjs-node';
import { describe, expect, test } from 'vitest';
import { initialWeights } from '../../coordinator/initial-weights.js';
import { loadDataset } from '../../shared/dataset/load.js';
import { addGradientSums, type GradientSum } from '../../shared/gradient-sum.js';
import { compileModel, type CompiledModel } from '../../shared/models/compile.js';
import { loadTopology } from '../../shared/models/topology.js';
import type { RunSpec } from '../../shared/protocol/messages.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { ShardPlan } from '../../shared/shards.js';
import { TreeSum } from '../../shared/tree.js';
import { CompiledFunctions } from '../../worker/compiled/compiled-functions.js';
import { EagerFunctions } from '../../worker/eager-functions.js';
import { EagerLock } from '../../worker/eager-lock.js';
import type { Batch, ModelFunctions } from '../../worker/model-functions.js';

const BATCH = 256;
const SHARDS = 8;
const dataset = loadDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env });
const { imageShape, classNames } = dataset.info;
const ROWS = Uint32Array.from({ length: BATCH }, (_, i) => 5_000 + i);
const PIXELS = imageShape[0] * imageShape[1] * imageShape[2];

/**
 * Real images with a little noise. Flat areas have equal maxima in a pool, and which of the equals gets the
 * gradient is up to the last bit: without noise the gradient of the whole batch is not defined well enough.
 */
function batchOf(rows: Uint32Array): Batch {
  const images = new Uint8Array(rows.length * PIXELS);
  rows.forEach((row, i) => {
    const noise = new RandomStream({
      seed: 1,
      purpose: Purpose.augmentation,
      trial: 0,
      epoch: 0,
      shard: row,
    });
    for (let p = 0; p < PIXELS; p++) {
      images[i * PIXELS + p] = 0.8 * (dataset.images[row * PIXELS + p] ?? 0) + noise.below(50);
    }
  });
  const labels = Int32Array.from(rows, (row) => dataset.labels[row] ?? -1);
  return { rows: rows.length, images, labels, seed: Int32Array.of(1, 2) };
}

const specOf = ({ layout, training }: CompiledModel): RunSpec => ({
  seed: 1,
  batchSize: BATCH,
  shards: SHARDS,
  evaluationRows: 250,
  step: 'auto',
  recipe: { augmentation: null, labelSmoothing: 0, pixelMax: 255 },
  dataset: dataset.info,
  layout,
  topology: { ...training },
});

/** The whole batch at once, in plain tfjs: the mean loss and its gradient, by the weights' names. */
async function reference(
  { layout, training }: CompiledModel,
  weights: Float32Array,
  { rows, images, labels }: Batch,
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const model = await tf.models.modelFromJSON(structuredClone(training) as never);
  model.setWeights(
    layout.tensors.map(({ offset, size, shape }) =>
      tf.tensor(weights.subarray(offset, offset + size), shape),
    ),
  );
  const { value, grads } = tf.variableGrads(() => {
    const x = tf.tensor4d(Float32Array.from(images), [rows, ...imageShape]).div(255);
    const logits = model.apply(x, { training: true }) as tf.Tensor2D;
    const truth = tf.oneHot(tf.tensor1d(labels, 'int32'), classNames.length);
    return tf.logSumExp(logits, 1).sub(logits.mul(truth).sum(1)).mean();
  });
  const gradients = new Map<string, Float32Array>();
  for (const weight of model.weights) {
    const gradient = grads[weight.name];
    if (gradient !== undefined) gradients.set(weight.originalName, (await gradient.data()) as Float32Array);
  }
  return { loss: (await value.data())[0] ?? Number.NaN, gradients };
}

/** One step as the cluster does it: shards apart, reduced along the tree. */
function reduced(functions: ModelFunctions, model: CompiledModel, weights: Float32Array): GradientSum {
  const plan = new ShardPlan(ROWS, SHARDS, BATCH);
  const tree = new TreeSum<GradientSum>({ start: 0, count: SHARDS }, addGradientSums);
  let total: GradientSum | undefined;
  for (let shard = 0; shard < SHARDS; shard++) {
    const batch = batchOf(plan.epochOrder(1, 0, 0, shard));
    const values = new Float32Array(model.layout.size);
    const figures = functions.gradient({ version: 'one', values: weights }, batch, values);
    total = tree.add({ start: shard, count: 1 }, { rows: batch.rows, ...figures, values });
  }
  if (total === undefined) throw new Error('the tree is complete');
  return total;
}

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += ((actual[i] ?? NaN) - (expected[i] ?? NaN)) ** 2;
    norm += (expected[i] ?? NaN) ** 2;
  }
  return Math.sqrt(difference / norm);
}

/**
 * Rounding decides the side of a rectifier, or the largest of a pool, for one in a million of inputs this near to each
 * other, and each takes its whole gradient with it: the square root of that is how well the gradient is defined. Fewer,
 * smaller inputs agree to 1e-5 (compiled.test.ts).
 */
const RECTIFIED_TOLERANCE = 2e-3;

const KINDS = { eager: EagerFunctions, compiled: CompiledFunctions } as const;

describe.each(['lenet', 'cnn', 'dense'])('the gradient of %s', async (name) => {
  const model = await compileModel(loadTopology(name, imageShape, 10), imageShape, 10, null);
  const weights = initialWeights(model, 1, 0);
  const whole = batchOf(ROWS);

  test.each(['eager', 'compiled'] as const)('of 8 shards, %s, is that of the whole batch', async (kind) => {
    const functions = await KINDS[kind].create(specOf(model), new EagerLock(EagerLock.memory()));
    try {
      const sum = reduced(functions, model, weights);
      const { loss, gradients } = await reference(model, weights, whole);
      const errors = model.layout.tensors.map(({ name: tensor, offset, size }) => {
        const mean = sum.values?.subarray(offset, offset + size).map((value) => value / sum.rows) ?? [];
        return [tensor, relativeError(mean, gradients.get(tensor) ?? [])] as const;
      });
      // The compiled cnn rounds its largest convolution in another way (spectral-convolution.test.ts compares it alone).
      const tolerance = name === 'cnn' && kind === 'compiled' ? RECTIFIED_TOLERANCE : 1e-5;
      expect(errors.filter(([, error]) => !(error < tolerance))).toEqual([]);
      expect(sum.rows).toBe(BATCH);
      expect(Math.abs(sum.lossSum / BATCH / loss - 1)).toBeLessThan(1e-6);
    } finally {
      functions.dispose();
    }
  });

  test.each(['eager', 'compiled'] as const)('is the same to the bit every time, %s', async (kind) => {
    const functions = await KINDS[kind].create(specOf(model), new EagerLock(EagerLock.memory()));
    try {
      const first = reduced(functions, model, weights);
      expect(reduced(functions, model, weights)).toEqual(first);
    } finally {
      functions.dispose();
    }
  });
});

describe('the gradient of resnet', async () => {
  const model = await compileModel(loadTopology('resnet', imageShape, 10), imageShape, 10, null);
  const weights = initialWeights(model, 1, 0);
  const plan = new ShardPlan(ROWS, SHARDS, BATCH);

  test('of 8 shards, compiled, is the sum of the shards as plain tfjs has them: each is normalized by itself', async () => {
    const functions = await CompiledFunctions.create(specOf(model), new EagerLock(EagerLock.memory()));
    try {
      const sum = reduced(functions, model, weights);
      const expected = new Float64Array(model.layout.trainable);
      let loss = 0;
      for (let shard = 0; shard < SHARDS; shard++) {
        const batch = batchOf(plan.epochOrder(1, 0, 0, shard));
        const { loss: mean, gradients } = await reference(model, weights, batch);
        loss += mean / SHARDS;
        for (const { name, offset } of model.layout.tensors) {
          gradients.get(name)?.forEach((value, i) => {
            expected[offset + i] = (expected[offset + i] ?? 0) + value * batch.rows;
          });
        }
      }
      const errors = model.layout.tensors
        .filter(({ offset }) => offset < model.layout.trainable)
        .map(({ name, offset, size }) => {
          const part = sum.values?.subarray(offset, offset + size) ?? [];
          return [name, relativeError(part, expected.subarray(offset, offset + size))] as const;
        });
      expect(errors.filter(([, error]) => !(error < RECTIFIED_TOLERANCE))).toEqual([]);
      expect(Math.abs(sum.lossSum / BATCH / loss - 1)).toBeLessThan(1e-6);
    } finally {
      functions.dispose();
    }
  });

  test('is the same to the bit every time', async () => {
    const functions = await CompiledFunctions.create(specOf(model), new EagerLock(EagerLock.memory()));
    try {
      expect(reduced(functions, model, weights)).toEqual(reduced(functions, model, weights));
    } finally {
      functions.dispose();
    }
  });
});

test('computing gradients leaves no tensors behind', async () => {
  const model = await compileModel(loadTopology('lenet', imageShape, 10), imageShape, 10, null);
  const weights = initialWeights(model, 1, 0);
  const functions = await EagerFunctions.create(specOf(model), new EagerLock(EagerLock.memory()));
  reduced(functions, model, weights);
  const before = tf.memory().numTensors;
  reduced(functions, model, weights);
  expect(tf.memory().numTensors).toBe(before);
  functions.dispose();
});
