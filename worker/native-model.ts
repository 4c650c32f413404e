import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers';
import { AtelierError } from '../shared/errors.js';
import { instantiate } from '../shared/models/compile.js';
import type { ExportedModel } from '../shared/models/exported-model.js';
import { layersOf, layerTable } from '../shared/models/layer-table.js';
import { endsInSoftmax } from '../shared/models/topology.js';
import type { Kernel, LayerInfo, LayerOutput, TrainedModel } from '../shared/models/trained-model.js';
import { tf } from './tensorflow.js';

/** Rows that are predicted at once. */
const BATCH_ROWS = 250;
const PIXEL_MAX = 255;

/** An exported model run by native TensorFlow, op by op. One thread of one process at a time. */
export class NativeModel implements TrainedModel {
  readonly imageShape: readonly [height: number, width: number, channels: number];
  readonly classes: number;
  readonly layers: readonly LayerInfo[];
  private readonly model: LayersModel;
  private readonly inputShape: readonly number[];
  private readonly isDistribution: boolean;

  private constructor(model: LayersModel, isDistribution: boolean) {
    this.model = model;
    this.isDistribution = isDistribution;
    this.inputShape = (model.inputs[0]?.shape.slice(1) ?? []).map((d) => d ?? -1);
    const [height = -1, width = -1, channels = 1] = this.inputShape;
    this.imageShape = [height, width, channels];
    this.classes = model.outputs[0]?.shape[1] ?? -1;
    this.layers = layerTable(model);
  }

  /** @throws AtelierError `model` when it is not an image classifier, or its weights do not fit */
  static async create(exported: ExportedModel): Promise<NativeModel> {
    const model = await instantiate(exported.topology);
    try {
      checkShapes(model, exported.folder);
      assignWeights(model, exported);
      return new NativeModel(model, endsInSoftmax(exported.topology));
    } catch (error) {
      model.dispose();
      throw error;
    }
  }

  predict(pixels: Uint8Array): Float32Array {
    const [height, width, channels] = this.imageShape;
    const size = height * width * channels;
    const rows = pixels.length / size;
    const probabilities = new Float32Array(rows * this.classes);
    for (let start = 0; start < rows; start += BATCH_ROWS) {
      const batch = pixels.subarray(start * size, Math.min(rows, start + BATCH_ROWS) * size);
      probabilities.set(
        tf.tidy(() => this.forward(this.input(batch)).dataSync()),
        start * this.classes,
      );
    }
    return probabilities;
  }

  layerOutputs(image: Uint8Array, names: readonly string[]): LayerOutput[] {
    const known = new Map(this.model.layers.map((layer) => [layer.name, layer]));
    const layers = names.map((name) => {
      const layer = known.get(name);
      if (layer !== undefined) return layer;
      throw new AtelierError('usage', `no layer "${name}": the model has ${[...known.keys()].join(', ')}`);
    });
    if (layers.length === 0) return [];
    const tapped = tf.model({
      inputs: this.model.inputs,
      outputs: layers.map((layer) => layer.output as SymbolicTensor),
    });
    return tf.tidy(() => {
      const outputs = tapped.predict(this.input(image));
      return (Array.isArray(outputs) ? outputs : [outputs]).map((output, i) => ({
        layer: names[i] ?? '',
        type: layers[i]?.getClassName() ?? '',
        shape: output.shape.slice(1),
        values: output.dataSync<'float32'>(),
      }));
    });
  }

  kernels(): Kernel[] {
    return layersOf(this.model).flatMap((layer) => {
      const kernel = layer.trainableWeights.find(({ originalName }) => originalName.endsWith('kernel'));
      if (kernel?.shape.length !== 4) return [];
      const shape = kernel.shape as unknown as Kernel['shape'];
      return [{ layer: layer.name, shape, values: kernel.read().dataSync<'float32'>() }];
    });
  }

  /**
   * The forward pass.
   * @param images rows x input shape, 0 to 1
   * @returns rows x classes probabilities
   */
  forward(images: Tensor): Tensor {
    const output = this.model.apply(images, { training: false }) as Tensor;
    return this.isDistribution ? output : tf.softmax(output);
  }

  /** Shape of the images that `forward` takes. */
  get forwardShape(): readonly number[] {
    return this.inputShape;
  }

  /** All weights, in the order of the layers. */
  get variables(): readonly Variable[] {
    return this.model.weights.map((weight) => (weight as unknown as { val: Variable }).val);
  }

  dispose(): void {
    this.model.dispose();
  }

  private input(pixels: Uint8Array): Tensor {
    const [first = -1, ...rest] = this.inputShape;
    return tf.div(
      tf.tensor(Float32Array.from(pixels), [pixels.length / sizeOf(this.inputShape), first, ...rest]),
      PIXEL_MAX,
    );
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, d) => size * d, 1);

function checkShapes(model: LayersModel, folder: string): void {
  const input = model.inputs.length === 1 ? model.inputs[0]?.shape.slice(1) : undefined;
  if (input === undefined || input.length < 2 || input.length > 3 || input.some((d) => d === null)) {
    throw new AtelierError('model', `${folder}: the model does not take one image of a fixed size`);
  }
  const output = model.outputs.length === 1 ? model.outputs[0]?.shape : undefined;
  if (output?.length !== 2 || output[1] === null) {
    throw new AtelierError('model', `${folder}: the model does not give one row of classes`);
  }
}

function assignWeights(model: LayersModel, { folder, weights }: ExportedModel): void {
  const values = new Map(weights.map((weight) => [weight.name, weight]));
  for (const weight of model.weights) {
    const given = values.get(weight.originalName);
    if (given?.shape.join() !== weight.shape.join()) {
      throw new AtelierError(
        'model',
        `${folder}: no weights of [${weight.shape.join(', ')}] for ${weight.originalName}: model.json and its ` +
          `weights do not belong together`,
      );
    }
    tf.tidy(() =>
      (weight as unknown as { val: Variable }).val.assign(
        tf.tensor(given.values, [...given.shape], 'float32'),
      ),
    );
  }
}
