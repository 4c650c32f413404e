import '../support/cpu-backend.js';
import * as tf from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { Adam } from '../../coordinator/optimizer/adam.js';
import { AdamW } from '../../coordinator/optimizer/adamw.js';
import { clipByGlobalNorm } from '../../coordinator/optimizer/clip.js';
import type { Optimizer } from '../../coordinator/optimizer/optimizer.js';
import { Sgd } from '../../coordinator/optimizer/sgd.js';
import { makeUpdateRule, type UpdateRule } from '../../coordinator/optimizer/update-rule.js';
import { applyUpdate } from '../../coordinator/update.js';
import { parseRunConfig } from '../../shared/config.js';
import { LEAST_GRADIENT, LEAST_MOMENT } from '../../shared/negligible.js';
import { makeLayout, weightsSha256 } from '../../shared/layout.js';
import { compileModel } from '../../shared/models/compile.js';
import { parseTopology } from '../../shared/models/topology.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { VectorMemory } from '../../shared/vector/memory.js';
import { atelierError } from '../support/errors.js';
import { NORMALIZED } from '../support/model-fixture.js';

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

/** Steps `from` to `to` of a training with these gradients. */
function advance(
  optimizer: Optimizer,
  parameters: Float32Array,
  from: number,
  to: number,
  learningRate: number,
): Float32Array {
  for (let step = from; step < to; step++) optimizer.update(parameters, gradientAt(step), learningRate);
  return parameters;
}

const run = (optimizer: Optimizer, steps: number, learningRate = 0.001): Float32Array =>
  advance(optimizer, numbers(0, 1), 0, steps, learningRate);

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
    const named = new Adam(SIZE, { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 });
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
    new Adam(2).update(parameters, Float32Array.of(1, 1), 0.001);
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
    const actual = run(new Sgd(SIZE, { momentum: 0.9 }), 20, 0.05);
    expect(relativeError(actual, parameters)).toBeLessThan(1e-6);
  });

  test('without momentum takes the plain step', () => {
    const parameters = Float32Array.of(1, -2);
    new Sgd(2, { momentum: 0 }).update(parameters, Float32Array.of(2, -4), 0.5);
    expect([...parameters]).toEqual([0, 0]);
  });
});

describe('AdamW', () => {
  const kernel = { offset: 0, size: 4 };

  test("goes where PyTorch's AdamW goes", () => {
    // torch 2.13: AdamW([1, -2, 0.5, 3], lr=0.1, weight_decay=0.2, eps=1e-7), gradients as below.
    const parameters = Float32Array.of(1, -2, 0.5, 3);
    const optimizer = new AdamW(4, { weightDecay: 0.2, decayed: [kernel] });
    for (let i = 0; i < 4; i++) {
      optimizer.update(parameters, Float32Array.of(0.5 * (i + 1), -1, 0.01, 2 - i), 0.1);
    }
    const expected = [0.5456278920173645, -1.4565770626068115, 0.07302876561880112, 2.482724905014038];
    expect(relativeError(parameters, expected)).toBeLessThan(1e-6);
  });

  test('shrinks what decays by learningRate * weightDecay, and nothing else, where there is no gradient', () => {
    const parameters = Float32Array.of(1, 1, 1, 1, 1);
    new AdamW(5, { weightDecay: 0.25, decayed: [{ offset: 1, size: 2 }] }).update(
      parameters,
      new Float32Array(5),
      0.5,
    );
    expect([...parameters]).toEqual([1, 0.875, 0.875, 1, 1]);
  });

  test('without decay is Adam', () => {
    const decayed = [{ offset: 0, size: SIZE }];
    expect(run(new AdamW(SIZE, { weightDecay: 0, decayed }), 5)).toEqual(run(new Adam(SIZE), 5));
  });
});

describe.each([
  ['Adam', (memory?: VectorMemory) => new Adam(SIZE, { beta2: 0.9 }, memory)],
  ['SGD with momentum', (memory?: VectorMemory) => new Sgd(SIZE, { momentum: 0.9 }, memory)],
])('moments of %s whose gradient has become zero', (_name, make) => {
  /** By the kernels, or by the plain loops: steps with gradients of a few sizes, then with zeros. */
  function decayed(memory: VectorMemory | undefined, zeros: number) {
    const array = (): Float32Array => memory?.array(SIZE) ?? new Float32Array(SIZE);
    const [optimizer, parameters, gradient] = [make(memory), array(), array()];
    for (let step = 0; step < 5; step++) {
      gradient.set(gradientAt(step));
      optimizer.update(parameters, gradient, 0.01);
    }
    gradient.fill(0);
    const before = parameters.slice();
    for (let step = 0; step < zeros; step++) optimizer.update(parameters, gradient, 0.01);
    return { before, parameters, moments: Object.values(optimizer.snapshot().arrays) };
  }

  test('are never negligible, on their way to zero', () => {
    for (const zeros of [560, 600, 640, 680]) {
      for (const memory of [undefined, new VectorMemory(4, SIZE)]) {
        const { moments, before, parameters } = decayed(memory, zeros);
        const sizes = moments.flatMap((values) => [...values.map(Math.abs)]);
        expect(sizes.filter((size) => size > 0 && size < LEAST_MOMENT)).toEqual([]);
        expect(parameters).not.toEqual(before);
      }
    }
  });

  test('are zero after a thousand steps, with kernels and without', () => {
    for (const memory of [undefined, new VectorMemory(4, SIZE)]) {
      for (const values of decayed(memory, 1_000).moments)
        expect(values.every((value) => value === 0)).toBe(true);
    }
  });

  test('have the same bits with kernels and without', () => {
    const [plain, kernels] = [undefined, new VectorMemory(4, SIZE)].map((memory) => decayed(memory, 800));
    expect(kernels?.moments.map(weightsSha256)).toEqual(plain?.moments.map(weightsSha256));
    expect(weightsSha256(kernels?.parameters ?? new Float32Array())).toBe(
      weightsSha256(plain?.parameters ?? new Float32Array(1)),
    );
  });
});

describe('clipping by the global norm', () => {
  test('scales a longer gradient to the norm, in its direction', () => {
    const gradient = Float32Array.of(3, 4, 12);
    expect(clipByGlobalNorm(gradient, 6.5)).toBe(13);
    expect([...gradient]).toEqual([1.5, 2, 6]);
  });

  test('leaves a gradient alone that is no longer than the norm', () => {
    const gradient = numbers(1, 1);
    const norm = Math.hypot(...gradient);
    const clipped = gradient.slice();
    expect(clipByGlobalNorm(clipped, norm * (1 + 1e-9))).toBeCloseTo(norm, 9);
    expect(clipped).toEqual(gradient);
  });

  test('comes after the regularizers, leaves the state alone, and only where it is asked for', async () => {
    const model = await compileModel(parseTopology(JSON.stringify(NORMALIZED), 'x'), [28, 28, 1], 10, 1);
    const { size, trainable } = model.layout;
    const updated = (clipNorm: number | null): Float32Array => {
      const weights = new Float32Array(size).fill(1);
      const values = new Float32Array(size).fill(0.5);
      const rule = { optimizer: new Sgd(trainable, { momentum: 0 }), learningRate: () => 1, clipNorm };
      applyUpdate(weights, { rows: 1, lossSum: 1, correct: 0, values }, model, rule, 0);
      return weights;
    };
    const moved = (weights: Float32Array): Float64Array =>
      Float64Array.from(weights.subarray(0, trainable), (weight) => 1 - weight);
    const [free, clipped] = [updated(null), updated(0.25)];
    expect(Math.hypot(...moved(clipped))).toBeCloseTo(0.25, 4);
    const ratio = 0.25 / Math.hypot(...moved(free));
    expect(
      relativeError(
        moved(clipped),
        moved(free).map((way) => way * ratio),
      ),
    ).toBeLessThan(1e-3);
    expect(clipped.subarray(trainable)).toEqual(free.subarray(trainable));
  });
});

test('a mean gradient that is negligible, with what L2 adds, is none', async () => {
  const model = await compileModel(parseTopology(JSON.stringify(NORMALIZED), 'x'), [28, 28, 1], 10, 1);
  const { size, trainable } = model.layout;
  const movedBy = (gradient: number): boolean => {
    const weights = new Float32Array(size);
    const values = new Float32Array(size).fill(2 * gradient);
    const rule = { optimizer: new Adam(trainable), learningRate: () => 1, clipNorm: null };
    applyUpdate(weights, { rows: 2, lossSum: 1, correct: 0, values }, model, rule, 0);
    return weights.subarray(0, trainable).every((weight) => weight !== 0);
  };
  expect(movedBy(LEAST_GRADIENT)).toBe(true);
  expect(movedBy(LEAST_GRADIENT / 2)).toBe(false);
});

describe('makeUpdateRule', () => {
  const layout = makeLayout(
    [
      { name: 'kernel', shape: [10, 50] },
      { name: 'bias', shape: [SIZE - 500] },
    ],
    [{ name: 'moving_variance', shape: [2, 5] }],
  );
  const ruleOf = (config: Record<string, unknown>): UpdateRule =>
    makeUpdateRule(parseRunConfig(config), layout, 100);

  test('gives Adam, the learning rate of the config and no clipping', () => {
    const { optimizer, learningRate, clipNorm } = ruleOf({ optimizer: 'adam', learningRate: 0.25 });
    expect(run(optimizer, 3)).toEqual(run(new Adam(SIZE), 3));
    expect(learningRate(7)).toBe(0.25);
    expect(clipNorm).toBeNull();
  });

  test('gives SGD with the momentum of the config', () => {
    const { optimizer } = ruleOf({ optimizer: 'sgd', momentum: 0.5 });
    expect(run(optimizer, 3)).toEqual(run(new Sgd(SIZE, { momentum: 0.5 }), 3));
  });

  test('gives AdamW that decays kernels, not biases', () => {
    const { optimizer } = ruleOf({ optimizer: 'adamw', weightDecay: 0.1 });
    const expected = new AdamW(SIZE, { weightDecay: 0.1, decayed: [{ offset: 0, size: 500 }] });
    expect(run(optimizer, 3)).toEqual(run(expected, 3));
  });

  test('spreads the schedule over the steps of all epochs', () => {
    const { learningRate } = ruleOf({ epochs: 4, schedule: 'cosine', warmupEpochs: 0.5, learningRate: 1 });
    expect(learningRate(24)).toBe(0.5);
    expect(learningRate(50)).toBe(1);
    expect(learningRate(225)).toBeCloseTo(0.5, 12);
    expect(learningRate(399)).toBeLessThan(1e-4);
  });

  test('passes the norm to clip by', () => {
    expect(ruleOf({ clipNorm: 2 }).clipNorm).toBe(2);
  });
});

describe.each([
  ['Adam', (size: number): Optimizer => new Adam(size)],
  [
    'AdamW',
    (size: number): Optimizer => new AdamW(size, { weightDecay: 0.1, decayed: [{ offset: 0, size: 3 }] }),
  ],
  ['SGD', (size: number): Optimizer => new Sgd(size, { momentum: 0.9 })],
])('the state of %s', (_name, make) => {
  test('is all it needs to go on to the same bits', () => {
    const first = make(SIZE);
    const parameters = advance(first, numbers(0, 1), 0, 4, 0.01);
    const second = make(SIZE);
    second.restore(first.snapshot());
    advance(second, parameters, 4, 9, 0.01);
    expect(weightsSha256(parameters)).toBe(weightsSha256(run(make(SIZE), 9, 0.01)));
  });

  test('is a copy: what comes later does not change it, nor it what comes later', () => {
    const optimizer = make(SIZE);
    const before = optimizer.snapshot();
    const kept = structuredClone(before);
    const other = make(SIZE);
    other.restore(before);
    advance(optimizer, numbers(0, 1), 0, 2, 0.01);
    advance(other, numbers(0, 1), 0, 2, 0.01);
    expect(before).toEqual(kept);
  });

  test('survives as names, floats and doubles', () => {
    const optimizer = make(SIZE);
    run(optimizer, 3);
    const { arrays, numbers: doubles } = optimizer.snapshot();
    const copy = make(SIZE);
    copy.restore({ arrays, numbers: JSON.parse(JSON.stringify(doubles)) as Record<string, number> });
    expect(copy.snapshot()).toEqual(optimizer.snapshot());
  });

  test('of another size, or with a name missing, is refused and changes nothing', () => {
    const optimizer = make(SIZE);
    run(optimizer, 2);
    const { arrays, numbers: doubles } = optimizer.snapshot();
    const [name = ''] = Object.keys(arrays);
    const without = Object.fromEntries(Object.entries(arrays).filter(([key]) => key !== name));
    for (const [state, message] of [
      [make(3).snapshot(), `${name} has 3 values, not ${SIZE}`],
      [{ arrays: without, numbers: doubles }, `${name} has no values`],
    ] as const) {
      expect(atelierError('data', () => optimizer.restore(state)).message).toContain(message);
    }
    expect(optimizer.snapshot()).toEqual({ arrays, numbers: doubles });
  });
});
