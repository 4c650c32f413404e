import '../support/cpu-backend.js';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { Adam } from '../../coordinator/optimizer/adam.js';
import type { Optimizer } from '../../coordinator/optimizer/optimizer.js';
import { makeOptimizer } from '../../coordinator/optimizer/make-optimizer.js';
import { Sgd } from '../../coordinator/optimizer/sgd.js';
import { parseRunConfig } from '../../shared/config.js';
import { weightsSha256 } from '../../shared/layout.js';
import { Purpose, RandomStream } from '../../shared/rng.js';

const SIZE = 1_000;

/** Uniform numbers: only exact operations, so that golden values hold on every engine. */
function numbers(index: number, scale: number): Float32Array {
  const stream = new RandomStream({
    seed: 5,
    purpose: Purpose.initialWeights,
    trial: 0,
    epoch: 0,
    shard: index,
  });
  return Float32Array.from({ length: SIZE }, () => scale * (2 * stream.uniform() - 1));
}

/** Gradients of sizes that differ by orders of magnitude, as those of a network do. */
const gradientAt = (step: number): Float32Array => numbers(step + 1, 10 ** -(step % 5));

function run(optimizer: Optimizer, steps: number): Float32Array {
  const parameters = numbers(0, 1);
  for (let step = 0; step < steps; step++) optimizer.update(parameters, gradientAt(step));
  return parameters;
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

/** How far parameters have come from where they began. */
const movement = (after: ArrayLike<number>): Float64Array => {
  const before = numbers(0, 1);
  return Float64Array.from(before, (value, i) => (after[i] ?? NaN) - value);
};

describe('Adam', () => {
  test("goes where tfjs's own Adam goes, over 20 steps", async () => {
    const variable = tf.variable(tf.tensor1d(numbers(0, 1)), true, 'parameters');
    const reference = tf.train.adam(0.001, 0.9, 0.999, 1e-7);
    for (let step = 0; step < 20; step++) {
      reference.applyGradients({ parameters: tf.variable(tf.tensor1d(gradientAt(step))) });
    }
    const expected = await variable.data();
    expect(relativeError(run(new Adam(SIZE), 20), expected)).toBeLessThan(1e-6);
  });

  test('has the defaults of Keras', () => {
    const named = new Adam(SIZE, { learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 });
    expect(run(named, 3)).toEqual(run(new Adam(SIZE), 3));
  });

  test('follows the paper in double precision', () => {
    const parameters = Float64Array.from(numbers(0, 1));
    const m = new Float64Array(SIZE);
    const v = new Float64Array(SIZE);
    for (let t = 1; t <= 20; t++) {
      gradientAt(t - 1).forEach((g, i) => {
        m[i] = 0.9 * (m[i] ?? 0) + 0.1 * g;
        v[i] = 0.999 * (v[i] ?? 0) + 0.001 * g * g;
        const mHat = (m[i] ?? 0) / (1 - 0.9 ** t);
        const vHat = (v[i] ?? 0) / (1 - 0.999 ** t);
        parameters[i] = (parameters[i] ?? 0) - (0.001 * mHat) / (Math.sqrt(vHat) + 1e-7);
      });
    }
    const expected = Float64Array.from(parameters, (value, i) => value - (numbers(0, 1)[i] ?? 0));
    expect(relativeError(movement(run(new Adam(SIZE), 20)), expected)).toBeLessThan(1e-4);
  });

  test('gives the bits it always gave', () => {
    expect(weightsSha256(run(new Adam(SIZE), 10))).toBe(
      '9d00d3e77111b3e2c04288bcddcddf2165ae1a5fa39c6ab8a23945bacdea9869',
    );
  });

  test('does not touch what lies behind the gradient', () => {
    const parameters = Float32Array.of(1, 2, 3);
    new Adam(2).update(parameters, Float32Array.of(1, 1));
    expect(parameters[2]).toBe(3);
  });
});

describe('SGD with momentum', () => {
  test('follows the rule of Keras', () => {
    const parameters = Float64Array.from(numbers(0, 1));
    const velocity = new Float64Array(SIZE);
    for (let step = 0; step < 20; step++) {
      gradientAt(step).forEach((g, i) => {
        velocity[i] = 0.9 * (velocity[i] ?? 0) - 0.05 * g;
        parameters[i] = (parameters[i] ?? 0) + (velocity[i] ?? 0);
      });
    }
    const actual = run(new Sgd(SIZE, { learningRate: 0.05, momentum: 0.9 }), 20);
    expect(relativeError(actual, parameters)).toBeLessThan(1e-6);
  });

  test('without momentum takes the plain step', () => {
    const parameters = Float32Array.of(1, -2);
    new Sgd(2, { learningRate: 0.5, momentum: 0 }).update(parameters, Float32Array.of(2, -4));
    expect([...parameters]).toEqual([0, 0]);
  });
});

describe('makeOptimizer', () => {
  test('gives Adam with the learning rate of the config', () => {
    const made = makeOptimizer(parseRunConfig({ optimizer: 'adam', learningRate: 0.25 }), SIZE);
    expect(run(made, 3)).toEqual(run(new Adam(SIZE, { learningRate: 0.25 }), 3));
  });

  test('gives SGD with the learning rate and the momentum of the config', () => {
    const made = makeOptimizer(parseRunConfig({ optimizer: 'sgd', learningRate: 0.25, momentum: 0.5 }), SIZE);
    expect(run(made, 3)).toEqual(run(new Sgd(SIZE, { learningRate: 0.25, momentum: 0.5 }), 3));
  });
});
