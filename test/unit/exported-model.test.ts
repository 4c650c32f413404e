import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { exportLayersModel } from '../../coordinator/export-model.js';
import { describeTopology } from '../../shared/models/layer-table.js';
import { readExportedModel } from '../../shared/models/exported-model.js';
import { PRESETS } from '../../shared/models/presets.js';
import { endsInSoftmax } from '../../shared/models/topology.js';
import '../support/cpu-backend.js';
import { atelierError } from '../support/errors.js';
import { modelFixture, NORMALIZED, TINY, TINY_IMAGE } from '../support/model-fixture.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const { model, weights } = await modelFixture(TINY, TINY_IMAGE, 3);
const folder = join(temporaryFolder(), 'model');
const change = (edit: (json: Record<string, unknown>) => void): void => {
  const path = join(folder, 'model.json');
  const json = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  edit(json);
  writeFileSync(path, JSON.stringify(json));
};
const refusal = (): string => atelierError('model', () => readExportedModel(folder)).message;

describe('an exported model', () => {
  beforeEach(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    exportLayersModel(folder, model, weights);
  });

  test('is read with the weights that were written, in order', () => {
    const read = readExportedModel(folder);
    expect(read.topology).toMatchObject({ class_name: 'Sequential' });
    expect(read.weights.map(({ name }) => name)).toEqual(model.layout.tensors.map(({ name }) => name));
    expect(read.weights.flatMap(({ values }) => [...values])).toEqual([...weights]);
  });

  test('without its files says what a model is', () => {
    rmSync(join(folder, 'weights.bin'));
    expect(refusal()).toMatch(/cannot read .*weights.bin.*A model is a folder with model.json/);
    rmSync(folder, { recursive: true });
    expect(refusal()).toMatch(/cannot read .*model.json/);
  });

  test('with weights of another length does not belong together', () => {
    writeFileSync(join(folder, 'weights.bin'), Buffer.alloc(8));
    expect(refusal()).toMatch(/has 8 bytes, model.json asks for \d+: the files do not belong together/);
  });

  test('without weights is told from one with', () => {
    change((json) => delete json['weightsManifest']);
    expect(refusal()).toMatch(/has no weightsManifest: it is a topology without weights/);
  });

  test('reads no file outside its folder', () => {
    change((json) => (json['weightsManifest'] = [{ paths: ['../../secret'], weights: [] }]));
    expect(refusal()).toMatch(/names weights outside its folder/);
  });

  test('that is quantized is refused', () => {
    change((json) => {
      const [group] = json['weightsManifest'] as { weights: Record<string, unknown>[] }[];
      Object.assign(group?.weights[0] ?? {}, { quantization: { dtype: 'uint8' } });
    });
    expect(refusal()).toMatch(/is not plain float32/);
  });
});

describe('the layer table', () => {
  test("of the study's network has its parameters, layer by layer", async () => {
    const layers = await describeTopology(PRESETS.cnn([28, 28, 1], 10));
    expect(layers.map(({ parameters }) => parameters)).toEqual([
      80, 3_216, 0, 2_320, 100_384, 0, 9_248, 50_208, 0, 2_772, 850,
    ]);
    expect(layers[1]).toEqual({
      name: 'conv2',
      type: 'Conv2D',
      outputShape: [28, 28, 16],
      parameters: 3_216,
      trainableParameters: 3_216,
    });
  });

  test('tells trained parameters from moving averages', async () => {
    const layers = await describeTopology(NORMALIZED);
    expect(layers.find(({ name }) => name === 'norm')).toMatchObject({
      parameters: 16,
      trainableParameters: 8,
    });
  });
});

test('a softmax at the end is seen, as an activation or a layer; logits are not one', () => {
  const ending = (class_name: string, config: object): boolean =>
    endsInSoftmax({
      class_name: 'Sequential',
      config: { layers: [{ class_name, config: { name: 'x', ...config } }] },
    });
  expect([
    ending('Dense', { activation: 'softmax' }),
    ending('Softmax', {}),
    ending('Activation', { activation: 'softmax' }),
    ending('Dense', { activation: 'linear' }),
  ]).toEqual([true, true, true, false]);
});
