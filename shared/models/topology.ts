import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { AtelierError, messageOf } from '../errors.js';
import { isPreset, PRESETS, type ImageShape, type Topology } from './presets.js';

/** The largest topology file read: a ResNet-152 is about 300 kB. */
const MAX_TOPOLOGY_BYTES = 2 * 1024 * 1024;

const TopologySchema = z.looseObject({
  class_name: z.string().min(1),
  config: z.record(z.string(), z.unknown()),
});

/**
 * A preset by name, else a topology file: Keras `model.to_json()`, a tfjs `model.json`, or the inner
 * `{class_name, config}` of either.
 * @throws AtelierError `usage` (no such model), `model` (the file is not a topology)
 */
export function loadTopology(model: string, input: ImageShape, classes: number): Topology {
  if (isPreset(model)) return PRESETS[model](input, classes);
  if (!/\.json$/i.test(model)) {
    throw new AtelierError(
      'usage',
      `unknown model "${model}": use one of ${Object.keys(PRESETS).join(', ')}, or the path of a topology ending in .json`,
    );
  }
  return parseTopology(readTopologyFile(model), model);
}

export function readTopologyFile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new AtelierError('usage', `cannot read the model topology ${path}: ${messageOf(cause)}`, { cause });
  }
  if (text.length > MAX_TOPOLOGY_BYTES) {
    throw new AtelierError(
      'model',
      `${path} is ${text.length} bytes: a topology has at most ${MAX_TOPOLOGY_BYTES}. Weights do not belong in it.`,
    );
  }
  return text;
}

/** @throws AtelierError `model` when the text is not a topology. */
export function parseTopology(text: string, source: string): Topology {
  let json: unknown;
  try {
    json = JSON.parse(text);
    // tfjs's model.toJSON() gives a string inside the JSON.
    if (typeof json === 'string') json = JSON.parse(json);
  } catch (cause) {
    throw new AtelierError('model', `${source} is not JSON: ${messageOf(cause)}`, { cause });
  }
  for (const wrapper of ['modelTopology', 'model_config']) {
    if (typeof json === 'object' && json !== null && wrapper in json) {
      json = (json as Record<string, unknown>)[wrapper];
    }
  }
  const parsed = TopologySchema.safeParse(json);
  if (!parsed.success) {
    throw new AtelierError(
      'model',
      `${source} is not a model topology: expected {"class_name": "Sequential" | "Functional", "config": {...}} as ` +
        `Keras' model.to_json() or tfjs's model.json give`,
    );
  }
  return { class_name: parsed.data.class_name, config: parsed.data.config };
}

type Json = Record<string, unknown>;

/** A layer inside a topology; its `config` may be changed. */
export interface LayerJson {
  class_name: string;
  config: Json;
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The layers of a Sequential or Functional topology. */
function layersOf(topology: Topology): LayerJson[] {
  const { layers } = topology.config;
  if (!Array.isArray(layers) || layers.length === 0) {
    throw new AtelierError(
      'model',
      `the topology is a "${topology.class_name}" without layers: use Sequential or Functional`,
    );
  }
  return layers.map((layer: unknown) => {
    if (!isObject(layer) || typeof layer['class_name'] !== 'string' || !isObject(layer['config'])) {
      throw new AtelierError('model', 'a layer of the topology has no class_name or no config');
    }
    return layer as unknown as LayerJson;
  });
}

/** The layers of a topology and of the models nested in it. */
export function allLayers(topology: Topology): LayerJson[] {
  return layersOf(topology).flatMap((layer) =>
    Array.isArray(layer.config['layers']) ? allLayers(layer) : [layer],
  );
}

/** The one layer whose output is the model's; that of a nested model when the model ends in one. */
function outputLayer(topology: Topology): LayerJson {
  const layers = layersOf(topology);
  const outputs = topology.config['output_layers'];
  const name: unknown = Array.isArray(outputs) ? outputs.flat(1)[0] : undefined;
  const found = outputs === undefined ? layers.at(-1) : layers.find((layer) => layer.config['name'] === name);
  if (found === undefined) throw new AtelierError('model', 'the topology names no output layer');
  return Array.isArray(found.config['layers']) ? outputLayer(found) : found;
}

/** Is the output a distribution, or logits that the reader still has to put through a softmax? */
export function endsInSoftmax(topology: Topology): boolean {
  const { class_name: className, config } = outputLayer(topology);
  return className === 'Softmax' || config['activation'] === 'softmax';
}

/** Random layers that cannot be fed from counter-based streams: their weights would differ from run to run. */
const UNSUPPORTED_LAYERS: ReadonlySet<string> = new Set(['AlphaDropout', 'RandomWidth', 'RandomHeight']);

/**
 * The topology as workers get it: its output are logits (a final softmax is taken off, the loss has it),
 * regularizers are off (the coordinator adds their gradient once), and initializers are zeros (the
 * coordinator draws the weights).
 * @throws AtelierError `model` for what central training cannot honour
 */
export function trainingTopology(topology: Topology): Topology {
  const copy = structuredClone(topology);
  for (const { class_name: className, config } of allLayers(copy)) {
    const name = typeof config['name'] === 'string' ? config['name'] : className;
    if (UNSUPPORTED_LAYERS.has(className)) {
      throw new AtelierError(
        'model',
        `layer "${name}": ${className} is not supported; use Dropout, GaussianDropout or GaussianNoise`,
      );
    }
    for (const key of ['dropout', 'recurrent_dropout']) {
      if (typeof config[key] === 'number' && config[key] > 0) {
        throw new AtelierError(
          'model',
          `layer "${name}": ${key} inside ${className} is not supported; use 0`,
        );
      }
    }
    for (const key of Object.keys(config)) {
      if (config[key] === null || config[key] === undefined) continue;
      if (key.endsWith('_constraint') || key === 'activity_regularizer') {
        throw new AtelierError('model', `layer "${name}": ${key} is not supported; remove it`);
      }
      if (key.endsWith('_regularizer')) config[key] = null;
      if (key.endsWith('_initializer')) config[key] = { class_name: 'Zeros', config: {} };
    }
  }
  const output = outputLayer(copy);
  const activation = output.config['activation'];
  if (output.class_name === 'Softmax') {
    output.class_name = 'Activation';
    output.config = { name: output.config['name'], activation: 'linear' };
  } else if (activation === 'softmax') {
    output.config['activation'] = 'linear';
  } else if (activation !== undefined && activation !== null && activation !== 'linear') {
    throw new AtelierError(
      'model',
      `the output layer's activation is ${JSON.stringify(activation)}: a classifier ends in softmax, or in linear logits`,
    );
  }
  return copy;
}
