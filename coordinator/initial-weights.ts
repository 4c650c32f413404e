import { AtelierError } from '../shared/errors.js';
import type { TensorSpec } from '../shared/layout.js';
import type { CompiledModel, InitializerConfig } from '../shared/models/compile.js';
import { Purpose, RandomStream } from '../shared/rng.js';

/**
 * Draws the initial parameters and state of a trial: tensor i of the layout from stream (seed, trial, i), by
 * the initializer its layer names. The distributions are Keras' (https://keras.io/api/layers/initializers/).
 * @throws AtelierError `model` for an initializer that is not known
 */
export function initialWeights(model: CompiledModel, seed: number, trial: number): Float32Array {
  const weights = new Float32Array(model.layout.size);
  model.layout.tensors.forEach((tensor, index) => {
    const recipe = model.recipes[index];
    if (recipe === undefined) return;
    const stream = new RandomStream({ seed, purpose: Purpose.initialWeights, trial, epoch: 0, shard: index });
    const values = weights.subarray(tensor.offset, tensor.offset + tensor.size);
    fill(values, tensor, recipe.initializer, stream);
  });
  return weights;
}

/** The standard deviation of a standard normal cut off at two: Keras divides by it. */
const TRUNCATED_STANDARD_DEVIATION = 0.87962566103423978;

function fill(
  values: Float32Array,
  tensor: TensorSpec,
  { className, config }: InitializerConfig,
  stream: RandomStream,
): void {
  const number = (key: string, otherwise: number): number => {
    const value = config[key];
    return typeof value === 'number' ? value : otherwise;
  };
  const each = (draw: () => number): void => {
    for (let i = 0; i < values.length; i++) values[i] = draw();
  };
  const uniform = (low: number, high: number) => (): number => low + (high - low) * stream.uniform();
  const normal = (mean: number, deviation: number) => (): number => mean + deviation * stream.normal();
  const truncated = (mean: number, deviation: number) => (): number => {
    for (;;) {
      const draw = stream.normal();
      if (Math.abs(draw) <= 2) return mean + deviation * draw;
    }
  };
  switch (className) {
    case 'Zeros':
      return;
    case 'Ones':
      values.fill(1);
      return;
    case 'Constant':
      values.fill(number('value', 0));
      return;
    case 'RandomUniform':
      each(uniform(number('minval', -0.05), number('maxval', 0.05)));
      return;
    case 'RandomNormal':
      each(normal(number('mean', 0), number('stddev', 0.05)));
      return;
    case 'TruncatedNormal':
      each(truncated(number('mean', 0), number('stddev', 0.05)));
      return;
    case 'VarianceScaling': {
      const variance = number('scale', 1) / fans(tensor, config['mode']);
      if (config['distribution'] === 'uniform') {
        const limit = Math.sqrt(3 * variance);
        each(uniform(-limit, limit));
      } else if (config['distribution'] === 'untruncatedNormal') {
        each(normal(0, Math.sqrt(variance)));
      } else {
        each(truncated(0, Math.sqrt(variance) / TRUNCATED_STANDARD_DEVIATION));
      }
      return;
    }
    case 'Identity':
      identity(values, tensor, number('gain', 1));
      return;
    default:
      throw new AtelierError('model', `${tensor.name}: the initializer ${className} is not supported`);
  }
}

/** The denominator of variance scaling (He et al. 2015; Glorot & Bengio 2010). */
function fans({ shape }: TensorSpec, mode: unknown): number {
  const receptiveField = shape.slice(0, -2).reduce((size, d) => size * d, 1);
  const fanOut = (shape.at(-1) ?? 1) * receptiveField;
  const fanIn = shape.length < 2 ? fanOut : (shape.at(-2) ?? 1) * receptiveField;
  const fan = mode === 'fanIn' ? fanIn : mode === 'fanOut' ? fanOut : (fanIn + fanOut) / 2;
  return Math.max(1, fan);
}

function identity(values: Float32Array, tensor: TensorSpec, gain: number): void {
  const [rows, columns] = tensor.shape;
  if (tensor.shape.length !== 2 || rows === undefined || columns !== rows) {
    throw new AtelierError('model', `${tensor.name}: the Identity initializer needs a square matrix`);
  }
  for (let i = 0; i < rows; i++) values[i * rows + i] = gain;
}
