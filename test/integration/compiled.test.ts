import { readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { beforeAll, describe, expect, test } from 'vitest';
import { PRESETS, type Topology } from '../../shared/models/presets.js';
import { CompiledFunctions } from '../../worker/compiled/compiled-functions.js';
import { trace, TraceRefused } from '../../worker/compiled/trace.js';
import { EagerFunctions } from '../../worker/eager-functions.js';
import { EagerLock } from '../../worker/eager-lock.js';
import { nodeBackend, tf } from '../../worker/tensorflow.js';
import {
  modelFixture,
  NORMALIZED,
  relativeError,
  TINY,
  TINY_IMAGE,
  UNUSUAL,
} from '../support/model-fixture.js';

const lock = new EagerLock(EagerLock.memory());

beforeAll(() => tf.ready());

describe('the compiled step', () => {
  const topologies: [string, Topology][] = [
    ['lenet', PRESETS.lenet([28, 28, 1], 10)],
    ['cnn', PRESETS.cnn([28, 28, 1], 10)],
    ['dense', PRESETS.dense([28, 28, 1], 10)],
    ['resnet', PRESETS.resnet([28, 28, 1], 10)],
    ['a model with batch normalization, dropout and noise', NORMALIZED],
    ['a model of layers that no preset has', UNUSUAL],
  ];

  test.each(topologies)('gives the eager gradients of %s', async (_name, topology) => {
    const { spec, weights, model, batch } = await modelFixture(topology);
    const [eager, compiled] = await Promise.all([
      EagerFunctions.create(spec, lock),
      CompiledFunctions.create(spec, lock),
    ]);
    const rows = batch(9);
    const expected = new Float32Array(model.layout.size);
    const got = new Float32Array(model.layout.size);
    const reference = eager.gradient({ version: 'one', values: weights }, rows, expected);
    const figures = compiled.gradient({ version: 'one', values: weights }, rows, got);
    for (const { name, offset, size } of model.layout.tensors) {
      const error = relativeError(
        got.subarray(offset, offset + size),
        expected.subarray(offset, offset + size),
      );
      expect(error, name).toBeLessThan(1e-5);
    }
    expect(figures.correct).toBe(reference.correct);
    expect(figures.lossSum / reference.lossSum).toBeCloseTo(1, 5);
    const evaluated = compiled.evaluate({ version: 'one', values: weights }, rows);
    expect([...evaluated.predictions]).toEqual([
      ...eager.evaluate({ version: 'one', values: weights }, rows).predictions,
    ]);
    eager.dispose();
    compiled.dispose();
  });

  test.each([
    ['', 0, CompiledFunctions],
    [', with smoothed labels', 0.1, CompiledFunctions],
    [', with smoothed labels, as the eager step does', 0.1, EagerFunctions],
  ])('agrees with central finite differences in float64%s', async (_how, labelSmoothing, functions) => {
    const { spec, weights, model, batch } = await modelFixture(TINY, TINY_IMAGE, 3);
    const compiled = await functions.create({ ...spec, recipe: { ...spec.recipe, labelSmoothing } }, lock);
    const rows = batch(7);
    const got = new Float32Array(model.layout.size);
    const { lossSum } = compiled.gradient({ version: 'one', values: weights }, rows, got);
    const h = 1e-5;
    const exact = Float64Array.from(weights);
    const numeric = exact.map((_, i) => {
      const shifted = (by: number): number =>
        tinyLossSum(exact.with(i, (exact[i] ?? 0) + by), rows, labelSmoothing);
      return (shifted(h) - shifted(-h)) / (2 * h);
    });
    expect(relativeError(got, numeric)).toBeLessThan(1e-3);
    expect(lossSum).toBeCloseTo(tinyLossSum(exact, rows, labelSmoothing), 5);
    const { lossSum: evaluated } = compiled.evaluate({ version: 'one', values: weights }, rows);
    expect(evaluated).toBeCloseTo(tinyLossSum(exact, rows, 0), 5);
    compiled.dispose();
  });

  test('draws dropout from the seed alone: same seed same bits, another seed another mask', async () => {
    const { spec, weights, model, batch } = await modelFixture(NORMALIZED);
    const compiled = await CompiledFunctions.create(spec, lock);
    const rows = batch(8);
    const gradient = (seed: Int32Array): Float32Array => {
      const out = new Float32Array(model.layout.size);
      compiled.gradient({ version: 'one', values: weights }, { ...rows, seed }, out);
      return out;
    };
    const first = gradient(Int32Array.of(1, 2));
    expect(gradient(Int32Array.of(1, 2))).toEqual(first);
    expect(relativeError(gradient(Int32Array.of(1, 3)), first)).toBeGreaterThan(0.01);
    compiled.dispose();
  });

  test('reports how the moving statistics of batch normalization change', async () => {
    const { spec, weights, model, batch } = await modelFixture(NORMALIZED);
    const compiled = await CompiledFunctions.create(spec, lock);
    const out = new Float32Array(model.layout.size);
    compiled.gradient({ version: 'one', values: weights }, batch(8), out);
    const change = out.subarray(model.layout.trainable);
    expect(change.length).toBe(8);
    expect(change.some((value) => value !== 0)).toBe(true);
    compiled.dispose();
  });

  test('of staged rows is the same, and what was staged is gone with it or with another batch', async () => {
    const { spec, weights, model, batch } = await modelFixture(TINY, TINY_IMAGE, 3);
    const compiled = await CompiledFunctions.create(spec, lock);
    const gradient = (version: string, rows: ReturnType<typeof batch>): number[] => {
      const out = new Float32Array(model.layout.size);
      compiled.gradient({ version, values: weights }, rows, out);
      return [...out];
    };
    const tensors = (): number => nodeBackend().binding.getNumOfTensors();
    const [one, other] = [batch(4, 1), batch(4, 2)];
    const expected = gradient('before', one);
    const held = tensors();
    compiled.stage('after', one);
    expect(gradient('after', one)).toEqual(expected);
    expect(tensors()).toBe(held);
    compiled.stage('later', other);
    expect(gradient('later', one)).toEqual(expected);
    expect(tensors()).toBe(held);
    compiled.stage('last', other);
    compiled.dispose();
    expect(tensors()).toBeLessThan(held);
  });

  test('leaves no tensor, session or file behind', async () => {
    const { spec, weights, model, batch } = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
    const files = (): number =>
      readdirSync(tmpdir()).filter((name) => name.startsWith(`atelier-graph-${process.pid}-`)).length;
    const before = [tf.memory().numTensors, nodeBackend().binding.getNumOfSavedModels()];
    const compiled = await CompiledFunctions.create(spec, lock);
    const out = new Float32Array(model.layout.size);
    compiled.gradient({ version: 'one', values: weights }, batch(4), out);
    const held = [tf.memory().numTensors, nodeBackend().binding.getNumOfTensors()];
    for (let i = 0; i < 50; i++) compiled.gradient({ version: String(i), values: weights }, batch(4, i), out);
    expect([tf.memory().numTensors, nodeBackend().binding.getNumOfTensors()]).toEqual(held);
    expect(files()).toBe(0);
    compiled.dispose();
    expect([tf.memory().numTensors, nodeBackend().binding.getNumOfSavedModels()]).toEqual(before);
  });
});

/** Sum of softmax cross-entropies of the tiny network, in float64; of each label `smoothing` goes to all classes. */
function tinyLossSum(
  weights: Float64Array,
  { rows, images, labels }: { rows: number; images: Uint8Array; labels: Int32Array },
  smoothing: number,
): number {
  const dense = (x: number[], inputs: number, units: number, offset: number): number[] =>
    Array.from({ length: units }, (_, unit) => {
      let sum = weights[offset + inputs * units + unit] ?? 0;
      for (let i = 0; i < inputs; i++) sum += (x[i] ?? 0) * (weights[offset + i * units + unit] ?? 0);
      return sum;
    });
  let total = 0;
  for (let row = 0; row < rows; row++) {
    const x = Array.from(images.subarray(row * 16, row * 16 + 16), (pixel) => pixel / 255);
    const hidden = dense(x, 16, 5, 0).map(Math.tanh);
    const logits = dense(hidden, 5, 3, 16 * 5 + 5);
    const normalizer = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    const mean = logits.reduce((sum, logit) => sum + logit, 0) / logits.length;
    total += normalizer - (1 - smoothing) * (logits[labels[row] ?? 0] ?? 0) - smoothing * mean;
  }
  return total;
}

describe('the tracer', () => {
  const { TF_FLOAT } = nodeBackend().binding;
  const input = { name: 'x', dtype: TF_FLOAT, shape: [2], sample: Float32Array.of(1, 2) };
  const tracing = (fn: (x: tf.Tensor) => tf.Tensor) => (): unknown =>
    trace(
      [input],
      ([x]) => [fn(x as tf.Tensor)],
      () => 'some layer',
    );

  test.each([
    ['reads a value', (x: tf.Tensor) => (x.dataSync()[0] === 1 ? x : tf.neg(x)), /reads the value/],
    ['draws random numbers', (x: tf.Tensor) => tf.add(x, tf.randomUniform([2])), /random numbers/],
    ['uses an op with random state', (x: tf.Tensor) => tf.multinomial(x as tf.Tensor1D, 1), /random/],
  ])('refuses a function that %s, naming the layer', (_what, fn, message) => {
    expect(tracing(fn)).toThrow(TraceRefused);
    expect(tracing(fn)).toThrow(message);
    expect(tracing(fn)).toThrow(/some layer/);
  });

  test('refuses a tensor from outside the function', () => {
    const outside = tf.add(tf.tensor1d([1, 2]), 1);
    expect(tracing((x) => tf.add(x, outside))).toThrow(/from outside the traced function/);
    outside.dispose();
  });

  test('leaves the backend as it was after a refusal', () => {
    const { binding } = nodeBackend();
    expect(tracing((x) => tf.mul(x, x.dataSync()[0] ?? 0))).toThrow(TraceRefused);
    expect(nodeBackend().binding).toBe(binding);
    expect(Math.random()).toBeLessThan(1);
  });
});
