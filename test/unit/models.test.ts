import '../support/cpu-backend.js';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { memory } from '@tensorflow/tfjs-core';
import { describe, expect, test } from 'vitest';
import { exportLayersModel } from '../../coordinator/export-model.js';
import { readFileSync, mkdirSync } from 'node:fs';
import { compileModel, type CompiledModel } from '../../shared/models/compile.js';
import type { ImageShape, Topology } from '../../shared/models/presets.js';
import { loadTopology, parseTopology, trainingTopology } from '../../shared/models/topology.js';
import { atelierError, atelierRejection } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const IMAGE: ImageShape = [28, 28, 1];
const folder = temporaryFolder();

type Json = Record<string, unknown>;
const layer = (className: string, config: Json): Json => ({ class_name: className, config });
const FLATTEN = layer('Flatten', { name: 'flatten', batch_input_shape: [null, 28, 28, 1], dtype: 'float32' });
const dense = (config: Json = {}): Json =>
  layer('Dense', { name: 'output', units: 10, activation: 'softmax', ...config });
const sequential = (...layers: Json[]): Topology => ({
  class_name: 'Sequential',
  config: { name: 'model', layers },
});

/** Input -> flatten -> hidden -> output, and more outputs where asked for. */
function functional(outputs: readonly string[] = ['classes']): Topology {
  const node = (name: string, inbound: string | null, className: string, config: Json): Json => ({
    name,
    class_name: className,
    config: { name, ...config },
    inbound_nodes: inbound === null ? [] : [[[inbound, 0, 0, {}]]],
  });
  return {
    class_name: 'Functional',
    config: {
      name: 'branches',
      layers: [
        node('pixels', null, 'InputLayer', { batch_input_shape: [null, 28, 28, 1], dtype: 'float32' }),
        node('flat', 'pixels', 'Flatten', {}),
        node('hidden', 'flat', 'Dense', { units: 6, activation: 'relu' }),
        node('classes', 'hidden', 'Dense', { units: 10, activation: 'softmax' }),
        node('side', 'hidden', 'Dense', { units: 10, activation: 'softmax' }),
      ],
      input_layers: [['pixels', 0, 0]],
      output_layers: outputs.map((name) => [name, 0, 0]),
    },
  };
}

const compile = (topology: Topology, l2: number | null = null): Promise<CompiledModel> =>
  compileModel(topology, IMAGE, 10, l2);
const preset = (name: string, l2: number | null = null): Promise<CompiledModel> =>
  compile(loadTopology(name, IMAGE, 10), l2);
const strengths = ({ layout, recipes }: CompiledModel): Record<string, number> =>
  Object.fromEntries(
    layout.tensors.map(({ name }, i) => [name, recipes[i]?.l2 ?? NaN] as const).filter(([, l2]) => l2 !== 0),
  );

describe('a preset', () => {
  test.each([
    ['lenet', 61_706],
    ['cnn', 169_078],
    ['dense', 898_510],
  ])('%s has %d parameters', async (name, parameters) => {
    const { layout } = await preset(name);
    expect({ trainable: layout.trainable, size: layout.size }).toEqual({
      trainable: parameters,
      size: parameters,
    });
  });

  test('resnet has 289,514 parameters, under the 500,000 it may have, and the moving statistics of its normalizations', async () => {
    const { layout } = await preset('resnet');
    expect({ trainable: layout.trainable, size: layout.size }).toEqual({ trainable: 289_514, size: 290_730 });
    expect(strengths(await preset('resnet'))).toEqual({});
  });

  test('resnet fits any shape and number of classes', async () => {
    const { layout } = await compileModel(loadTopology('resnet', [33, 17, 3], 7), [33, 17, 3], 7, null);
    expect(layout.tensors.find(({ name }) => name === 'stem/kernel')?.shape).toEqual([3, 3, 3, 32]);
    expect(layout.tensors.find(({ name }) => name === 'output/bias')?.shape).toEqual([7]);
  });

  test.each([
    ['lenet', ['dense1', 'output']],
    ['cnn', ['dense1', 'output']],
    ['dense', ['dense1', 'dense2', 'dense3', 'output']],
  ])('%s has L2 of 0.0001 on its dense kernels and nowhere else', async (name, layers) => {
    const expected = Object.fromEntries(layers.map((l) => [`${l}/kernel`, 1e-4]));
    expect(strengths(await preset(name))).toEqual(expected);
  });

  test('takes another L2 from --l2, on the dense kernels', async () => {
    expect(strengths(await preset('lenet', 0.5))).toEqual({ 'dense1/kernel': 0.5, 'output/kernel': 0.5 });
  });

  test('loses its L2 with --l2 0', async () => {
    expect(strengths(await preset('lenet', 0))).toEqual({});
  });

  test('fits the shape and classes of the dataset', async () => {
    const model = await compileModel(loadTopology('lenet', [32, 32, 3], 7), [32, 32, 3], 7, null);
    expect(model.layout.tensors.at(-1)).toMatchObject({ name: 'output/bias', shape: [7] });
  });

  test('leaves no tensors behind', async () => {
    const before = memory().numTensors;
    await preset('lenet');
    expect(memory().numTensors).toBe(before);
  });

  test('that is not there is refused with the names of those that are', () => {
    const { message } = atelierError('usage', () => loadTopology('resnext', IMAGE, 10));
    expect(message).toMatch(/unknown model "resnext".*lenet, cnn, dense, resnet/);
  });
});

describe('a topology file', () => {
  const inner = sequential(FLATTEN, dense());

  test.each([
    ['a topology itself', inner],
    ['a string, as tfjs toJSON gives', JSON.stringify(inner)],
    ['a tfjs model.json', { format: 'layers-model', modelTopology: inner, weightsManifest: [] }],
    ['a converted Keras model', { modelTopology: { model_config: inner } }],
    ['a Keras file', { model_config: inner, keras_version: '2.15.0' }],
  ])('may hold %s', (_name, json) => {
    expect(parseTopology(JSON.stringify(json), 'x.json')).toEqual(inner);
  });

  test.each([
    ['not JSON', '<xml/>', 'is not JSON'],
    ['empty', '', 'is not JSON'],
    ['null', 'null', 'is not a model topology'],
    ['a list', '[]', 'is not a model topology'],
    ['another object', '{"scripts": {}}', 'is not a model topology'],
    ['without a config', '{"class_name": "Sequential"}', 'is not a model topology'],
  ])('that is %s is refused by name', (_name, text, what) => {
    const path = join(folder, 'model.json');
    writeFileSync(path, text);
    const { message } = atelierError('model', () => loadTopology(path, IMAGE, 10));
    expect(message).toContain(`${path} ${what}`);
  });

  test('that is not there is refused by name', () => {
    const path = join(folder, 'nothing.json');
    expect(atelierError('usage', () => loadTopology(path, IMAGE, 10)).message).toContain(path);
  });

  test('that is far too long for a topology is refused', () => {
    const path = join(folder, 'long.json');
    writeFileSync(path, ' '.repeat(2 * 1024 * 1024 + 1));
    expect(atelierError('model', () => loadTopology(path, IMAGE, 10)).message).toContain('at most');
  });
});

describe('a topology', () => {
  test('with branches and named layers compiles, its weights named by their layers', async () => {
    const { layout } = await compile(functional());
    expect(layout.tensors.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['hidden/kernel', 'hidden/bias', 'classes/kernel', 'classes/bias']),
    );
  });

  test('has moving averages in its state, behind the trainable weights', async () => {
    const norm = layer('BatchNormalization', { name: 'norm', axis: -1 });
    const { layout, recipes } = await compile(sequential(FLATTEN, norm, dense()));
    const state = layout.tensors.filter(({ offset }) => offset >= layout.trainable);
    expect(state.map(({ name, size }) => [name, size])).toEqual([
      ['norm/moving_mean', 784],
      ['norm/moving_variance', 784],
    ]);
    expect(recipes.slice(-2).map(({ initializer }) => initializer.className)).toEqual(['Zeros', 'Ones']);
  });

  test.each([
    [
      'whose output is not 10 classes',
      sequential(FLATTEN, dense({ units: 7 })),
      /output is \[7\].*10 classes/,
    ],
    [
      'whose output is an image',
      sequential(layer('Dense', { ...(dense()['config'] as Json), batch_input_shape: [null, 28, 28, 1] })),
      /output is \[28, 28, 10\]/,
    ],
    [
      'of another input shape',
      sequential(layer('Flatten', { name: 'f', batch_input_shape: [null, 32, 32, 3] }), dense()),
      /takes \[32, 32, 3\].*\[28, 28, 1\]/,
    ],
    ['with two outputs', functional(['classes', 'side']), /output is \[10\] and \[10\]/],
    [
      'with a constraint',
      sequential(FLATTEN, dense({ kernel_constraint: layer('MaxNorm', {}) })),
      /"output".*kernel_constraint/,
    ],
    [
      'with an activity regularizer',
      sequential(FLATTEN, dense({ activity_regularizer: layer('L1L2', {}) })),
      /activity_regularizer/,
    ],
    ['that ends in a sigmoid', sequential(FLATTEN, dense({ activation: 'sigmoid' })), /sigmoid.*softmax/],
    ['that ends in relu', sequential(FLATTEN, dense({ activation: 'relu' })), /relu.*softmax/],
    [
      'of a layer there is not',
      sequential(FLATTEN, layer('Transmogrify', { name: 't' }), dense()),
      /Transmogrify/,
    ],
    ['without layers', { class_name: 'Sequential', config: { layers: [] } }, /without layers/],
    ['that is a single layer', { class_name: 'Dense', config: { units: 10 } }, /"Dense" without layers/],
    ['with a layer that is none', sequential(FLATTEN, { units: 10 }), /no class_name/],
    ['with nothing to train', sequential(FLATTEN, dense({ trainable: false })), /nothing to train/],
    ['with two weights of one name', sequential(FLATTEN, dense({ activation: 'relu' }), dense()), /name/],
    [
      'that names no output',
      { ...functional(), config: { ...functional().config, output_layers: [] } },
      /output/,
    ],
  ] as const)('%s is refused', async (_name, topology, message) => {
    expect((await atelierRejection('model', compile(topology))).message).toMatch(message);
  });

  test('with a softmax inside a nested model does not get a second one', () => {
    const nested = sequential(FLATTEN, layer('Sequential', { name: 'inner', layers: [dense()] }));
    const refusedOrTakenOff = (): string => {
      try {
        return JSON.stringify(trainingTopology(nested));
      } catch {
        return 'refused';
      }
    };
    expect(refusedOrTakenOff()).not.toContain('softmax');
  });
});

describe('what workers train', () => {
  const endings: [string, Json[]][] = [
    ['a softmax activation', [dense()]],
    [
      'an Activation layer',
      [dense({ activation: 'linear' }), layer('Activation', { name: 'end', activation: 'softmax' })],
    ],
    ['a Softmax layer', [dense({ activation: 'linear' }), layer('Softmax', { name: 'end', axis: -1 })]],
  ];

  test.each(endings)('is without its final softmax when that is %s', async (_name, layers) => {
    const { training } = await compile(sequential(FLATTEN, ...layers));
    expect(JSON.stringify(training).toLowerCase()).not.toContain('softmax');
  });

  test.each(endings)('is exported with its final softmax when that is %s', async (_name, layers) => {
    const topology = sequential(FLATTEN, ...layers);
    const model = await compile(topology);
    const home = join(folder, `export-${_name.replaceAll(' ', '-')}`);
    mkdirSync(home);
    exportLayersModel(home, model, new Float32Array(model.layout.size));
    const json = JSON.parse(readFileSync(join(home, 'model.json'), 'utf8')) as { modelTopology: Topology };
    expect(json.modelTopology).toMatchObject(topology);
  });

  test('keeps a softmax in the middle', async () => {
    const middle = layer('Dense', { name: 'middle', units: 4, activation: 'softmax' });
    const { training } = await compile(sequential(FLATTEN, middle, dense()));
    expect(JSON.stringify(training).match(/softmax/g)).toHaveLength(1);
  });

  test('takes the softmax off the layer that is the output, wherever it stands in the file', () => {
    const { config } = trainingTopology(functional(['classes']));
    const activations = (config['layers'] as { config: Json }[]).map((l) => l.config['activation']);
    expect(activations).toEqual([undefined, undefined, 'relu', 'linear', 'softmax']);
  });

  test('has no regularizers and no initializers: the coordinator has them', async () => {
    const { training } = await preset('cnn');
    const text = JSON.stringify(training);
    expect(text).not.toContain('L1L2');
    expect(text).not.toContain('VarianceScaling');
  });

  test('does not change the topology it is made of', () => {
    const topology = loadTopology('lenet', IMAGE, 10);
    const before = structuredClone(topology);
    trainingTopology(topology);
    expect(topology).toEqual(before);
  });
});
