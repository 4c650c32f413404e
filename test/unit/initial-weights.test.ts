import '../support/cpu-backend.js';
import { describe, expect, test } from 'vitest';
import { initialWeights } from '../../coordinator/initial-weights.js';
import { makeLayout, weightsSha256 } from '../../shared/layout.js';
import { compileModel, type CompiledModel, type InitializerConfig } from '../../shared/models/compile.js';
import type { Topology } from '../../shared/models/presets.js';
import { loadTopology } from '../../shared/models/topology.js';
import { atelierError } from '../support/errors.js';

const lenet = await compileModel(loadTopology('lenet', [28, 28, 1], 10), [28, 28, 1], 10, null);

const NOTHING: Topology = { class_name: 'Sequential', config: {} };

/** A model of tensors alone, each with its initializer. */
function modelOf(tensors: readonly (readonly [number[], InitializerConfig])[]): CompiledModel {
  return {
    topology: NOTHING,
    training: NOTHING,
    layout: makeLayout(
      tensors.map(([shape], i) => ({ name: `t${i}`, shape })),
      [],
    ),
    recipes: tensors.map(([, initializer]) => ({ initializer, l1: 0, l2: 0 })),
  };
}

const scaling = (scale: number, mode: string, distribution: string): InitializerConfig => ({
  className: 'VarianceScaling',
  config: { scale, mode, distribution },
});
const GLOROT = scaling(1, 'fanAvg', 'uniform');
const HE = scaling(2, 'fanIn', 'normal');
const draw = (shape: number[], initializer: InitializerConfig): Float32Array =>
  initialWeights(modelOf([[shape, initializer]]), 1, 0);

function moments(values: Float32Array): { mean: number; deviation: number; largest: number } {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length;
  return {
    mean,
    deviation: Math.sqrt(variance),
    largest: values.reduce((most, x) => Math.max(most, Math.abs(x)), 0),
  };
}

function tensor(weights: Float32Array, name: string): Float32Array {
  const spec = lenet.layout.tensors.find((t) => t.name === name);
  if (spec === undefined) throw new Error(`no tensor ${name}`);
  return weights.subarray(spec.offset, spec.offset + spec.size);
}

describe('Glorot uniform', () => {
  test.each([
    ['a matrix', [200, 300], 200 + 300],
    ['a convolution', [5, 5, 30, 40], 25 * (30 + 40)],
  ])('keeps to its limits and moments for %s', (_name, shape, fans) => {
    const limit = Math.sqrt(6 / fans);
    const { mean, deviation, largest } = moments(draw(shape, GLOROT));
    expect(largest).toBeLessThanOrEqual(Math.fround(limit));
    expect(largest).toBeGreaterThan(0.99 * limit);
    expect(Math.abs(mean)).toBeLessThan(0.02 * limit);
    expect(deviation / (limit / Math.sqrt(3))).toBeCloseTo(1, 1);
  });
});

describe('He normal', () => {
  test('has variance 2 / fan-in, and is cut off at two standard deviations of the normal it is cut from', () => {
    const expected = Math.sqrt(2 / 200);
    const { mean, deviation, largest } = moments(draw([200, 300], HE));
    expect(Math.abs(mean)).toBeLessThan(0.02 * expected);
    expect(Math.abs(deviation / expected - 1)).toBeLessThan(0.01);
    expect(largest).toBeLessThanOrEqual((2 * expected) / 0.8796);
  });
});

describe('the other initializers', () => {
  test.each([
    ['Zeros', {}, [0, 0, 0, 0]],
    ['Ones', {}, [1, 1, 1, 1]],
    ['Constant', { value: 0.5 }, [0.5, 0.5, 0.5, 0.5]],
    ['Identity', { gain: 3 }, [3, 0, 0, 3]],
  ])('%s gives what it says', (className, config, values) => {
    expect([...draw([2, 2], { className, config })]).toEqual(values);
  });

  test('RandomUniform keeps to its bounds', () => {
    const values = draw([5_000], { className: 'RandomUniform', config: { minval: 2, maxval: 3 } });
    expect(values.every((x) => x >= 2 && x <= 3)).toBe(true);
    expect(Math.abs(moments(values).mean - 2.5)).toBeLessThan(0.02);
  });

  test('RandomNormal has its mean and deviation', () => {
    const { mean, deviation } = moments(
      draw([20_000], { className: 'RandomNormal', config: { mean: 1, stddev: 0.2 } }),
    );
    expect(Math.abs(mean - 1)).toBeLessThan(0.01);
    expect(Math.abs(deviation - 0.2)).toBeLessThan(0.01);
  });

  test('TruncatedNormal stays within two deviations', () => {
    const { largest } = moments(
      draw([20_000], { className: 'TruncatedNormal', config: { mean: 0, stddev: 1 } }),
    );
    expect(largest).toBeLessThanOrEqual(2);
    expect(largest).toBeGreaterThan(1.9);
  });

  test.each([
    ['Orthogonal', [2, 2]],
    ['Identity', [2, 3]],
  ])('%s of [%j] is refused', (className, shape) => {
    atelierError('model', () => draw(shape, { className, config: {} }));
  });
});

describe('initial weights', () => {
  test('have zeros for biases and no two equal kernels', () => {
    const weights = initialWeights(lenet, 1, 0);
    expect(tensor(weights, 'conv1/bias').every((x) => x === 0)).toBe(true);
    expect(tensor(weights, 'conv1/kernel').some((x) => x === 0)).toBe(false);
  });

  test('draw each tensor from a stream of its own', () => {
    const all = initialWeights(
      modelOf([
        [[50], GLOROT],
        [[50], GLOROT],
      ]),
      1,
      0,
    );
    const longer = initialWeights(
      modelOf([
        [[70], GLOROT],
        [[50], GLOROT],
      ]),
      1,
      0,
    );
    expect(all.subarray(50)).toEqual(longer.subarray(70));
    expect(all.subarray(0, 50)).not.toEqual(all.subarray(50));
  });

  test('are the same for the same seed and trial', () => {
    expect(initialWeights(lenet, 7, 3)).toEqual(initialWeights(lenet, 7, 3));
  });

  test.each([
    ['seed', 2, 0],
    ['trial', 1, 1],
  ])('are other weights for another %s', (_name, seed, trial) => {
    const first = tensor(initialWeights(lenet, 1, 0), 'conv2/kernel');
    const other = tensor(initialWeights(lenet, seed, trial), 'conv2/kernel');
    const equal = first.filter((value, i) => value === other[i]).length;
    expect(equal).toBeLessThan(3);
  });

  test('of lenet and seed 1 are the bits they always were', () => {
    expect(weightsSha256(initialWeights(lenet, 1, 0))).toBe(
      '73594f12916c27ce7075fdc363686535f9e1b77b8f42b33f6d249108d5437535',
    );
  });
});
