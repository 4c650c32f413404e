import { beforeAll, describe, expect, test } from 'vitest';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { withNativeGradients } from '../../worker/compiled/native-gradients.js';
import { tf } from '../../worker/tensorflow.js';

beforeAll(() => tf.ready());

const stream = new RandomStream({ seed: 7, purpose: Purpose.folds, trial: 0, epoch: 0, shard: 0 });
const random = (shape: [number, number, number, number]): tf.Tensor4D =>
  tf.tensor4d(
    new Float32Array(shape.reduce((size, d) => size * d, 1)).map(() => 2 * stream.uniform() - 1),
    shape,
  );

describe('the gradient of an average pool', () => {
  const pools: [string, [number, number], [number, number], 'valid' | 'same', number][] = [
    ['windows side by side', [2, 2], [2, 2], 'valid', 8],
    ['windows that "same" need not pad', [2, 2], [2, 2], 'same', 8],
    ['windows of one row', [1, 4], [1, 4], 'valid', 8],
    ['windows of one column', [4, 1], [4, 1], 'valid', 8],
    ['windows of as many values as no power of two', [3, 2], [3, 2], 'valid', 12],
    ['windows that overlap', [3, 3], [2, 2], 'valid', 9],
    ['windows with gaps', [2, 2], [3, 3], 'valid', 8],
    ['a rest that no window has', [3, 3], [3, 3], 'valid', 8],
    ['padded windows', [3, 3], [3, 3], 'same', 8],
  ];

  test.each(pools)('is the one of tfjs, %s', (_name, window, strides, pad, size) => {
    const x = random([3, size, size, 5]);
    const gradient = tf.grad((input) => tf.avgPool(input as tf.Tensor4D, window, strides, pad));
    const dy = random(tf.avgPool(x, window, strides, pad).shape);
    const expected = gradient(x, dy).dataSync();
    const got = withNativeGradients(() => gradient(x, dy)).dataSync();
    const isPowerOfTwo = Number.isInteger(Math.log2(window[0] * window[1]));
    if (isPowerOfTwo) expect(got).toEqual(expected);
    else got.forEach((value, i) => expect(value).toBeCloseTo(expected[i] ?? Number.NaN, 6));
  });
});
