import { models, type LayersModel } from '@tensorflow/tfjs-layers';
import { AtelierError, messageOf } from '../errors.js';
import { makeLayout, type NamedShape, type TensorLayout } from '../layout.js';
import type { ImageShape, Topology } from './presets.js';
import { allLayers, trainingTopology } from './topology.js';

/** An initializer as Keras serializes it. */
export interface InitializerConfig {
  readonly className: string;
  readonly config: Readonly<Record<string, unknown>>;
}

/** What the coordinator must know of one trainable or state tensor beyond its place. */
export interface WeightRecipe {
  readonly initializer: InitializerConfig;
  /** Regularization strengths: the loss term is l1 * sum|w| + l2 * sum(w^2). */
  readonly l1: number;
  readonly l2: number;
}

/** A model, ready to be trained anywhere. */
export interface CompiledModel {
  /** As the user gave it: what is exported. */
  readonly topology: Topology;
  /** As workers run it: see `trainingTopology`. */
  readonly training: Topology;
  readonly layout: TensorLayout;
  /** One per tensor of the layout. */
  readonly recipes: readonly WeightRecipe[];
}

interface LayerLike {
  readonly name: string;
  readonly layers?: LayerLike[];
  readonly trainableWeights: WeightLike[];
  readonly nonTrainableWeights: WeightLike[];
  getConfig(): Record<string, unknown>;
}
interface WeightLike {
  readonly originalName: string;
  readonly shape: (number | null)[];
}

/** Builds the tfjs model of a topology. The caller has registered a backend. Its name is not part of the weights'. */
export async function instantiate(topology: Topology): Promise<LayersModel> {
  try {
    return await models.modelFromJSON(structuredClone(topology) as never);
  } catch (cause) {
    throw new AtelierError('model', `TensorFlow.js cannot build this topology: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Is a batch of rows of this shape accepted as it is, or (for a single channel) without its channel axis? */
function inputMatches(model: LayersModel, image: ImageShape): boolean {
  const shape = model.inputs[0]?.shape.slice(1);
  if (shape === undefined || shape.some((d) => d === null)) return false;
  const wanted = image.join();
  return shape.join() === wanted || (image[2] === 1 && `${shape.join()},1` === wanted);
}

/**
 * Reads a topology: its weights, their initializers and regularizers, and whether it fits the data.
 * @param l2 overrides the L2 strength of every Dense kernel when it is not null
 * @throws AtelierError `model`
 */
export async function compileModel(
  topology: Topology,
  image: ImageShape,
  classes: number,
  l2: number | null,
): Promise<CompiledModel> {
  const training = trainingTopology(topology);
  const exact = l2 === null ? topology : withDenseL2(topology, l2);
  const model = await instantiate(exact);
  try {
    if (model.inputs.length !== 1 || !inputMatches(model, image)) {
      const has = model.inputs.map((input) => `[${input.shape.slice(1).join(', ')}]`).join(' and ');
      throw new AtelierError(
        'model',
        `the model takes ${has}, the dataset has images of [${image.join(', ')}]`,
      );
    }
    const output = model.outputs.length === 1 ? model.outputs[0]?.shape : undefined;
    if (output?.length !== 2 || output[1] !== classes) {
      const has = model.outputs.map((o) => `[${o.shape.slice(1).join(', ')}]`).join(' and ');
      throw new AtelierError('model', `the model's output is ${has}, the dataset has ${classes} classes`);
    }
    const weights = collectWeights(model.layers);
    if (weights.trainable.length === 0) {
      throw new AtelierError('model', 'the model has no trainable weights: nothing to train');
    }
    const layout = makeLayout(weights.trainable.map(shapeOf), weights.state.map(shapeOf));
    const names = new Set(layout.tensors.map((tensor) => tensor.name));
    if (names.size !== layout.tensors.length) {
      throw new AtelierError(
        'model',
        'two weights of the model have the same name: give every layer its own',
      );
    }
    const recipes = [...weights.trainable, ...weights.state].map((weight) => recipeOf(weight));
    return { topology: exact, training, layout, recipes };
  } finally {
    model.dispose();
  }
}

interface OwnedWeight {
  readonly layer: LayerLike;
  readonly weight: WeightLike;
}

const shapeOf = ({ weight }: OwnedWeight): NamedShape => ({
  name: weight.originalName,
  shape: weight.shape.map((d) => d ?? 0),
});

function collectWeights(layers: readonly LayerLike[]): { trainable: OwnedWeight[]; state: OwnedWeight[] } {
  const trainable: OwnedWeight[] = [];
  const state: OwnedWeight[] = [];
  for (const layer of layers) {
    if (layer.layers !== undefined) {
      const inner = collectWeights(layer.layers);
      trainable.push(...inner.trainable);
      state.push(...inner.state);
      continue;
    }
    trainable.push(...layer.trainableWeights.map((weight) => ({ layer, weight })));
    state.push(...layer.nonTrainableWeights.map((weight) => ({ layer, weight })));
  }
  return { trainable, state };
}

const camelCase = (snake: string): string =>
  snake.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Finds how a weight named `.../moving_mean` starts: its layer's `movingMeanInitializer`. */
function recipeOf({ layer, weight }: OwnedWeight): WeightRecipe {
  const config = layer.getConfig();
  const role = camelCase(weight.originalName.slice(weight.originalName.lastIndexOf('/') + 1));
  // `kernel` has kernelInitializer, but `depthwise_kernel` has depthwiseInitializer.
  const settingOf = (kind: 'Initializer' | 'Regularizer'): unknown =>
    config[`${role}${kind}`] ?? config[`${role.replace(/Kernel$/, '')}${kind}`];
  const initializer = settingOf('Initializer') as InitializerConfig | null | undefined;
  if (initializer === undefined || initializer === null) {
    throw new AtelierError(
      'model',
      `layer "${layer.name}": no initializer is known for ${weight.originalName}`,
    );
  }
  const regularizer = settingOf('Regularizer') as
    { config?: { l1?: number; l2?: number } } | null | undefined;
  return { initializer, l1: regularizer?.config?.l1 ?? 0, l2: regularizer?.config?.l2 ?? 0 };
}

function withDenseL2(topology: Topology, l2: number): Topology {
  const copy = structuredClone(topology);
  for (const { class_name: className, config } of allLayers(copy)) {
    if (className !== 'Dense') continue;
    config['kernel_regularizer'] = l2 === 0 ? null : { class_name: 'L1L2', config: { l1: 0, l2 } };
  }
  return copy;
}
