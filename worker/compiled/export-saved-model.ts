import type { Tensor } from '@tensorflow/tfjs-core';
import { AtelierError, messageOf } from '../../shared/errors.js';
import type { NativeModel } from '../native-model.js';
import { nodeBackend } from '../tensorflow.js';
import { writeSavedModel, type GraphNode } from './graph-def.js';
import { trace, type TracedGraph } from './trace.js';

/** The names of the signature's tensors. */
export const SIGNATURE_INPUT = 'images';
export const SIGNATURE_OUTPUT = 'probabilities';

/** Two batch sizes that no layer has by chance: what differs between their graphs is the batch. */
const BATCHES = [3, 7] as const;
const FREE = -1;

/**
 * A trained model as the bytes of TensorFlow's `saved_model.pb`: one frozen graph with the weights in it and the
 * signature `serving_default` from `images` (float32, any number of rows, 0 to 1) to `probabilities`.
 * @throws AtelierError `model` for a layer that a graph cannot hold, or not for any number of rows
 */
export function exportSavedModel(model: NativeModel): Uint8Array {
  const [first, second] = BATCHES.map((rows) => traceForward(model, rows)) as [TracedGraph, TracedGraph];
  const nodes = withFreeBatch(first.graph.nodes, second.graph.nodes);
  const { TF_FLOAT } = nodeBackend().binding;
  const input = { name: SIGNATURE_INPUT, source: first.inputs.at(-1) ?? '', dtype: TF_FLOAT };
  const output = { name: SIGNATURE_OUTPUT, source: first.outputs[0] ?? '', dtype: TF_FLOAT };
  return writeSavedModel(nodes, first.graph.kinds, {
    inputs: [{ ...input, shape: [FREE, ...model.forwardShape] }],
    outputs: [{ ...output, shape: [FREE, model.classes] }],
  });
}

function traceForward(model: NativeModel, rows: number): TracedGraph {
  const { TF_FLOAT } = nodeBackend().binding;
  const weights = model.variables.map((variable) => ({
    name: variable.name,
    dtype: TF_FLOAT,
    shape: variable.shape,
    sample: variable.dataSync<'float32'>(),
    variable,
    isConstant: true,
  }));
  const shape = [rows, ...model.forwardShape];
  const size = shape.reduce((product, d) => product * d, 1);
  const images = { name: SIGNATURE_INPUT, dtype: TF_FLOAT, shape, sample: new Float32Array(size).fill(0.5) };
  try {
    return trace(
      [...weights, images],
      (tensors) => [model.forward(tensors.at(-1) as Tensor)],
      () => undefined,
    );
  } catch (cause) {
    throw new AtelierError('model', `this network cannot be written as one graph: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/**
 * One graph for any number of rows, from the graphs of two numbers: a shape in which they differ has the batch in it,
 * and TensorFlow works out one size of a shape by itself.
 */
function withFreeBatch(first: readonly GraphNode[], second: readonly GraphNode[]): GraphNode[] {
  if (first.length !== second.length) throw batchMatters('the graph is another for another number of rows');
  const shapes = onlyShapes(first);
  return first.map((node, i) => {
    const other = second[i];
    if (node.kind === 'placeholder') return { ...node, shape: [FREE, ...node.shape.slice(1)] };
    if (node.kind === 'operation') {
      const same = other?.kind === 'operation' && other.op === node.op && attrsOf(other) === attrsOf(node);
      if (!same) throw batchMatters(`${node.op} is another for another number of rows`);
      return node;
    }
    if (other?.kind !== 'constant') throw batchMatters('the graph is another for another number of rows');
    if (Buffer.compare(node.bytes, other.bytes) === 0) return node;
    if (!shapes.has(node.name) || node.bytes.length !== other.bytes.length) {
      throw batchMatters('a constant depends on the number of rows');
    }
    const [sizes, others] = [sizesOf(node.bytes), sizesOf(other.bytes)];
    const differing = sizes.filter((size, axis) => size !== others[axis]).length;
    if (differing !== 1 || sizes.includes(FREE)) throw batchMatters('a shape has the number of rows twice');
    const freed = sizes.map((size, axis) => (size === others[axis] ? size : FREE));
    return { ...node, bytes: new Uint8Array(Int32Array.from(freed).buffer) };
  });
}

/** Which input of an op is a shape that may leave one size open. */
const SHAPE_INPUT: Readonly<Record<string, number>> = { Reshape: 1, Slice: 2 };

/** Constants that are such inputs and nothing else. */
function onlyShapes(nodes: readonly GraphNode[]): Set<string> {
  const uses = nodes.flatMap((node) =>
    node.kind !== 'operation'
      ? []
      : node.inputs.map((input, at) => ({
          source: input.replace(/:0$/, ''),
          isShape: SHAPE_INPUT[node.op] === at,
        })),
  );
  const shapes = new Set(uses.filter(({ isShape }) => isShape).map(({ source }) => source));
  for (const { source, isShape } of uses) if (!isShape) shapes.delete(source);
  return shapes;
}

const attrsOf = ({ attrs }: Extract<GraphNode, { kind: 'operation' }>): string => JSON.stringify(attrs);
const sizesOf = (bytes: Uint8Array): number[] => [...new Int32Array(bytes.slice().buffer)];

const batchMatters = (why: string): AtelierError =>
  new AtelierError('model', `this network cannot be exported for any number of rows: ${why}`);
