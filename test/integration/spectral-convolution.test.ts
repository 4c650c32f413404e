import { beforeAll, describe, expect, test } from 'vitest';
import { Purpose, RandomStream } from '../../shared/rng.js';
import {
  isSpectral,
  multiplyAdds,
  spectralConvolution,
  transformPoints,
  type Axis,
  type ConvolutionShape,
} from '../../worker/compiled/spectral-convolution.js';
import { tf } from '../../worker/tensorflow.js';
import { relativeError } from '../support/model-fixture.js';

beforeAll(() => tf.ready());

const same = (input: number, kernel: number): Axis => ({
  input,
  kernel,
  output: input,
  before: Math.floor((kernel - 1) / 2),
});
const valid = (input: number, kernel: number): Axis => ({
  input,
  kernel,
  output: input - kernel + 1,
  before: 0,
});

const stream = new RandomStream({ seed: 5, purpose: Purpose.folds, trial: 0, epoch: 0, shard: 0 });
const random = (size: number): Float32Array => new Float32Array(size).map(() => 2 * stream.uniform() - 1);

interface Signals {
  readonly x: Float32Array;
  readonly w: Float32Array;
  readonly dy: Float32Array;
}

const signals = ({ rows, height, width, channels, filters }: ConvolutionShape): Signals => ({
  x: random(rows * height.input * width.input * channels),
  w: random(height.kernel * width.kernel * channels * filters),
  dy: random(rows * height.output * width.output * filters),
});

interface Results {
  readonly y: Float32Array | Float64Array;
  readonly dx: Float32Array | Float64Array;
  readonly dw: Float32Array | Float64Array;
}

/** The definition, in float64. */
function byDefinition(shape: ConvolutionShape, { x, w, dy }: Signals): Results {
  const { rows, height, width, channels, filters } = shape;
  const result = {
    y: new Float64Array(dy.length),
    dx: new Float64Array(x.length),
    dw: new Float64Array(w.length),
  };
  const add = (target: Float64Array, i: number, value: number): void => {
    target[i] = (target[i] ?? 0) + value;
  };
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < height.output; i++)
      for (let j = 0; j < width.output; j++)
        for (let s = 0; s < height.kernel; s++)
          for (let t = 0; t < width.kernel; t++) {
            const [u, v] = [i + s - height.before, j + t - width.before];
            if (u < 0 || u >= height.input || v < 0 || v >= width.input) continue;
            for (let c = 0; c < channels; c++)
              for (let f = 0; f < filters; f++) {
                const xi = ((row * height.input + u) * width.input + v) * channels + c;
                const wi = ((s * width.kernel + t) * channels + c) * filters + f;
                const yi = ((row * height.output + i) * width.output + j) * filters + f;
                add(result.y, yi, (x[xi] ?? NaN) * (w[wi] ?? NaN));
                add(result.dx, xi, (dy[yi] ?? NaN) * (w[wi] ?? NaN));
                add(result.dw, wi, (dy[yi] ?? NaN) * (x[xi] ?? NaN));
              }
          }
  return result;
}

type Convolution = (x: tf.Tensor4D, w: tf.Tensor4D) => tf.Tensor4D;

function computed(shape: ConvolutionShape, { x, w, dy }: Signals, convolution: Convolution): Results {
  return tf.tidy(() => {
    const { rows, height, width, channels, filters } = shape;
    const xs = tf.tensor4d(x, [rows, height.input, width.input, channels]);
    const ws = tf.tensor4d(w, [height.kernel, width.kernel, channels, filters]);
    const upstream = tf.tensor4d(dy, [rows, height.output, width.output, filters]);
    const gradients = tf.grads((a, b) => convolution(a as tf.Tensor4D, b as tf.Tensor4D));
    const [dx, dw] = gradients([xs, ws], upstream);
    const read = (tensor: tf.Tensor | undefined): Float32Array => tensor?.dataSync() as Float32Array;
    return { y: read(convolution(xs, ws)), dx: read(dx), dw: read(dw) };
  });
}

describe('a spectral convolution', () => {
  const shapes: [string, ConvolutionShape][] = [
    ["the study's 14x14", { rows: 3, height: same(14, 14), width: same(14, 14), channels: 16, filters: 32 }],
    ['one row', { rows: 1, height: same(9, 9), width: same(9, 9), channels: 2, filters: 3 }],
    [
      'an odd kernel on a long image',
      { rows: 2, height: same(10, 7), width: same(13, 5), channels: 3, filters: 2 },
    ],
    [
      'a kernel larger than the image',
      { rows: 2, height: same(5, 9), width: same(4, 8), channels: 2, filters: 2 },
    ],
    ['no padding', { rows: 2, height: valid(12, 5), width: valid(11, 6), channels: 3, filters: 4 }],
    [
      'a kernel of one row and an image of one column',
      { rows: 2, height: same(6, 1), width: valid(1, 1), channels: 2, filters: 2 },
    ],
  ];

  test.each(shapes)('and its gradients are those of the definition in float64, %s', (_name, shape) => {
    const given = signals(shape);
    const exact = byDefinition(shape, given);
    const got = computed(shape, given, (x, w) => spectralConvolution(x, w, shape));
    for (const name of ['y', 'dx', 'dw'] as const) {
      expect(relativeError(got[name], exact[name]), name).toBeLessThan(5e-7);
    }
  });

  test('and its gradient by the input are nearer to it than the direct ones, which add more numbers up', () => {
    const shape = { rows: 8, height: same(14, 14), width: same(14, 14), channels: 16, filters: 32 };
    const given = signals(shape);
    const exact = byDefinition(shape, given);
    const spectral = computed(shape, given, (x, w) => spectralConvolution(x, w, shape));
    const direct = computed(shape, given, (x, w) => tf.conv2d(x, w, 1, 'same'));
    for (const name of ['y', 'dx'] as const) {
      expect(relativeError(spectral[name], exact[name]), name).toBeLessThan(
        relativeError(direct[name], exact[name]),
      );
    }
  });

  test('wraps round nothing but zeros with the fewest points', () => {
    expect(transformPoints(same(14, 14))).toBe(21);
    expect(transformPoints(same(28, 5))).toBe(30);
    expect(transformPoints(valid(7, 7))).toBe(7);
  });

  test('is taken where it has far fewer multiply-adds: of the presets, for the 14x14 kernel alone', () => {
    const of = (input: Axis, channels: number, filters: number, rows = 32): ConvolutionShape => ({
      rows,
      height: input,
      width: input,
      channels,
      filters,
    });
    expect(isSpectral(of(same(14, 14), 16, 32))).toBe(true);
    expect(isSpectral(of(same(14, 14), 16, 32, 8))).toBe(true);
    const others = [
      of(same(28, 3), 1, 8),
      of(same(28, 5), 8, 16),
      of(same(14, 3), 64, 64),
      of(valid(7, 7), 32, 32),
      of(valid(14, 5), 6, 16),
      of(same(7, 3), 128, 128),
    ];
    expect(others.filter(isSpectral)).toEqual([]);
    const { direct, spectral } = multiplyAdds(of(same(14, 14), 16, 32));
    expect(direct / spectral).toBeCloseTo(13.2, 1);
  });
});
