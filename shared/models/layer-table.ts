import type { LayersModel } from '@tensorflow/tfjs-layers';
import { instantiate } from './compile.js';
import type { Topology } from './presets.js';
import type { LayerInfo } from './trained-model.js';

const sizeOf = (shape: readonly (number | null)[]): number =>
  shape.reduce<number>((size, d) => size * (d ?? 0), 1);

interface Layered {
  readonly layers?: LayersModel['layers'];
}

/** The layers of a model and of the models nested in it, in order. */
export function layersOf(model: Layered): LayersModel['layers'] {
  return (model.layers ?? []).flatMap((layer) => {
    const { layers } = layer as unknown as Layered;
    return layers === undefined ? [layer] : layersOf({ layers });
  });
}

/** What `atelier summary` prints of each layer. */
export function layerTable(model: LayersModel): LayerInfo[] {
  return layersOf(model).map((layer) => {
    const shape = layer.outputShape;
    const first = (Array.isArray(shape[0]) ? shape[0] : shape) as (number | null)[];
    const trainable = layer.trainableWeights.reduce((sum, weight) => sum + sizeOf(weight.shape), 0);
    const state = layer.nonTrainableWeights.reduce((sum, weight) => sum + sizeOf(weight.shape), 0);
    return {
      name: layer.name,
      type: layer.getClassName(),
      outputShape: first.slice(1).map((d) => d ?? -1),
      parameters: trainable + state,
      trainableParameters: trainable,
    };
  });
}

/** The same of a topology. The caller has registered a backend. @throws AtelierError `model` */
export async function describeTopology(topology: Topology): Promise<LayerInfo[]> {
  const model = await instantiate(topology);
  try {
    return layerTable(model);
  } finally {
    model.dispose();
  }
}
