import { describe, expect, test } from 'vitest';
import { Adam } from '../../coordinator/optimizer/adam.js';
import type { Optimizer } from '../../coordinator/optimizer/optimizer.js';
import { Sgd } from '../../coordinator/optimizer/sgd.js';
import { addInPlace } from '../../shared/gradient-sum.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { LEAST_GRADIENT, unlessNegligible } from '../../shared/negligible.js';
import { copyBytes, nativeMemory } from '../../shared/native-memory.js';
import { bytesOf } from '../../shared/protocol/frame.js';
import { BLOCK_FLOATS } from '../../shared/vector/assembler.js';
import { LEAST_HELPED_FLOATS } from '../../shared/vector/helper.js';
import { hasPagesOfItsOwn, runKernel, VectorMemory } from '../../shared/vector/memory.js';
import { CHUNK_BYTES } from '../../shared/vector/shared-job.js';

const LENGTHS = [1, 3, 4, 5, 64, 1_003];
/** The smallest and largest magnitudes, zeros of both signs, and numbers between. */
const EDGES = [0, -0, 1e-45, -1e-45, 1.1754944e-38, 5.9e-39, 3.4028235e38, -3.4028235e38, 1, -1, 1 / 3];

/** Some of everything that a float32 can be but NaN and infinity. */
function numbers(length: number, seed: number): Float32Array {
  const stream = new RandomStream({ seed, purpose: Purpose.initialWeights, trial: 0, epoch: 0, shard: 0 }, 0);
  return Float32Array.from({ length }, (_, i) => {
    if (i % 7 === 3) return EDGES[stream.uint32() % EDGES.length] ?? 0;
    return (stream.uniform() - 0.5) * 2 ** (Math.floor(stream.uniform() * 60) - 30);
  });
}

const bits = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];
const placed = (memory: VectorMemory, values: Float32Array): Float32Array => {
  const array = memory.array(values.length);
  array.set(values);
  return array;
};

test('arrays with pages of their own begin where pages do and share them with nothing', () => {
  const memory = new VectorMemory(5, 1_000);
  const arrays = [memory.array(1_000), memory.pages(1_000), memory.pages(20_000), memory.array(5)];
  const [, first, second, last] = arrays.map((values) => values?.byteOffset ?? -1);
  expect([first, second, last]).toEqual([65_536, 2 * 65_536, 4 * 65_536]);
  expect(arrays.map((values) => values !== null && hasPagesOfItsOwn(values))).toEqual([
    false,
    true,
    true,
    false,
  ]);
  expect(memory.pages(1_000)).toBeNull();
});

describe.each(LENGTHS)('arrays of %i elements in one vector memory', (length) => {
  test('are added to the bits of the plain loop', () => {
    const memory = new VectorMemory(2, length);
    const [left, right] = [numbers(length, 1), numbers(length, 2)];
    const sum = addInPlace(placed(memory, left), placed(memory, right));
    expect(bits(sum)).toEqual(bits(addInPlace(left, right)));
  });

  test('are scaled to the bits of the plain loop', () => {
    const memory = new VectorMemory(2, length);
    const [values, others] = [numbers(length, 3), numbers(length, 6)];
    const [scaled, added] = [placed(memory, values), placed(memory, values)];
    const { done, returned } = runKernel('scale', [scaled], [1 / 93]);
    expect(done).toBe(length - (length % BLOCK_FLOATS));
    expect(returned).toBe(0);
    const share = Math.fround(1 / 93);
    const of = (value: number): number => unlessNegligible(Math.fround(value), LEAST_GRADIENT);
    const expected = values.map((value, i) => (i < done ? of(share * value) : value));
    expect(bits(scaled)).toEqual(bits(expected));
    expect(runKernel('scaleAndAdd', [added, placed(memory, others)], [1 / 93, 0.5])).toEqual({
      done,
      returned: 0,
    });
    const sum = values.map((value, i) =>
      i < done ? of(Math.fround(share * value) + Math.fround(0.5 * (others[i] ?? NaN))) : value,
    );
    expect(bits(added)).toEqual(bits(sum));
  });

  const optimizers: [string, (size: number, memory?: VectorMemory) => Optimizer][] = [
    ['Adam', (size, memory) => new Adam(size, {}, memory)],
    ['SGD', (size, memory) => new Sgd(size, { momentum: 0.9 }, memory)],
  ];
  test.each(optimizers)('are updated by %s to the bits of the plain loop', (_, make) => {
    const memory = new VectorMemory(4, length + 2);
    const initial = numbers(length + 2, 4).map((value) => Math.max(-1e6, Math.min(1e6, value)));
    const plain = initial.slice();
    const fast = placed(memory, initial);
    const [reference, optimizer] = [make(length), make(length, memory)];
    const gradients = memory.array(length);
    for (let step = 0; step < 5; step++) {
      const gradient = numbers(length, 10 + step).map((value) => Math.max(-1e6, Math.min(1e6, value)));
      gradients.set(gradient);
      reference.update(plain, gradient, 0.01);
      optimizer.update(fast, gradients, 0.01);
      expect(bits(fast)).toEqual(bits(plain));
    }
    // What comes after the parameters is none of the optimizer's.
    expect(bits(fast.subarray(length))).toEqual(bits(initial.subarray(length)));
    const [saved, expected] = [optimizer.snapshot(), reference.snapshot()];
    for (const [name, values] of Object.entries(expected.arrays)) {
      expect(bits(saved.arrays[name] ?? new Float32Array(0))).toEqual(bits(values));
    }
  });
});

describe('a vector memory', () => {
  test.each([Number.NaN, Infinity, -Infinity])('says that %d is among what was scaled', (bad) => {
    for (let place = 0; place < 64; place++) {
      const memory = new VectorMemory(1, 64);
      const array = placed(memory, numbers(64, 5));
      array[place] = bad;
      expect(runKernel('scale', [array], [2]).returned).toBeNaN();
    }
  });

  test('whose room is used up gives plain arrays, and the kernels leave them to the plain loop', () => {
    const memory = new VectorMemory(1, 10_000);
    const inside = memory.array(16_384);
    const outside = memory.array(16_384);
    expect(inside.buffer).not.toBe(outside.buffer);
    expect(runKernel('add', [inside, outside], []).done).toBe(0);
    expect(addInPlace(inside.fill(1), outside.fill(2)).every((value) => value === 3)).toBe(true);
  });

  test('arrays do not overlap', () => {
    const memory = new VectorMemory(3, 5);
    const arrays = [1, 2, 3].map((value) => memory.array(5).fill(value));
    expect(arrays.map((array) => [...array])).toEqual(
      [1, 2, 3].map((value) => Array.from({ length: 5 }, () => value)),
    );
  });
});

describe.skipIf(nativeMemory === null)('arrays that a second thread helps with', () => {
  // Some chunks, and a part of one; what is left is no whole block.
  const length = LEAST_HELPED_FLOATS + CHUNK_BYTES / 4 + 1_003;
  const [left, right] = [numbers(length, 11), numbers(length, 12)];
  const expected = addInPlace(left.slice(), right);
  const helped = (): VectorMemory => new VectorMemory(4, length, 'helped');

  test('have the bits of the plain loop, whoever has done which part', () => {
    const memory = helped();
    const [sum, other] = [placed(memory, left), placed(memory, right)];
    expect(sum.buffer).toBeInstanceOf(SharedArrayBuffer);
    // The thread needs some time to start: at first it takes nothing.
    for (let turn = 0; turn < 300; turn++) {
      copyBytes(bytesOf(sum), bytesOf(left));
      addInPlace(sum, other);
      if (Buffer.compare(bytesOf(sum), bytesOf(expected)) !== 0) throw new Error(`turn ${turn}: other bits`);
    }
  });

  test('lie in several memories, be they new or long known', () => {
    const memories = [helped(), helped()];
    const pairs = memories.map((memory) => [placed(memory, left), placed(memory, right)] as const);
    for (let turn = 0; turn < 20; turn++) {
      for (const [sum, other] of pairs) {
        copyBytes(bytesOf(sum), bytesOf(left));
        expect(Buffer.compare(bytesOf(addInPlace(sum, other)), bytesOf(expected))).toBe(0);
      }
    }
  });

  test('say when one of them is not finite, wherever it lies', () => {
    for (const place of [0, CHUNK_BYTES / 4, 2 * (CHUNK_BYTES / 4) + 1, LEAST_HELPED_FLOATS]) {
      const memory = helped();
      const values = placed(
        memory,
        left.map((value) => value / 2),
      );
      values[place] = Number.NaN;
      expect(runKernel('scale', [values], [0.5]).returned).toBeNaN();
    }
  });
});
