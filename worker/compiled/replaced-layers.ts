import type { Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';

/** A layer's weight as tfjs-layers holds it. */
export interface LayerWeight {
  read(): Tensor;
  write(value: Tensor): void;
}

interface AnyLayer {
  readonly layers?: readonly unknown[];
  getClassName(): string;
  call(inputs: Tensor | Tensor[], kwargs: Record<string, unknown>): Tensor | Tensor[];
}

function layersOf(layers: readonly unknown[], className: string): AnyLayer[] {
  return (layers as AnyLayer[]).flatMap((layer) => {
    if (layer.layers !== undefined) return layersOf(layer.layers, className);
    return layer.getClassName() === className ? [layer] : [];
  });
}

/**
 * Runs `fn` with another way of computing the layers of one class in training, then puts tfjs-layers' own back.
 * @param compute the layer's output for this input; undefined: tfjs-layers computes it
 */
export function withReplaced<Layer, Result>(
  model: LayersModel,
  className: string,
  compute: (layer: Layer, x: Tensor) => Tensor | undefined,
  fn: () => Result,
): Result {
  const undo: (() => void)[] = [];
  for (const layer of layersOf(model.layers, className)) {
    const call = layer.call.bind(layer);
    undo.push(() => (layer.call = call));
    layer.call = (inputs, kwargs) => {
      const x = Array.isArray(inputs) ? inputs[0] : inputs;
      const output =
        kwargs['training'] === true && x !== undefined ? compute(layer as unknown as Layer, x) : undefined;
      return output ?? call(inputs, kwargs);
    };
  }
  try {
    return fn();
  } finally {
    for (const restore of undo) restore();
  }
}
