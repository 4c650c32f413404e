import type { AttrKinds, GraphBuilder, OpAttr } from './graph-def.js';

/*
 * tfjs composes what TensorFlow has one kernel for. These rewrites put the kernel into the graph where that is the
 * same sum; TensorFlow's own optimizer then fuses MatMul or Conv2D with BiasAdd and the activation.
 */

/** An input of an op being recorded. */
export interface RecordedTensor {
  /** The output it comes from: `name:0`. */
  readonly source: string;
  readonly shape: readonly number[];
  readonly dtype: number;
  /** Values of a small int32 constant. */
  readonly constant?: readonly number[];
}

/** Types that rewrites ask for. */
export interface TypeNumbers extends AttrKinds {
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
}

type Rewrite = (
  inputs: readonly RecordedTensor[],
  attrs: readonly OpAttr[],
  builder: GraphBuilder,
  types: TypeNumbers,
) => string | undefined;

const floatType = (types: TypeNumbers): OpAttr => ({
  name: 'T',
  type: types.TF_ATTR_TYPE,
  value: types.TF_FLOAT,
});
const channelsLast = (types: TypeNumbers): OpAttr => ({
  name: 'data_format',
  type: types.TF_ATTR_STRING,
  value: 'NHWC',
});
const valueOf = (attrs: readonly OpAttr[], name: string): unknown =>
  attrs.find((attr) => attr.name === name)?.value;

/** x + b, where b has one value for each index of the last axis. */
const add: Rewrite = ([x, bias], _attrs, builder, types) => {
  if (x === undefined || bias === undefined || x.dtype !== types.TF_FLOAT) return undefined;
  if (bias.shape.length !== 1 || x.shape.length < 2 || x.shape.at(-1) !== bias.shape[0]) return undefined;
  return builder.operation('BiasAdd', [x.source, bias.source], [floatType(types), channelsLast(types)]);
};

/** A sum over every axis but the last: the gradient of a bias. */
const sum: Rewrite = ([x, axes], attrs, builder, types) => {
  if (x === undefined || axes?.constant === undefined || x.dtype !== types.TF_FLOAT) return undefined;
  const outer = x.shape.slice(0, -1).map((_, axis) => axis);
  const isOuter = outer.length > 0 && axes.constant.toSorted((a, b) => a - b).join() === outer.join();
  if (!isOuter || valueOf(attrs, 'keep_dims') === true) return undefined;
  return builder.operation('BiasAddGrad', [x.source], [floatType(types), channelsLast(types)]);
};

/** One matrix product, written as a batch without or with one element. */
const batchMatMul: Rewrite = ([a, b], attrs, builder, types) => {
  if (a === undefined || b === undefined || a.dtype !== types.TF_FLOAT) return undefined;
  const rank = a.shape.length;
  if (b.shape.length !== rank || rank > 3 || (rank === 3 && (a.shape[0] !== 1 || b.shape[0] !== 1))) {
    return undefined;
  }
  const adjointA = valueOf(attrs, 'adj_x') === true;
  const adjointB = valueOf(attrs, 'adj_y') === true;
  const product = (left: string, right: string): string =>
    builder.operation(
      'MatMul',
      [left, right],
      [
        floatType(types),
        { name: 'transpose_a', type: types.TF_ATTR_BOOL, value: adjointA },
        { name: 'transpose_b', type: types.TF_ATTR_BOOL, value: adjointB },
      ],
    );
  if (rank === 2) return product(a.source, b.source);
  const reshape = (source: string, shape: readonly number[]): string => {
    const bytes = new Uint8Array(Int32Array.from(shape).buffer);
    const target = builder.constant(types.TF_INT32, [shape.length], bytes);
    const shapeType = { name: 'Tshape', type: types.TF_ATTR_TYPE, value: types.TF_INT32 };
    const reshaped = builder.operation('Reshape', [source, `${target}:0`], [floatType(types), shapeType]);
    builder.shapes.set(`${reshaped}:0`, shape);
    return reshaped;
  };
  const [, aRows = 0, aColumns = 0] = a.shape;
  const [, bRows = 0, bColumns = 0] = b.shape;
  const flat = product(
    `${reshape(a.source, [aRows, aColumns])}:0`,
    `${reshape(b.source, [bRows, bColumns])}:0`,
  );
  const shape = [adjointA ? aColumns : aRows, adjointB ? bRows : bColumns];
  builder.shapes.set(`${flat}:0`, shape);
  return reshape(`${flat}:0`, [1, ...shape]);
};

const REWRITES: Readonly<Record<string, Rewrite>> = {
  Add: add,
  AddV2: add,
  Sum: sum,
  BatchMatMul: batchMatMul,
  BatchMatMulV2: batchMatMul,
};

/** Records an op, or the kernel that stands for it. @returns the node's name */
export function recordOp(
  op: string,
  inputs: readonly RecordedTensor[],
  attrs: readonly OpAttr[],
  builder: GraphBuilder,
  types: TypeNumbers,
): string {
  const rewritten = REWRITES[op]?.(inputs, attrs, builder, types);
  return (
    rewritten ??
    builder.operation(
      op,
      inputs.map(({ source }) => source),
      attrs,
    )
  );
}
