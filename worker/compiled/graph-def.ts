import { createRequire } from 'node:module';
import { assertNever } from '../../shared/errors.js';

/*
 * TensorFlow's GraphDef, written with the protobuf classes that tfjs-node ships (dist/proto/api_pb.js; they have
 * no types of their own).
 */

interface ProtoList {
  setIList(values: readonly number[]): void;
  setFList(values: readonly number[]): void;
  setTypeList(values: readonly number[]): void;
}
interface ProtoAttr {
  setType(value: number): void;
  setI(value: number): void;
  setF(value: number): void;
  setB(value: boolean): void;
  setS(value: Uint8Array): void;
  setShape(value: object): void;
  setTensor(value: object): void;
  setList(value: ProtoList): void;
}
interface ProtoNode {
  setName(name: string): void;
  setOp(op: string): void;
  addInput(input: string): void;
  getAttrMap(): { set(name: string, value: ProtoAttr): void };
}
interface Proto {
  NodeDef: new () => ProtoNode;
  AttrValue: (new () => ProtoAttr) & { ListValue: new () => ProtoList };
  TensorShape: (new () => { addDim(dim: object): void }) & { Dim: new () => { setSize(size: number): void } };
  Tensor: new () => {
    setDtype(dtype: number): void;
    setTensorShape(shape: object): void;
    setTensorContent(bytes: Uint8Array): void;
  };
  GraphDef: new () => { setNodeList(nodes: readonly ProtoNode[]): void; setVersions(versions: object): void };
  VersionDef: new () => { setProducer(producer: number): void };
  MetaGraphDef: (new () => {
    setGraphDef(graph: object): void;
    setMetaInfoDef(info: object): void;
    getSignatureDefMap(): { set(name: string, signature: object): void };
  }) & {
    MetaInfoDef: new () => { addTags(tag: string): void };
  };
  SignatureDef: new () => {
    getInputsMap(): { set(name: string, info: object): void };
    getOutputsMap(): { set(name: string, info: object): void };
    setMethodName(name: string): void;
  };
  TensorInfo: new () => {
    setName(name: string): void;
    setDtype(dtype: number): void;
    setTensorShape(shape: object): void;
  };
  SavedModel: new () => {
    setSavedModelSchemaVersion(version: number): void;
    addMetaGraphs(graph: object): void;
    serializeBinary(): Uint8Array;
  };
}

const proto = createRequire(import.meta.url)('@tensorflow/tfjs-node/dist/proto/api_pb.js') as Proto;

/** GraphDef version of TensorFlow 1.15, the oldest that any tfjs-node runs on; newer readers accept it. */
const GRAPH_PRODUCER = 134;
export const SAVED_MODEL_TAG = 'serve';

/** An attribute as tfjs-node passes it to `executeOp`. */
export interface OpAttr {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

/** The binding's names for the kinds of attributes. */
export interface AttrKinds {
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_SHAPE: number;
}

function shapeProto(shape: readonly number[]): object {
  const result = new proto.TensorShape();
  for (const size of shape) {
    const dim = new proto.TensorShape.Dim();
    dim.setSize(size);
    result.addDim(dim);
  }
  return result;
}

function typeAttr(dtype: number): ProtoAttr {
  const attr = new proto.AttrValue();
  attr.setType(dtype);
  return attr;
}

/** A node of a graph before it is written. */
export type GraphNode =
  | {
      readonly kind: 'placeholder';
      readonly name: string;
      readonly dtype: number;
      readonly shape: readonly number[];
    }
  | {
      readonly kind: 'constant';
      readonly name: string;
      readonly dtype: number;
      readonly shape: readonly number[];
      readonly bytes: Uint8Array;
    }
  | {
      readonly kind: 'operation';
      readonly name: string;
      readonly op: string;
      readonly inputs: readonly string[];
      readonly attrs: readonly OpAttr[];
    };

/** A tensor of a signature: what callers name it, and what the graph does. */
export interface SignatureTensor {
  readonly name: string;
  /** Such as `Softmax_12:0`. */
  readonly source: string;
  readonly dtype: number;
  /** -1 where it is free. */
  readonly shape: readonly number[];
}

export interface Signature {
  readonly inputs: readonly SignatureTensor[];
  readonly outputs: readonly SignatureTensor[];
}

/** What `tf.saved_model.load` and TensorFlow Serving look for. */
const SIGNATURE_NAME = 'serving_default';
const SIGNATURE_METHOD = 'tensorflow/serving/predict';

/** Collects the nodes of one graph. */
export class GraphBuilder {
  readonly nodes: GraphNode[] = [];
  /** Shapes of tensors, by their sources, where they are known. */
  readonly shapes = new Map<string, readonly number[]>();
  /** Ops that an op waits for besides its inputs, by its name. */
  waits: ReadonlyMap<string, readonly string[]> = new Map();
  readonly kinds: AttrKinds;

  constructor(kinds: AttrKinds) {
    this.kinds = kinds;
  }

  get size(): number {
    return this.nodes.length;
  }

  /** @returns the node's name; its outputs are `name:0`, `name:1`, ... */
  placeholder(name: string, dtype: number, shape: readonly number[]): string {
    this.nodes.push({ kind: 'placeholder', name, dtype, shape });
    return name;
  }

  constant(dtype: number, shape: readonly number[], bytes: Uint8Array): string {
    const name = `const_${this.nodes.length}`;
    this.nodes.push({ kind: 'constant', name, dtype, shape, bytes });
    return name;
  }

  /** @param inputs outputs of earlier nodes, such as `Add_3:0` */
  operation(op: string, inputs: readonly string[], attrs: readonly OpAttr[]): string {
    const name = `${op.replace(/^_+/, '')}_${this.nodes.length}`;
    this.nodes.push({ kind: 'operation', name, op, inputs, attrs });
    return name;
  }

  /** The graph as the bytes of a `saved_model.pb`. */
  savedModel(): Uint8Array {
    return writeSavedModel(this.nodes, this.kinds, null, this.waits);
  }
}

/** A graph as the bytes of a `saved_model.pb`. */
export function writeSavedModel(
  nodes: readonly GraphNode[],
  kinds: AttrKinds,
  signature: Signature | null,
  waits: GraphBuilder['waits'] = new Map(),
): Uint8Array {
  const versions = new proto.VersionDef();
  versions.setProducer(GRAPH_PRODUCER);
  const graph = new proto.GraphDef();
  graph.setNodeList(nodes.map((node) => nodeProto(node, kinds, waits.get(node.name) ?? [])));
  graph.setVersions(versions);
  const info = new proto.MetaGraphDef.MetaInfoDef();
  info.addTags(SAVED_MODEL_TAG);
  const meta = new proto.MetaGraphDef();
  meta.setGraphDef(graph);
  meta.setMetaInfoDef(info);
  if (signature !== null) meta.getSignatureDefMap().set(SIGNATURE_NAME, signatureProto(signature));
  const model = new proto.SavedModel();
  model.setSavedModelSchemaVersion(1);
  model.addMetaGraphs(meta);
  return model.serializeBinary();
}

function signatureProto({ inputs, outputs }: Signature): object {
  const signature = new proto.SignatureDef();
  const infoOf = ({ source, dtype, shape }: SignatureTensor): object => {
    const info = new proto.TensorInfo();
    info.setName(source);
    info.setDtype(dtype);
    info.setTensorShape(shapeProto(shape));
    return info;
  };
  for (const input of inputs) signature.getInputsMap().set(input.name, infoOf(input));
  for (const output of outputs) signature.getOutputsMap().set(output.name, infoOf(output));
  signature.setMethodName(SIGNATURE_METHOD);
  return signature;
}

function nodeProto(node: GraphNode, kinds: AttrKinds, waits: readonly string[]): ProtoNode {
  const written = new proto.NodeDef();
  written.setName(node.name);
  const attrs = written.getAttrMap();
  switch (node.kind) {
    case 'placeholder': {
      written.setOp('Placeholder');
      const shape = new proto.AttrValue();
      shape.setShape(shapeProto(node.shape));
      attrs.set('dtype', typeAttr(node.dtype));
      attrs.set('shape', shape);
      return written;
    }
    case 'constant': {
      written.setOp('Const');
      const tensor = new proto.Tensor();
      tensor.setDtype(node.dtype);
      tensor.setTensorShape(shapeProto(node.shape));
      tensor.setTensorContent(node.bytes);
      const value = new proto.AttrValue();
      value.setTensor(tensor);
      attrs.set('value', value);
      attrs.set('dtype', typeAttr(node.dtype));
      return written;
    }
    case 'operation':
      written.setOp(node.op);
      for (const input of node.inputs) written.addInput(input.replace(/:0$/, ''));
      for (const name of waits) written.addInput(`^${name}`);
      for (const attr of node.attrs) attrs.set(attr.name, attributeProto(attr, kinds));
      return written;
    default:
      return assertNever(node);
  }
}

function attributeProto({ name, type, value }: OpAttr, kinds: AttrKinds): ProtoAttr {
  const attr = new proto.AttrValue();
  if (Array.isArray(value) && type !== kinds.TF_ATTR_SHAPE) {
    const list = new proto.AttrValue.ListValue();
    const numbers = value as number[];
    if (type === kinds.TF_ATTR_TYPE) list.setTypeList(numbers);
    else if (type === kinds.TF_ATTR_INT) list.setIList(numbers);
    else if (type === kinds.TF_ATTR_FLOAT) list.setFList(numbers);
    else throw new Error(`attribute ${name}: a list of kind ${type}`);
    attr.setList(list);
    return attr;
  }
  if (type === kinds.TF_ATTR_TYPE) attr.setType(value as number);
  else if (type === kinds.TF_ATTR_INT) attr.setI(value as number);
  else if (type === kinds.TF_ATTR_FLOAT) attr.setF(value as number);
  else if (type === kinds.TF_ATTR_BOOL) attr.setB(value as boolean);
  else if (type === kinds.TF_ATTR_STRING) attr.setS(Buffer.from(String(value)));
  else if (type === kinds.TF_ATTR_SHAPE) attr.setShape(shapeProto(value as number[]));
  else throw new Error(`attribute ${name}: kind ${type}`);
  return attr;
}
