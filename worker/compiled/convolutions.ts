import type { Tensor, Tensor2D, Tensor4D } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { tf } from '../tensorflow.js';
import { withReplaced, type LayerWeight } from './replaced-layers.js';
import { isSpectral, spectralConvolution, type Axis, type ConvolutionShape } from './spectral-convolution.js';

/*
 * How training computes the convolutions of a model: by TensorFlow's kernels, or by another way that is faster for their
 * shape. Part of what decides the bits: a function of shapes alone.
 */

/** What tfjs-layers' `Conv2D` has. */
interface ConvolutionLayer {
  readonly strides: readonly number[];
  readonly dilationRate: readonly number[];
  readonly padding: string;
  readonly dataFormat: string;
  readonly kernel: LayerWeight;
  readonly bias: LayerWeight | null;
  readonly activation: { apply(x: Tensor): Tensor } | null;
}

function axisOf(input: number, kernel: number, padding: string): Axis {
  const zeros = padding === 'same' ? kernel - 1 : 0;
  return { input, kernel, output: input + zeros - kernel + 1, before: Math.floor(zeros / 2) };
}

const isCovering = ({ input, kernel, output }: Axis): boolean => kernel === input && output === 1;

/**
 * A kernel that covers its whole input is the matrix of a dense layer: x [rows, height, width, channels], w [height, width,
 * channels, filters], y [rows, 1, 1, filters].
 */
function coveringConvolution(x: Tensor4D, w: Tensor4D, { rows, filters }: ConvolutionShape): Tensor4D {
  const values = w.size / filters;
  const flat: Tensor2D = tf.reshape(x, [rows, values]);
  return tf.reshape(tf.matMul(flat, tf.reshape(w, [values, filters])), [rows, 1, 1, filters]);
}

/** @returns undefined where TensorFlow's convolution is the fastest */
function convolution(x: Tensor4D, w: Tensor4D, shape: ConvolutionShape): Tensor4D | undefined {
  if (isCovering(shape.height) && isCovering(shape.width)) return coveringConvolution(x, w, shape);
  return isSpectral(shape) ? spectralConvolution(x, w, shape) : undefined;
}

/** Runs `fn` with the convolutional layers of the model computed in the fastest way that we have. */
export function withFastConvolutions<Result>(model: LayersModel, fn: () => Result): Result {
  const compute = (layer: ConvolutionLayer, x: Tensor): Tensor | undefined => {
    const { strides, dilationRate, padding, dataFormat, bias, activation } = layer;
    const isPlain = [...strides, ...dilationRate].every((step) => step === 1);
    if (x.rank !== 4 || !isPlain || dataFormat !== 'channelsLast') return undefined;
    const weights = layer.kernel.read() as Tensor4D;
    const [rows, inputHeight, inputWidth, channels] = (x as Tensor4D).shape;
    const [kernelHeight, kernelWidth, , filters] = weights.shape;
    const height = axisOf(inputHeight, kernelHeight, padding);
    const width = axisOf(inputWidth, kernelWidth, padding);
    const convolved = convolution(x as Tensor4D, weights, { rows, height, width, channels, filters });
    if (convolved === undefined) return undefined;
    const biased = bias === null ? convolved : tf.add(convolved, bias.read());
    return activation === null ? biased : activation.apply(biased);
  };
  return withReplaced(model, 'Conv2D', compute, fn);
}
