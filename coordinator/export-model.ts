import { join } from 'node:path';
import { bytesOf } from '../shared/protocol/frame.js';
import type { CompiledModel } from '../shared/models/compile.js';
import { writeFileAtomic } from './files.js';

/**
 * Writes a tfjs LayersModel (`model.json` and `weights.bin`) that `tf.loadLayersModel` opens anywhere: the
 * topology as the user gave it, the weights in layout order.
 * @param weights parameters, then state
 */
export function exportLayersModel(folder: string, model: CompiledModel, weights: Float32Array): void {
  const manifest = model.layout.tensors.map(({ name, shape }) => ({ name, shape, dtype: 'float32' }));
  const json = {
    format: 'layers-model',
    generatedBy: 'atelier',
    convertedBy: null,
    modelTopology: {
      class_name: model.topology.class_name,
      config: model.topology.config,
      backend: 'tensor_flow.js',
    },
    weightsManifest: [{ paths: ['weights.bin'], weights: manifest }],
  };
  writeFileAtomic(join(folder, 'weights.bin'), bytesOf(weights));
  writeFileAtomic(join(folder, 'model.json'), `${JSON.stringify(json)}\n`);
}
