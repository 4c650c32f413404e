import { describe, expect, test } from 'vitest';
import { gradientsLast } from '../../worker/compiled/gradients-last.js';
import type { GraphNode } from '../../worker/compiled/graph-def.js';

/** Rows and pixels of an image; the layers' channels differ. */
const ROWS = 4;
const SIZE = 10;

/** The gradient of a network of convolutions one after the other: the ops, the outputs and the shapes, as `trace` records them. */
function network(channels: readonly number[], kernel = 3) {
  const nodes: GraphNode[] = [{ kind: 'placeholder', name: 'pixels', dtype: 1, shape: [] }];
  const shapes = new Map<string, readonly number[]>();
  const operation = (
    op: string,
    name: string,
    inputs: readonly string[],
    shape: readonly number[],
  ): string => {
    nodes.push({ kind: 'operation', op, name, inputs, attrs: [] });
    shapes.set(`${name}:0`, shape);
    return `${name}:0`;
  };
  const image = (layer: number): number[] => [ROWS, SIZE, SIZE, channels[layer] ?? 0];
  let at = 'pixels:0';
  const activations = [at];
  for (let layer = 1; layer < channels.length; layer++) {
    at = operation('Conv2D', `forward${layer}`, [at, `weight${layer}:0`], image(layer));
    activations.push(at);
  }
  const outputs = [operation('Sum', 'loss', [at], [])];
  for (let layer = channels.length - 1; layer > 0; layer--) {
    const dy = operation('ReluGrad', `dy${layer}`, [at], image(layer));
    const shape = [kernel, kernel, channels[layer - 1] ?? 0, channels[layer] ?? 0];
    const read = [activations[layer - 1] ?? '', 'sizes:0', dy];
    outputs.push(operation('Conv2DBackpropFilter', `dw${layer}`, read, shape));
    outputs.push(operation('BiasAddGrad', `db${layer}`, [dy], [channels[layer] ?? 0]));
    // The first layer's is not needed: nobody asks for the gradient by the pixels.
    at = operation(
      'Conv2DBackpropInput',
      `dx${layer}`,
      ['sizes:0', `weight${layer}:0`, dy],
      image(layer - 1),
    );
  }
  return { nodes, outputs, shapes };
}

const waitsOf = ({ nodes, outputs, shapes }: ReturnType<typeof network>): Record<string, readonly string[]> =>
  Object.fromEntries(gradientsLast(nodes, outputs, shapes));

describe('the gradients by the weights', () => {
  test('wait until the backward pass has come to the first layer', () => {
    const first = network([64, 8, 8, 8]);
    expect(waitsOf(first)).toEqual({
      dw3: ['dx2'],
      db3: ['dx2'],
      dw2: ['dx2'],
      db2: ['dx2'],
    });
  });

  test('wait for the one that takes longest too, which waits for nothing', () => {
    expect(waitsOf(network([8, 16, 64, 8]))).toEqual({
      dw3: ['dx2', 'dw2'],
      db3: ['dx2', 'dw2'],
    });
  });

  test('of one channel take as long as those of a full vector', () => {
    // 1 x 16 channels are fewer multiply-adds than 4 x 8, but not less time.
    expect(Object.keys(waitsOf(network([1, 16, 4, 8])))).toEqual(['dw3', 'db3', 'dw2', 'db2']);
  });

  test('of a network of one layer wait for nothing', () => {
    expect(waitsOf(network([1, 8]))).toEqual({});
  });

  test('that nobody asks for keep nobody waiting', () => {
    const { nodes, outputs, shapes } = network([8, 16, 64, 8]);
    const asked = outputs.filter((output) => output !== 'dw2:0');
    expect(waitsOf({ nodes, outputs: asked, shapes })).toEqual({ db2: ['dx2', 'dw3'] });
  });
});

test('ops of no network, none of them a product, are left in their order', () => {
  const nodes: GraphNode[] = [{ kind: 'operation', op: 'Sum', name: 'sum', inputs: ['x:0'], attrs: [] }];
  expect(gradientsLast(nodes, ['sum:0'], new Map()).size).toBe(0);
});
