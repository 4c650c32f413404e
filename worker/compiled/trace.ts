import type { Tensor } from '@tensorflow/tfjs-core';
import { invariant } from '../../shared/errors.js';
import { nodeBackend, tf, type Binding, type OutputMetadata } from '../tensorflow.js';
import { GraphBuilder } from './graph-def.js';
import { recordOp, type RecordedTensor } from './rewrite.js';

/** An input of the traced function. */
export interface TraceInput {
  readonly name: string;
  /** A TensorFlow type number (`binding.TF_FLOAT`, ...); TF_UINT8 reaches the function as float32. */
  readonly dtype: number;
  readonly shape: readonly number[];
  /** Values to trace with. */
  readonly sample: Float32Array | Int32Array | Uint8Array;
  /** The variable that stands for this input in the function; else the function gets a tensor. */
  readonly variable?: Tensor;
  /** Written into the graph as a constant with the values of `sample`, instead of a placeholder. */
  readonly isConstant?: boolean;
}

/** A traced function as a graph. */
export interface TracedGraph {
  readonly savedModel: Uint8Array;
  readonly graph: GraphBuilder;
  /** Placeholders (and constants that stand for one), in the order of the inputs: `name:0`. */
  readonly inputs: readonly string[];
  /** Outputs in the order in which the function returned them. */
  readonly outputs: readonly string[];
  readonly nodes: number;
  /** The constants in the graph, to compare two traces by. */
  readonly constants: readonly string[];
}

/** Thrown when a function cannot be compiled without changing what it means; says which op and layer. */
export class TraceRefused extends Error {
  constructor(what: string, layer: string | undefined) {
    super(layer === undefined ? what : `layer "${layer}": ${what}`);
    this.name = 'TraceRefused';
  }
}

/** Constants up to this size are known to the rewrites: axes and shapes. */
const MAX_KNOWN_BYTES = 64;
/** Ops with random state inside TensorFlow: two runs differ, and nothing feeds them. */
const STATEFUL_RANDOM = /^(Random|Multinomial|TruncatedNormal|ParameterizedTruncatedNormal)/;

/**
 * Runs `fn` once, op by op, and records every op that reaches TensorFlow and every constant made on the way as a
 * graph. The caller holds the `EagerLock`, and disposes of the tensors that `fn` returned (it runs in a tidy).
 * @param currentLayer the layer that is being applied, for errors
 * @throws TraceRefused for what a graph would freeze: values read back, randomness, tensors from outside
 */
export function trace(
  inputs: readonly TraceInput[],
  fn: (tensors: readonly Tensor[]) => readonly Tensor[],
  currentLayer: () => string | undefined,
): TracedGraph {
  const backend = nodeBackend();
  const original = backend.binding;
  const builder = new GraphBuilder(original);
  /** Output of a node, by the id of the tensor that eager execution made of it. */
  const sources = new Map<number, RecordedTensor>();
  const constants: string[] = [];
  const refuse = (what: string): never => {
    throw new TraceRefused(what, currentLayer());
  };

  const recorder: Binding = {
    ...boundCopy(original),
    createTensor(shape, dtype, values) {
      const id = original.createTensor(shape, dtype, values);
      const bytes = constantBytes(original, dtype, values) ?? refuse('makes a constant of strings');
      constants.push(`${dtype}[${shape.join()}]${Buffer.from(bytes).toString('base64')}`);
      const source = `${builder.constant(dtype, shape, bytes)}:0`;
      const isSmall = dtype === original.TF_INT32 && bytes.byteLength <= MAX_KNOWN_BYTES;
      const constant = isSmall ? { constant: [...new Int32Array(bytes.buffer)] } : {};
      sources.set(id, { source, shape: [...shape], dtype, ...constant });
      return id;
    },
    tensorDataSync: () => refuse('reads the value of a tensor: the result would be frozen into the graph'),
    executeOp(name, attrs, inputIds, outputs) {
      if (STATEFUL_RANDOM.test(name)) refuse(`the op ${name} draws random numbers that nothing feeds`);
      const from = inputIds.map(
        (id) => sources.get(id) ?? refuse(`the op ${name} uses a tensor from outside the traced function`),
      );
      const made = original.executeOp(name, attrs, inputIds, outputs);
      const node = recordOp(name, from, attrs, builder, original);
      made.forEach(({ id, shape, dtype }, i) => {
        const source = `${node}:${i}`;
        sources.set(id, { source, shape, dtype });
        builder.shapes.set(source, shape);
      });
      return made;
    },
  };

  const random = Math.random.bind(Math);
  let traced: TracedGraph | undefined;
  tf.tidy(() => {
    const own: number[] = [];
    const placeholders = inputs.map((input) => {
      const name =
        input.isConstant === true
          ? builder.constant(input.dtype, input.shape, bytesOf(input.sample))
          : builder.placeholder(input.name, input.dtype, input.shape);
      const [id] =
        input.variable === undefined
          ? [original.createTensor(input.shape, input.dtype, input.sample)]
          : backend.getInputTensorIds([input.variable]);
      if (id === undefined) throw new Error('a variable has a tensor');
      if (input.variable === undefined) own.push(id);
      sources.set(id, { source: `${name}:0`, shape: input.shape, dtype: input.dtype });
      return { input, id, name };
    });
    backend.binding = recorder;
    Math.random = () => refuse('draws random numbers in JavaScript: they would be frozen into the graph');
    try {
      const tensors = placeholders.map(({ input, id }) => {
        if (input.variable !== undefined) return input.variable;
        if (input.dtype === original.TF_UINT8) return castToFloat(recorder, id);
        // The tensor of the placeholder belongs to tfjs from here on.
        own.splice(own.indexOf(id), 1);
        return backend.createOutputTensor({ id, shape: [...input.shape], dtype: input.dtype });
      });
      const results = fn(tensors);
      const outputs = backend
        .getInputTensorIds(results)
        .map((id) => sources.get(id)?.source ?? refuse('returns a tensor from outside the traced function'));
      traced = {
        get savedModel() {
          return builder.savedModel();
        },
        graph: builder,
        inputs: placeholders.map(({ name }) => `${name}:0`),
        outputs,
        nodes: builder.size,
        constants,
      };
    } finally {
      backend.binding = original;
      Math.random = random;
      for (const id of own) original.deleteTensor(id);
    }
  });
  invariant(traced !== undefined, 'what did not throw was traced');
  return traced;
}

/** The binding's own properties are read-only, and its functions want it as `this`. */
function boundCopy(binding: Binding): Binding {
  const copy: Record<string, unknown> = {};
  for (const name of Object.getOwnPropertyNames(binding)) {
    const value = (binding as unknown as Record<string, unknown>)[name];
    copy[name] = typeof value === 'function' ? (value.bind(binding) as unknown) : value;
  }
  return copy as unknown as Binding;
}

function castToFloat(binding: Binding, id: number): Tensor {
  const attrs = [
    { name: 'SrcT', type: binding.TF_ATTR_TYPE, value: binding.TF_UINT8 },
    { name: 'DstT', type: binding.TF_ATTR_TYPE, value: binding.TF_FLOAT },
    { name: 'Truncate', type: binding.TF_ATTR_BOOL, value: false },
  ];
  const [metadata] = binding.executeOp('Cast', attrs, [id], 1);
  return nodeBackend().createOutputTensor(metadata as OutputMetadata);
}

const bytesOf = (values: ArrayBufferView): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice();

/** Little-endian bytes of a constant; null for strings. */
function constantBytes(
  binding: Binding,
  dtype: number,
  values: ArrayBufferView | readonly unknown[],
): Uint8Array | null {
  if (ArrayBuffer.isView(values)) return bytesOf(values);
  const numbers = values.map(Number);
  switch (dtype) {
    case binding.TF_FLOAT:
      return new Uint8Array(Float32Array.from(numbers).buffer);
    case binding.TF_INT32:
      return new Uint8Array(Int32Array.from(numbers).buffer);
    case binding.TF_BOOL:
    case binding.TF_UINT8:
      return Uint8Array.from(numbers);
    default:
      return null;
  }
}
