import { initialWeights } from '../../coordinator/initial-weights.js';
import { compileModel, type CompiledModel } from '../../shared/models/compile.js';
import type { ImageShape, Topology } from '../../shared/models/presets.js';
import type { RunSpec } from '../../shared/protocol/messages.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import type { StepMode } from '../../shared/config.js';
import type { Place } from '../../worker/augmentation/augment.js';
import type { Batch } from '../../worker/model-functions.js';

/** The first micro-batch of a run. */
export const PLACE: Place = { seed: 1, trial: 0, epoch: 0, shard: 0, position: 0 };

/** A model with initial weights, and rows made up for it: no dataset needed. */
export interface ModelFixture {
  readonly model: CompiledModel;
  readonly spec: RunSpec;
  readonly weights: Float32Array;
  readonly pixels: number;
  readonly batch: (rows: number, seed?: number) => Batch & { readonly images: Uint8Array };
}

export async function modelFixture(
  topology: Topology,
  image: ImageShape = [28, 28, 1],
  classes = 10,
  step: StepMode = 'auto',
): Promise<ModelFixture> {
  const model = await compileModel(topology, image, classes, null);
  const pixels = image[0] * image[1] * image[2];
  return {
    model,
    pixels,
    weights: initialWeights(model, 1, 0),
    spec: {
      seed: 1,
      batchSize: 64,
      shards: 8,
      evaluationRows: 50,
      step,
      recipe: { augmentation: null, labelSmoothing: 0, pixelMax: 255 },
      dataset: {
        name: 'made-up',
        sha256: '0'.repeat(64),
        trainRows: 1_000,
        testRows: 100,
        imageShape: [...image],
        classNames: Array.from({ length: classes }, (_, i) => String(i)),
      },
      layout: model.layout,
      topology: { ...model.training },
    },
    batch: (rows, seed = 1) => {
      const stream = new RandomStream({ seed, purpose: Purpose.folds, trial: 0, epoch: 0, shard: 0 });
      return {
        rows,
        images: new Uint8Array(rows * pixels).map(() => stream.below(256)),
        labels: new Int32Array(rows).map(() => stream.below(classes)),
        seed: Int32Array.of(stream.uint32(), stream.uint32()),
      };
    },
  };
}

/** ||a - b|| / ||b||. */
export function relativeError(a: Float32Array | Float64Array, b: Float32Array | Float64Array): number {
  let difference = 0;
  let norm = 0;
  b.forEach((value, i) => {
    difference += ((a[i] ?? Number.NaN) - value) ** 2;
    norm += value ** 2;
  });
  return norm === 0 && difference === 0 ? 0 : Math.sqrt(difference / norm);
}

const layer = (class_name: string, name: string, config: Record<string, unknown> = {}): Topology => ({
  class_name,
  config: { name, ...config },
});

const sequential = (name: string, image: ImageShape, layers: Topology[]): Topology => {
  const [first, ...rest] = layers as [Topology, ...Topology[]];
  const input = { ...first, config: { ...first.config, batch_input_shape: [null, ...image] } };
  return { class_name: 'Sequential', config: { name, layers: [input, ...rest] } };
};

/** Convolution, batch normalization, dropout. */
export const NORMALIZED: Topology = sequential(
  'normalized',
  [28, 28, 1],
  [
    layer('Conv2D', 'conv', {
      filters: 4,
      kernel_size: [3, 3],
      strides: [2, 2],
      padding: 'same',
      use_bias: false,
    }),
    layer('BatchNormalization', 'norm', { axis: -1 }),
    layer('Activation', 'relu', { activation: 'relu' }),
    layer('Dropout', 'dropout', { rate: 0.3 }),
    layer('Flatten', 'flatten'),
    layer('Dense', 'hidden', { units: 16, activation: 'sigmoid' }),
    layer('GaussianNoise', 'noise', { stddev: 0.1 }),
    layer('Dense', 'output', { units: 10, activation: 'softmax' }),
  ],
);

/** Layers that no preset has: depthwise and separable convolution, PReLU, ELU, upsampling, cropping, global pooling. */
export const UNUSUAL: Topology = sequential(
  'unusual',
  [28, 28, 1],
  [
    layer('Conv2D', 'conv', { filters: 6, kernel_size: [3, 3], padding: 'same', activation: 'elu' }),
    layer('DepthwiseConv2D', 'depthwise', { kernel_size: [3, 3], padding: 'same', activation: 'selu' }),
    layer('Cropping2D', 'crop', {
      cropping: [
        [2, 2],
        [2, 2],
      ],
    }),
    layer('AveragePooling2D', 'pool', { pool_size: [2, 2] }),
    layer('SeparableConv2D', 'separable', { filters: 8, kernel_size: [3, 3], padding: 'same' }),
    layer('LeakyReLU', 'leaky', { alpha: 0.1 }),
    layer('UpSampling2D', 'up', { size: [2, 2] }),
    layer('Conv2D', 'last', { filters: 10, kernel_size: [1, 1], activation: 'softplus' }),
    layer('GlobalAveragePooling2D', 'global'),
    layer('Dense', 'output', { units: 10, activation: 'softmax' }),
  ],
);

/** 4 x 4 pixels, five hidden tanh units, three classes: small enough for finite differences. */
export const TINY_IMAGE: ImageShape = [4, 4, 1];
export const TINY: Topology = sequential('tiny', TINY_IMAGE, [
  layer('Flatten', 'flatten'),
  layer('Dense', 'hidden', { units: 5, activation: 'tanh' }),
  layer('Dense', 'output', { units: 3, activation: 'softmax' }),
]);
