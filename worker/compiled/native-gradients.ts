import {
  getGradient,
  type AvgPoolAttrs,
  type GradConfig,
  type NamedAttrMap,
  type Scalar,
  type Tensor,
  type Tensor2D,
} from '@tensorflow/tfjs-core';
import type { LossSum } from '../model-program.js';
import { nodeBackend, tf } from '../tensorflow.js';
import type { OpAttr } from './graph-def.js';

/*
 * TensorFlow's own gradient kernels, where tfjs composes a gradient from many ops. They are in force only while a
 * function is being traced; eager execution keeps tfjs's.
 */

const floatType = (): OpAttr => {
  const { TF_ATTR_TYPE, TF_FLOAT } = nodeBackend().binding;
  return { name: 'T', type: TF_ATTR_TYPE, value: TF_FLOAT };
};

const native = (op: string, inputs: Tensor[], attrs: OpAttr[] = []): Tensor =>
  nodeBackend().executeSingleOutput(op, [floatType(), ...attrs], inputs);

const relu: GradConfig = {
  kernelName: 'Relu',
  outputsToSave: [true],
  gradFunc: (dy, saved) => ({ x: () => native('ReluGrad', [dy as Tensor, saved[0] as Tensor]) }),
};

const tanh: GradConfig = {
  kernelName: 'Tanh',
  outputsToSave: [true],
  gradFunc: (dy, saved) => ({ x: () => native('TanhGrad', [saved[0] as Tensor, dy as Tensor]) }),
};

const sigmoid: GradConfig = {
  kernelName: 'Sigmoid',
  outputsToSave: [true],
  gradFunc: (dy, saved) => ({ x: () => native('SigmoidGrad', [saved[0] as Tensor, dy as Tensor]) }),
};

/**
 * Averages over windows side by side: each value of a window gets the same part of its gradient, which is copied twice, once
 * beside itself in its row and then the row (TensorFlow's kernel takes three times as long). Any other pooling keeps tfjs's gradient.
 */
function averagePool(composed: GradConfig): GradConfig {
  return {
    ...composed,
    gradFunc: (dy, saved, attrs: NamedAttrMap) => {
      const { filterSize, strides, pad } = attrs as unknown as AvgPoolAttrs;
      const [height, width] = pairOf(filterSize);
      const [rows = 0, y = 0, x = 0, channels = 0] = (dy as Tensor).shape;
      const [, inputHeight, inputWidth] = (saved[0] as Tensor).shape;
      const isSideBySide = typeof pad === 'string' && pairOf(strides).join() === pairOf(filterSize).join();
      if (!isSideBySide || inputHeight !== height * y || inputWidth !== width * x) {
        return composed.gradFunc(dy, saved, attrs);
      }
      const copies = (count: number, tensor: Tensor2D): Tensor2D =>
        count === 1 ? tensor : tf.concat(new Array<Tensor2D>(count).fill(tensor), 1);
      return {
        x: () => {
          const part = tf.mul(dy as Tensor, 1 / (height * width));
          const inRow = copies(width, tf.reshape(part, [rows * y * x, channels]));
          const all = copies(height, tf.reshape(inRow, [rows * y, x * width * channels]));
          return tf.reshape(all, [rows, y * height, x * width, channels]);
        },
      };
    },
  };
}

const pairOf = (size: number | readonly [number, number]): readonly [number, number] =>
  typeof size === 'number' ? [size, size] : size;

/** Adding a bias to the last axis; any other addition keeps tfjs's gradient. */
function add(composed: GradConfig): GradConfig {
  return {
    ...composed,
    gradFunc: (dy, saved, attrs: NamedAttrMap) => {
      const [a, b] = saved as [Tensor, Tensor];
      const upstream = dy as Tensor;
      const isBias =
        b.rank === 1 && a.rank > 1 && a.shape.at(-1) === b.shape[0] && upstream.dtype === 'float32';
      if (!isBias) return composed.gradFunc(dy, saved, attrs);
      const { TF_ATTR_STRING } = nodeBackend().binding;
      const format = { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' };
      return { a: () => upstream, b: () => native('BiasAddGrad', [upstream], [format]) };
    },
  };
}

/** Runs `fn` with the native gradients registered, then restores tfjs's. */
export function withNativeGradients<Result>(fn: () => Result): Result {
  const replaced = [relu, tanh, sigmoid, add(getGradient('Add')), averagePool(getGradient('AvgPool'))];
  const before = replaced.map(({ kernelName }) => getGradient(kernelName));
  const register = (configs: readonly GradConfig[]): void => {
    for (const config of configs) {
      tf.unregisterGradient(config.kernelName);
      tf.registerGradient(config);
    }
  };
  register(replaced);
  try {
    return fn();
  } finally {
    register(before);
  }
}

/** Softmax cross-entropy as one kernel that gives the losses and their gradient at once. `truth` has no gradient. */
function crossEntropy(op: string, attrs: OpAttr[], logits: Tensor, truth: Tensor): Scalar {
  const kernel = tf.customGrad((x, save) => {
    const [losses, gradient] = nodeBackend().executeMultipleOutputs(op, attrs, [x as Tensor, truth], 2) as [
      Tensor,
      Tensor,
    ];
    (save as (tensors: Tensor[]) => void)([gradient]);
    return {
      value: tf.sum(losses),
      gradFunc: (dy: Tensor, saved: Tensor[]) => tf.mul(saved[0] as Tensor, dy),
    };
  });
  return kernel(logits) as Scalar;
}

export const nativeLoss: LossSum = (logits, labels) => {
  const { TF_ATTR_TYPE, TF_INT32 } = nodeBackend().binding;
  const labelType = { name: 'Tlabels', type: TF_ATTR_TYPE, value: TF_INT32 };
  return crossEntropy('SparseSoftmaxCrossEntropyWithLogits', [floatType(), labelType], logits, labels);
};

/** @param smoothing s: the truth is (1 - s) * oneHot + s / classes */
export const nativeSmoothedLoss =
  (classes: number, smoothing: number): LossSum =>
  (logits, labels) => {
    const truth = tf.oneHot(
      labels,
      classes,
      1 - smoothing + smoothing / classes,
      smoothing / classes,
      'float32',
    );
    return crossEntropy('SoftmaxCrossEntropyWithLogits', [floatType()], logits, truth);
  };
