import { createRequire } from 'node:module';

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
  MetaGraphDef: (new () => { setGraphDef(graph: object): void; setMetaInfoDef(info: object): void }) & {
    MetaInfoDef: new () => { addTags(tag: string): void };
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

/** Collects the nodes of one graph. */
export class GraphBuilder {
  private readonly nodes: ProtoNode[] = [];
  private readonly kinds: AttrKinds;

  constructor(kinds: AttrKinds) {
    this.kinds = kinds;
  }

  get size(): number {
    return this.nodes.length;
  }

  /** @returns the node's name; its outputs are `name:0`, `name:1`, ... */
  placeholder(name: string, dtype: number, shape: readonly number[]): string {
    const node = this.node(name, 'Placeholder');
    const attr = new proto.AttrValue();
    attr.setShape(shapeProto(shape));
    node.getAttrMap().set('dtype', typeAttr(dtype));
    node.getAttrMap().set('shape', attr);
    return name;
  }

  constant(dtype: number, shape: readonly number[], bytes: Uint8Array): string {
    const name = `const_${this.nodes.length}`;
    const node = this.node(name, 'Const');
    const tensor = new proto.Tensor();
    tensor.setDtype(dtype);
    tensor.setTensorShape(shapeProto(shape));
    tensor.setTensorContent(bytes);
    const value = new proto.AttrValue();
    value.setTensor(tensor);
    node.getAttrMap().set('value', value);
    node.getAttrMap().set('dtype', typeAttr(dtype));
    return name;
  }

  /** @param inputs outputs of earlier nodes, such as `Add_3:0` */
  operation(op: string, inputs: readonly string[], attrs: readonly OpAttr[]): string {
    const name = `${op.replace(/^_+/, '')}_${this.nodes.length}`;
    const node = this.node(name, op);
    for (const input of inputs) node.addInput(input.replace(/:0$/, ''));
    for (const attr of attrs) node.getAttrMap().set(attr.name, this.attribute(attr));
    return name;
  }

  /** The graph as the bytes of a `saved_model.pb`. */
  savedModel(): Uint8Array {
    const versions = new proto.VersionDef();
    versions.setProducer(GRAPH_PRODUCER);
    const graph = new proto.GraphDef();
    graph.setNodeList(this.nodes);
    graph.setVersions(versions);
    const info = new proto.MetaGraphDef.MetaInfoDef();
    info.addTags(SAVED_MODEL_TAG);
    const meta = new proto.MetaGraphDef();
    meta.setGraphDef(graph);
    meta.setMetaInfoDef(info);
    const model = new proto.SavedModel();
    model.setSavedModelSchemaVersion(1);
    model.addMetaGraphs(meta);
    return model.serializeBinary();
  }

  private node(name: string, op: string): ProtoNode {
    const node = new proto.NodeDef();
    node.setName(name);
    node.setOp(op);
    this.nodes.push(node);
    return node;
  }

  private attribute({ name, type, value }: OpAttr): ProtoAttr {
    const attr = new proto.AttrValue();
    const { kinds } = this;
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
}
