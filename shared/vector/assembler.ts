import { codeOf, leb, Op, range, repeat, signedLeb, Simd, Type, wasmModule } from './encoding.js';

/*
 * Vector kernels as WebAssembly with 128-bit SIMD: one loop over arrays of float32, four elements at
 * a time. IEEE 754
 * rounds +, -, *, / and the square root the same way in every lane as `Math.fround` does after each operation, and
 * WebAssembly has no fused multiply-add, so the bits are those of the plain loop.
 * Instructions by their opcodes in https://webassembly.github.io/spec/core/binary/ .
 */

/** An operation on four lanes at once. */
export type Expression =
  | { readonly kind: 'load'; readonly array: number }
  /** Of an array of 16-bit values: these bits in the upper half, zeros in the lower. */
  | { readonly kind: 'load-upper'; readonly array: number }
  | { readonly kind: 'scalar'; readonly scalar: number }
  | { readonly kind: 'temporary'; readonly index: number }
  | { readonly kind: 'binary'; readonly op: BinaryOp; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'sqrt'; readonly of: Expression }
  /** Each lane's bits as an unsigned integer, moved to the right. */
  | { readonly kind: 'shift'; readonly of: Expression; readonly by: number }
  /** The same bits in every lane. */
  | { readonly kind: 'bits'; readonly bits: number };

type BinaryOp = 'add' | 'sub' | 'mul' | 'div' | 'addBits' | 'lesserBits' | 'and' | 'andNot';

export type Statement =
  | { readonly kind: 'store'; readonly array: number; readonly value: Expression }
  /** Into an array of 16-bit values: the upper half of the bits. */
  | { readonly kind: 'store-upper'; readonly array: number; readonly value: Expression }
  | { readonly kind: 'set'; readonly index: number; readonly value: Expression };

/**
 * A kernel: what is done with each element. Its function takes the byte offset of each array, the number of bytes (a
 * multiple of `BLOCK_FLOATS` floats, more than 0), then the scalars; it returns a sum of temporary 0, which begins as 0 and
 * is kept apart for each element of a block.
 */
export interface Kernel {
  readonly name: string;
  readonly arrays: number;
  readonly scalars: number;
  readonly temporaries: number;
  readonly body: readonly Statement[];
}

export const load = (array: number): Expression => ({ kind: 'load', array });
export const loadUpper = (array: number): Expression => ({ kind: 'load-upper', array });
export const scalar = (index: number): Expression => ({ kind: 'scalar', scalar: index });
export const temporary = (index: number): Expression => ({ kind: 'temporary', index });
const binary =
  (op: BinaryOp) =>
  (left: Expression, right: Expression): Expression => ({ kind: 'binary', op, left, right });
export const add = binary('add');
export const sub = binary('sub');
export const mul = binary('mul');
export const div = binary('div');
/** The sum of the bits as integers, modulo 2^32. */
export const addBits = binary('addBits');
/** All bits where the left is less than the right, both as signed integers, else none. */
export const lesserBits = binary('lesserBits');
export const and = binary('and');
/** The bits of the left that the right has not. */
export const andNot = binary('andNot');
export const sqrt = (of: Expression): Expression => ({ kind: 'sqrt', of });
export const shift = (of: Expression, by: number): Expression => ({ kind: 'shift', of, by });
export const bits = (value: number): Expression => ({ kind: 'bits', bits: value });
export const store = (array: number, value: Expression): Statement => ({ kind: 'store', array, value });
export const storeUpper = (array: number, value: Expression): Statement => ({
  kind: 'store-upper',
  array,
  value,
});
export const set = (index: number, value: Expression): Statement => ({ kind: 'set', index, value });

const BINARY: Readonly<Record<BinaryOp, number>> = {
  add: Simd.add,
  sub: Simd.sub,
  mul: Simd.mul,
  div: Simd.div,
  addBits: Simd.addIntegers,
  lesserBits: Simd.lesserIntegers,
  and: Simd.and,
  andNot: Simd.andNot,
};
/** The hint that an address is a multiple of 2^4. */
const ALIGNMENT = 4;
const VECTOR_BYTES = 16;
/** The same for 16-bit values: 2^1. */
const HALF_ALIGNMENT = 1;
const HALF_BITS = 16;
const LANES = 4;
/** Vectors of one turn of the loop: so many square roots, divisions or sums are under way at once. */
const UNROLLED = 4;
/** Floats of one turn of the loop. */
export const BLOCK_FLOATS = LANES * UNROLLED;

/** A module of kernels that work in a memory of `pages` (64 KiB each), shared between threads or not, imported as `env.memory`. */
export function assemble(kernels: readonly Kernel[], pages: number, shared: boolean): Uint8Array {
  return wasmModule(
    kernels.map((kernel) => ({
      name: kernel.name,
      parameters: [...repeat(Type.i32, kernel.arrays + 1), ...repeat(Type.f32, kernel.scalars)],
      results: [Type.f32],
      code: code(kernel),
    })),
    pages,
    shared,
  );
}

function code(kernel: Kernel): number[] {
  const { arrays, scalars, temporaries, body } = kernel;
  const bytes = arrays;
  const firstScalar = arrays + 1;
  const offset = firstScalar + scalars;
  const firstSplat = offset + 1;
  const firstTemporary = firstSplat + scalars;
  const kept = Math.max(1, temporaries);
  const get = (local: number): number[] => [Op.localGet, ...leb(local)];
  const simd = (op: number): number[] => [Op.simd, ...leb(op)];
  const address = (array: number): number[] => [...get(array), ...get(offset), Op.i32Add];
  const halfAddress = (array: number): number[] => [
    ...[...get(array), ...get(offset), Op.i32Const, 1, Op.i32ShiftRight, Op.i32Add],
  ];
  const halfAccess = (vector: number): number[] => [HALF_ALIGNMENT, ...leb((vector * VECTOR_BYTES) / 2)];
  const shifted = (op: number): number[] => [Op.i32Const, HALF_BITS, ...simd(op)];
  /** Every vector of a turn has temporaries of its own. */
  const local = (index: number, vector: number): number => firstTemporary + vector * kept + index;
  const access = (op: number, vector: number): number[] => [
    ...simd(op),
    ALIGNMENT,
    ...leb(vector * VECTOR_BYTES),
  ];
  const value = (expression: Expression, vector: number): number[] => {
    switch (expression.kind) {
      case 'load':
        return [...address(expression.array), ...access(Simd.load, vector)];
      case 'load-upper':
        return [
          ...halfAddress(expression.array),
          ...[...simd(Simd.load16Widened), ...halfAccess(vector), ...shifted(Simd.shiftLeft)],
        ];
      case 'scalar':
        return get(firstSplat + expression.scalar);
      case 'temporary':
        return get(local(expression.index, vector));
      case 'binary': {
        const { left, right, op } = expression;
        return [...value(left, vector), ...value(right, vector), ...simd(BINARY[op])];
      }
      case 'sqrt':
        return [...value(expression.of, vector), ...simd(Simd.sqrt)];
      case 'shift':
        return [...value(expression.of, vector), Op.i32Const, expression.by, ...simd(Simd.shiftRight)];
      case 'bits':
        return [
          ...simd(Simd.constant),
          ...new Uint8Array(Uint32Array.from(repeat(expression.bits, LANES)).buffer),
        ];
    }
  };
  const statement = (each: Statement, vector: number): number[] => {
    const bits = value(each.value, vector);
    switch (each.kind) {
      case 'store':
        return [...address(each.array), ...bits, ...access(Simd.store, vector)];
      case 'store-upper': {
        const upper = [...bits, ...shifted(Simd.shiftRight)];
        // Narrowed twice: the first four of the eight are stored.
        const narrow = [...upper, ...upper, ...simd(Simd.narrow16)];
        return [...halfAddress(each.array), ...narrow, ...simd(Simd.store64Lane), ...halfAccess(vector), 0];
      }
      case 'set':
        return [...bits, Op.localSet, ...leb(local(each.index, vector))];
    }
  };
  const lane = (index: number): number[] => [
    ...get(local(0, Math.floor(index / LANES))),
    ...simd(Simd.extractLane),
    index % LANES,
  ];
  const instructions = [
    ...range(scalars).flatMap((i) => [
      ...get(firstScalar + i),
      ...simd(Simd.splat),
      ...[Op.localSet, ...leb(firstSplat + i)],
    ]),
    ...[Op.loop, Type.empty],
    // Statement by statement, not vector by vector: what takes long is begun for all of them.
    ...body.flatMap((each) => range(UNROLLED).flatMap((vector) => statement(each, vector))),
    ...[...get(offset), Op.i32Const, ...signedLeb(BLOCK_FLOATS * 4), Op.i32Add, Op.localTee, ...leb(offset)],
    ...[...get(bytes), Op.i32LessUnsigned, Op.branchIf, 0],
    Op.end,
    ...lane(0),
    ...range(BLOCK_FLOATS - 1).flatMap((i) => [...lane(i + 1), Op.f32Add]),
    Op.end,
  ];
  return codeOf(
    [
      [1, Type.i32],
      [scalars + UNROLLED * kept, Type.v128],
    ],
    instructions,
  );
}
