import type { Scalar, Tensor, Tensor4D } from '@tensorflow/tfjs-core';
import { nodeBackend, tf } from '../tensorflow.js';

/*
 * Convolutions with large kernels by the convolution theorem: inputs, kernels and gradients of outputs go to the
 * frequency domain once, where the three convolutions of a training step (output, gradient of the input, gradient of
 * the kernel) are one small matrix product over channels for each frequency (Mathieu, Henaff and LeCun 2014,
 * "Fast training of convolutional networks through FFTs"). The images are small, so a transform is not a fast one
 * but a product with the matrix of the discrete Fourier transform, one axis after the other: then every op is a matrix
 * product, the number of points may be any, and no tensor has to be transposed in between.
 *
 * Layouts: k is a frequency of the rows (height), l one of the columns; a and b are 0 for real and 1 for imaginary parts.
 * Signals are real, so of the k only the first half is kept. A spectrum is [k, l, a, rest].
 */

/** One axis of a convolution of stride 1: y[i] = sum over t of x[i + t - before] w[t]. */
export interface Axis {
  readonly input: number;
  readonly kernel: number;
  readonly output: number;
  /** Zeros before the first input. */
  readonly before: number;
}

export interface ConvolutionShape {
  readonly rows: number;
  readonly height: Axis;
  readonly width: Axis;
  readonly channels: number;
  readonly filters: number;
}

/**
 * Points of the transform: the fewest so that what wraps round meets only zeros, in all three convolutions. Less than
 * input + kernel - 1, since of the full convolution only the middle is asked for.
 */
export const transformPoints = ({ input, kernel, output, before }: Axis): number =>
  Math.max(input + before, output + kernel - 1 - before);

/** Frequencies of a real signal that are not conjugates of others. */
const halfOf = (points: number): number => Math.floor(points / 2) + 1;

/**
 * Multiply-adds of the three convolutions of a training step.
 * @returns `direct`: as TensorFlow's convolutions have them; `spectral`: of all products here
 */
export function multiplyAdds({ rows, height, width, channels, filters }: ConvolutionShape): {
  direct: number;
  spectral: number;
} {
  const [p, q] = [transformPoints(height), transformPoints(width)];
  const half = halfOf(p);
  /** To the spectrum and back from a product of spectra, of an image of so many values a pixel. */
  const there = ([h, w]: [number, number], rest: number): number =>
    (2 * half * h * w + 4 * half * q * w) * rest;
  const back = ([h, w]: [number, number], rest: number): number =>
    (8 * half * q * w + 2 * half * h * w) * rest;
  const [x, y, kernel] = [rows * channels, rows * filters, channels * filters];
  const input: [number, number] = [height.input, width.input];
  const output: [number, number] = [height.output, width.output];
  const taps: [number, number] = [height.kernel, width.kernel];
  const transforms =
    there(input, x) +
    there(taps, kernel) +
    there(output, y) +
    back(output, y) +
    back(input, x) +
    back(taps, kernel);
  return {
    direct: 3 * rows * height.output * width.output * height.kernel * width.kernel * kernel,
    spectral: transforms + 3 * 4 * half * q * rows * kernel,
  };
}

/**
 * Small matrix products run at about a third of the speed of a convolution (measured: of the study's 14x14 kernel a
 * thirteenth of the multiply-adds takes a quarter of the time), so this many times fewer are wanted. Part of what decides
 * the bits: it is a function of shapes alone.
 */
const WORTH = 4;

/** Whether the spectral way is the faster one. */
export function isSpectral(shape: ConvolutionShape): boolean {
  const { direct, spectral } = multiplyAdds(shape);
  return direct > WORTH * spectral;
}

/** A matrix, row by row, by a function of its indices. */
function matrix(rows: number, columns: number, value: (row: number, column: number) => number): Tensor {
  const values = Float32Array.from({ length: rows * columns }, (_, i) =>
    value(Math.floor(i / columns), i % columns),
  );
  return tf.tensor2d(values, [rows, columns]);
}

const angle = (points: number, frequency: number, position: number): number =>
  // The remainder first: exact, where the cosine of a large angle is not.
  (2 * Math.PI * ((frequency * position) % points)) / points;

/** Rows (k, a), columns h: from a real signal of `length` to the first half of its spectrum. */
const analysisOfReal = (points: number, length: number): Tensor =>
  matrix(2 * halfOf(points), length, (row, h) => {
    const theta = angle(points, row >> 1, h);
    return row % 2 === 0 ? Math.cos(theta) : -Math.sin(theta);
  });

/** Rows (l, a'), columns (a, w): the spectrum of a complex signal. */
const analysisOfComplex = (points: number, length: number): Tensor =>
  matrix(2 * points, 2 * length, (row, column) => {
    const theta = angle(points, row >> 1, column % length);
    const [into, from] = [row % 2, Math.floor(column / length)];
    if (into === from) return Math.cos(theta);
    return into === 0 ? Math.sin(theta) : -Math.sin(theta);
  });

/** Where a product of two spectra is wanted in the signal domain. */
interface Synthesis {
  readonly length: number;
  /** Position of the first value. */
  readonly first: number;
  /** -1: the second factor is conjugated. */
  readonly sign: 1 | -1;
  /** Of the columns (l, first, second): whose component stands first, the first factor's (a) or the second's (b). */
  readonly order: 'ab' | 'ba';
}

/**
 * Rows (a, w), columns (l, first, second): from the four products x_a y_b of the components of two spectra to the complex
 * signal. That a complex product is a sum of these is part of the matrix, so nothing is added or moved before.
 */
const synthesisOfComplex = (points: number, { length, first, sign, order }: Synthesis): Tensor =>
  matrix(2 * length, 4 * points, (row, column) => {
    const [into, w] = [Math.floor(row / length), row % length];
    const theta = angle(points, column >> 2, w + first + points);
    const [outer, inner] = [(column >> 1) % 2, column % 2];
    const [a, b] = order === 'ab' ? [outer, inner] : [inner, outer];
    // (x0 + i x1) (y0 + i s y1) = x0 y0 - s x1 y1 + i (x1 y0 + s x0 y1)
    const factor = a === 1 && b === 1 ? -sign : b === 1 ? sign : 1;
    const isReal = a === b;
    const turned = isReal
      ? [Math.cos(theta), Math.sin(theta)] // real part of the spectrum
      : [-Math.sin(theta), Math.cos(theta)]; // imaginary part
    return (factor * (turned[into] as number)) / points;
  });

/** Rows h, columns (k, a): from the first half of a spectrum to the real signal. */
const synthesisOfReal = (points: number, { length, first }: Synthesis): Tensor =>
  matrix(length, 2 * halfOf(points), (h, column) => {
    const k = column >> 1;
    const theta = angle(points, k, h + first + points);
    // All but these frequencies have a conjugate that is not kept.
    const weight = (k === 0 || 2 * k === points ? 1 : 2) / points;
    return weight * (column % 2 === 0 ? Math.cos(theta) : -Math.sin(theta));
  });

/** Products of the last two axes; the others are batches, and repeated where one has a single one. */
function products(a: Tensor, b: Tensor, transposeA = false, transposeB = false): Tensor {
  const { TF_ATTR_TYPE, TF_ATTR_BOOL, TF_FLOAT } = nodeBackend().binding;
  const attrs = [
    { name: 'T', type: TF_ATTR_TYPE, value: TF_FLOAT },
    { name: 'adj_x', type: TF_ATTR_BOOL, value: transposeA },
    { name: 'adj_y', type: TF_ATTR_BOOL, value: transposeB },
  ];
  return nodeBackend().executeSingleOutput('BatchMatMulV2', attrs, [a, b]);
}

/** The transforms of one convolution. */
class Transforms {
  private readonly shape: ConvolutionShape;
  private readonly points: readonly [number, number];
  private readonly half: number;

  constructor(shape: ConvolutionShape) {
    this.shape = shape;
    this.points = [transformPoints(shape.height), transformPoints(shape.width)];
    this.half = halfOf(this.points[0]);
  }

  /** @param signal [height, width, rest] @returns [k, l, a, rest], flat */
  spectrum(signal: Tensor): Tensor {
    const [height = 0, width = 0, rest = 0] = signal.shape;
    const [p, q] = this.points;
    const rows = products(analysisOfReal(p, height), tf.reshape(signal, [height, width * rest]));
    const columns = tf.reshape(rows, [this.half, 2 * width, rest]);
    return products(tf.reshape(analysisOfComplex(q, width), [1, 2 * q, 2 * width]), columns);
  }

  /**
   * @param spectrum products of components: [k, l, first, second, rest]
   * @returns [height, width, rest], flat
   */
  signal(spectrum: Tensor, rest: number, height: Synthesis, width: Synthesis): Tensor {
    const [p, q] = this.points;
    const columns = synthesisOfComplex(q, width);
    const rows = products(
      tf.reshape(columns, [1, 2 * width.length, 4 * q]),
      tf.reshape(spectrum, [this.half, 4 * q, rest]),
    );
    return products(synthesisOfReal(p, height), tf.reshape(rows, [2 * this.half, width.length * rest]));
  }

  /** One matrix for each frequency. */
  get frequencies(): number {
    return this.half * this.points[1];
  }

  /** [rows, height, width, channels] as [height, width, rows x channels]. */
  pixelsFirst(images: Tensor): Tensor {
    const [rows = 0, height = 0, width = 0, channels = 0] = images.shape;
    return tf.reshape(tf.transpose(images, [1, 2, 0, 3]), [height, width, rows * channels]);
  }

  rowsFirst(pixels: Tensor, height: number, width: number, channels: number): Tensor {
    return tf.transpose(tf.reshape(pixels, [height, width, this.shape.rows, channels]), [2, 0, 1, 3]);
  }
}

/** The convolution of x [rows, height, width, channels] with w [height, width, channels, filters], with its gradient. */
export function spectralConvolution(x: Tensor4D, w: Tensor4D, shape: ConvolutionShape): Tensor4D {
  const { rows, height, width, channels, filters } = shape;
  const transforms = new Transforms(shape);
  const { frequencies } = transforms;
  const kernel = tf.customGrad((input, weights, save) => {
    const xs = transforms.spectrum(transforms.pixelsFirst(input as Tensor));
    const ws = tf.reshape(
      transforms.spectrum(tf.reshape(weights as Tensor, [height.kernel, width.kernel, channels * filters])),
      [frequencies, 2, channels, filters],
    );
    (save as (tensors: Tensor[]) => void)([xs, ws]);
    // y[i] is the correlation at i - before.
    const correlation = products(tf.reshape(xs, [frequencies, 1, 2 * rows, channels]), ws);
    const at = ({ output, before }: Axis): Synthesis => ({
      length: output,
      first: -before,
      sign: -1,
      order: 'ba',
    });
    const y = transforms.signal(correlation, rows * filters, at(height), at(width));
    return {
      value: transforms.rowsFirst(y, height.output, width.output, filters) as unknown as Scalar,
      gradFunc: (dy: Tensor, saved: Tensor[]) => gradients(transforms, shape, dy, saved),
    };
  });
  return kernel(x, w) as unknown as Tensor4D;
}

function gradients(
  transforms: Transforms,
  { rows, height, width, channels, filters }: ConvolutionShape,
  dy: Tensor,
  [xs, ws]: Tensor[],
): Tensor[] {
  const { frequencies } = transforms;
  const ys = transforms.spectrum(transforms.pixelsFirst(dy));
  // dx[u] is the convolution at u + before.
  const convolution = products(
    tf.reshape(ys, [frequencies, 1, 2 * rows, filters]),
    ws as Tensor,
    false,
    true,
  );
  const ofInput = ({ input, before }: Axis): Synthesis => ({
    length: input,
    first: before,
    sign: 1,
    order: 'ba',
  });
  const dx = transforms.signal(convolution, rows * channels, ofInput(height), ofInput(width));
  // dw[t] is the correlation at t - before.
  const correlation = products(
    tf.reshape(xs as Tensor, [frequencies, 2, 1, rows, channels]),
    tf.reshape(ys, [frequencies, 1, 2, rows, filters]),
    true,
  );
  const ofKernel = ({ kernel, before }: Axis): Synthesis => ({
    length: kernel,
    first: -before,
    sign: -1,
    order: 'ab',
  });
  const dw = transforms.signal(correlation, channels * filters, ofKernel(height), ofKernel(width));
  return [
    transforms.rowsFirst(dx, height.input, width.input, channels),
    tf.reshape(dw, [height.kernel, width.kernel, channels, filters]),
  ];
}
