import type { Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { nodeBackend, tf } from './tensorflow.js';

/*
 * Layers that draw random numbers, fed from an input instead of tfjs's own generators: TensorFlow's stateless ops
 * (https://www.tensorflow.org/api_docs/python/tf/random/stateless_uniform) are pure functions of a seed and a shape,
 * in eager execution and in a graph alike. Which layers are fed is decided in shared/models/topology.ts.
 */

interface RandomLayer {
  readonly name: string;
  readonly rate?: number;
  readonly stddev?: number;
  getClassName(): string;
  call(inputs: Tensor | Tensor[], kwargs: Record<string, unknown>): Tensor | Tensor[];
}

/** Draws of one kind: `StatelessRandomUniform` in [0, 1), `StatelessRandomNormal`, both float32. */
function stateless(
  op: 'StatelessRandomUniform' | 'StatelessRandomNormal',
  shape: number[],
  seed: Tensor,
): Tensor {
  const backend = nodeBackend();
  const { TF_ATTR_TYPE, TF_FLOAT, TF_INT32 } = backend.binding;
  const attrs = [
    { name: 'dtype', type: TF_ATTR_TYPE, value: TF_FLOAT },
    { name: 'T', type: TF_ATTR_TYPE, value: TF_INT32 },
    { name: 'Tseed', type: TF_ATTR_TYPE, value: TF_INT32 },
  ];
  return backend.executeSingleOutput(op, attrs, [tf.tensor1d(shape, 'int32'), seed]);
}

/** Keeps each of `shape` with probability 1 - rate, scaled so that the expectation stays (inverted dropout). */
function dropout(x: Tensor, rate: number, shape: number[], seed: Tensor): Tensor {
  const keep = tf.greaterEqual(stateless('StatelessRandomUniform', shape, seed), rate);
  return tf.mul(x, tf.div(tf.cast(keep, 'float32'), 1 - rate));
}

function noisy(layer: RandomLayer, x: Tensor, seed: Tensor): Tensor | undefined {
  const { rate = 0, stddev = 0 } = layer;
  switch (layer.getClassName()) {
    case 'Dropout':
      return rate > 0 ? dropout(x, rate, x.shape, seed) : x;
    case 'SpatialDropout1D': {
      const [rows = 1, , channels = 1] = x.shape;
      return rate > 0 ? dropout(x, rate, [rows, 1, channels], seed) : x;
    }
    case 'GaussianNoise':
      return tf.add(x, tf.mul(stateless('StatelessRandomNormal', x.shape, seed), stddev));
    case 'GaussianDropout': {
      const deviation = Math.sqrt(rate / (1 - rate));
      return tf.mul(x, tf.add(tf.mul(stateless('StatelessRandomNormal', x.shape, seed), deviation), 1));
    }
    default:
      return undefined;
  }
}

const FED = new Set(['Dropout', 'SpatialDropout1D', 'GaussianNoise', 'GaussianDropout']);

/**
 * Makes the random layers of a model draw from `seed()`, an int32 tensor of two words; each layer its own stream.
 * @returns the number of such layers
 */
export function feedRandomLayers(model: LayersModel, seed: () => Tensor): number {
  let fed = 0;
  const visit = (layers: readonly unknown[]): void => {
    for (const each of layers) {
      const layer = each as RandomLayer & { layers?: unknown[] };
      if (layer.layers !== undefined) visit(layer.layers);
      if (!FED.has(layer.getClassName())) continue;
      const stream = ++fed;
      layer.call = (inputs, kwargs) => {
        const x = Array.isArray(inputs) ? inputs[0] : inputs;
        if (x === undefined || kwargs['training'] !== true) return inputs;
        return noisy(layer, x, tf.add(seed(), tf.tensor1d([0, stream], 'int32'))) ?? inputs;
      };
    }
  };
  visit(model.layers);
  return fed;
}
