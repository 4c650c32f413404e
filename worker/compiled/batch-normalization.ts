import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { nodeBackend, tf } from '../tensorflow.js';
import type { OpAttr } from './graph-def.js';
import { withReplaced, type LayerWeight } from './replaced-layers.js';

/*
 * Batch normalization of images in training as TensorFlow's two fused kernels, where tfjs-layers composes it, and its
 * gradient, from some thirty ops.
 */

/** What tfjs-layers' `BatchNormalization` has. */
interface NormalizationLayer {
  readonly axis: number;
  readonly epsilon: number;
  readonly momentum: number;
  readonly gamma: LayerWeight | undefined;
  readonly beta: LayerWeight | undefined;
  readonly movingMean: LayerWeight;
  readonly movingVariance: LayerWeight;
}

function attributes(epsilon: number): OpAttr[] {
  const { TF_ATTR_TYPE, TF_ATTR_FLOAT, TF_ATTR_STRING, TF_ATTR_BOOL, TF_FLOAT } = nodeBackend().binding;
  return [
    { name: 'T', type: TF_ATTR_TYPE, value: TF_FLOAT },
    { name: 'U', type: TF_ATTR_TYPE, value: TF_FLOAT },
    { name: 'epsilon', type: TF_ATTR_FLOAT, value: epsilon },
    { name: 'data_format', type: TF_ATTR_STRING, value: 'NHWC' },
    { name: 'is_training', type: TF_ATTR_BOOL, value: true },
  ];
}

/** @returns normalized x; mean and (biased) variance of each channel, kept: the caller disposes of them */
function normalize(
  input: Tensor,
  scale: Tensor,
  offset: Tensor,
  epsilon: number,
): { normalized: Tensor; mean: Tensor; variance: Tensor } {
  const backend = nodeBackend();
  const attrs = attributes(epsilon);
  const factor = { name: 'exponential_avg_factor', type: backend.binding.TF_ATTR_FLOAT, value: 1 };
  const examples = input.size / (input.shape.at(-1) ?? 1);
  let mean: Tensor | undefined;
  let variance: Tensor | undefined;
  const kernel = tf.customGrad((x, gamma, beta, save) => {
    const none = tf.tensor1d([], 'float32');
    const inputs = [x, gamma, beta, none, none] as Tensor[];
    const [y, batchMean, batchVariance, ...reserved] = backend.executeMultipleOutputs(
      'FusedBatchNormV3',
      [...attrs, factor],
      inputs,
      6,
    ) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    mean = tf.keep(batchMean);
    // The kernel reports Bessel's unbiased variance; tfjs-layers averages the biased one.
    variance = tf.keep(tf.mul(batchVariance, Math.max(1, examples - 1) / examples));
    (save as (tensors: Tensor[]) => void)([x as Tensor, gamma as Tensor, ...reserved]);
    return {
      value: y as Scalar,
      gradFunc: (dy: Tensor, saved: Tensor[]) =>
        backend.executeMultipleOutputs('FusedBatchNormGradV3', attrs, [dy, ...saved], 5).slice(0, 3),
    };
  });
  const normalized = kernel(input, scale, offset);
  if (mean === undefined || variance === undefined) throw new Error('the kernel ran');
  return { normalized, mean, variance };
}

/** moving -= (moving - value) * (1 - momentum), as tfjs-layers has it. */
function average(moving: LayerWeight, value: Tensor, momentum: number): void {
  tf.tidy(() => {
    const before = moving.read();
    moving.write(tf.sub(before, tf.mul(tf.sub(before, value), 1 - momentum)));
  });
  value.dispose();
}

/** Runs `fn` with the fused kernels in the model's batch normalizations of images. */
export function withFusedNormalization<Result>(model: LayersModel, fn: () => Result): Result {
  const compute = (layer: NormalizationLayer, x: Tensor): Tensor | undefined => {
    const { axis, gamma, beta, epsilon, momentum } = layer;
    const isLast = axis === -1 || axis === 3;
    if (x.rank !== 4 || !isLast || gamma === undefined || beta === undefined) return undefined;
    const { normalized, mean, variance } = normalize(x, gamma.read(), beta.read(), epsilon);
    average(layer.movingMean, mean, momentum);
    average(layer.movingVariance, variance, momentum);
    return normalized;
  };
  return withReplaced(model, 'BatchNormalization', compute, fn);
}
