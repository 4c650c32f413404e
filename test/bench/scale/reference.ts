import '@tensorflow/tfjs-backend-cpu';
import { initialWeights } from '../../../coordinator/initial-weights.js';
import { makeUpdateRule } from '../../../coordinator/optimizer/update-rule.js';
import { applyUpdate } from '../../../coordinator/update.js';
import { parseRunConfig } from '../../../shared/config.js';
import { loadDataset } from '../../../shared/dataset/load.js';
import { weightsSha256 } from '../../../shared/layout.js';
import { compileModel } from '../../../shared/models/compile.js';
import { loadTopology } from '../../../shared/models/topology.js';
import { ShardPlan } from '../../../shared/shards.js';
import { MadeUpGradients } from './made-up.js';
import { settingsOf } from './settings.js';

/** A network with one hidden layer, for images of 28 x 28: 795 parameters a unit, and 10. */
export function denseTopology(units: number): object {
  const dense = (name: string, size: number, activation: string): object => ({
    class_name: 'Dense',
    config: { name, units: size, activation, use_bias: true },
  });
  const flatten = {
    class_name: 'Flatten',
    config: { name: 'flatten', batch_input_shape: [null, 28, 28, 1], dtype: 'float32' },
  };
  const layers = [flatten, dense('hidden', units, 'relu'), dense('output', 10, 'softmax')];
  return { class_name: 'Sequential', config: { name: 'wide', layers } };
}

/** The weights after so many steps with made-up gradients: one loop, plain arrays, no sockets. */
export async function referenceWeightsSha256(model: string, shards: number, steps: number): Promise<string> {
  const config = parseRunConfig(settingsOf(model, shards));
  const { info } = loadDataset({ dataset: config.dataset, dataDir: null, env: process.env });
  const topology = loadTopology(model, info.imageShape, info.classNames.length);
  const compiled = await compileModel(topology, info.imageShape, info.classNames.length, config.l2);
  const rows = Uint32Array.from({ length: info.trainRows }, (_, i) => i);
  const plan = new ShardPlan(rows, shards, config.batchSize);
  const rule = makeUpdateRule(config, compiled.layout, plan.stepsPerEpoch);
  const weights = initialWeights(compiled, config.seed, 0);
  const gradients = new MadeUpGradients(compiled.layout.size, shards);
  for (let step = 0; step < steps; step++) {
    const batch = plan.batchRows(step);
    const values = gradients.sumOf({ start: 0, count: shards }).slice();
    const sum = { rows: batch, lossSum: MadeUpGradients.lossOf(batch), correct: 0, values };
    applyUpdate(weights, sum, compiled, rule, step);
  }
  return weightsSha256(weights);
}
