/*
 * WebAssembly's binary format: https://webassembly.github.io/spec/core/binary/
 */

export const Type = { i32: 0x7f, f32: 0x7d, v128: 0x7b, func: 0x60, empty: 0x40 } as const;
const Section = { type: 1, import: 2, function: 3, export: 7, code: 10 } as const;
/** What a memory's type says of it. */
const Limits = { bounded: 0x01, shared: 0x03 } as const;

/** Instructions, by their opcodes. */
export const Op = {
  loop: 0x03,
  end: 0x0b,
  branchIf: 0x0d,
  localGet: 0x20,
  localSet: 0x21,
  localTee: 0x22,
  f32Load: 0x2a,
  i32Const: 0x41,
  i32LessUnsigned: 0x49,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32Mul: 0x6c,
  i32ShiftRight: 0x76,
  f32Add: 0x92,
  f32Mul: 0x94,
  f32Convert: 0xb2,
  simd: 0xfd,
} as const;
/** What follows `Op.simd`; of f32x4 unless another type is named. */
export const Simd = {
  load: 0x00,
  load16Widened: 0x04,
  store: 0x0b,
  constant: 0x0c,
  splat: 0x13,
  extractInteger: 0x1b,
  extractLane: 0x1f,
  lesserIntegers: 0x39,
  and: 0x4e,
  andNot: 0x4f,
  load16Lane: 0x55,
  store64Lane: 0x5b,
  floor: 0x68,
  narrow16: 0x86,
  shiftLeft: 0xab,
  shiftRight: 0xad,
  addIntegers: 0xae,
  sqrt: 0xe3,
  add: 0xe4,
  sub: 0xe5,
  mul: 0xe6,
  div: 0xe7,
  lesser: 0xea,
  greater: 0xeb,
  convert: 0xfa,
} as const;

export interface WasmFunction {
  readonly name: string;
  readonly parameters: readonly number[];
  readonly results: readonly number[];
  /** As `codeOf` gives it. */
  readonly code: readonly number[];
}

/** A module of exported functions with a memory of `pages` (64 KiB each), shared between threads or not, imported as `env.memory`. */
export function wasmModule(functions: readonly WasmFunction[], pages: number, shared: boolean): Uint8Array {
  const text = (value: string): number[] => vector([...Buffer.from(value)].map((byte) => [byte]));
  const types = (values: readonly number[]): number[] => vector(values.map((value) => [value]));
  const memory = [0x02, shared ? Limits.shared : Limits.bounded, ...leb(pages), ...leb(pages)];
  const signatures = functions.map(({ parameters, results }) => [
    Type.func,
    ...types(parameters),
    ...types(results),
  ]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(Section.type, vector(signatures)),
    ...section(Section.import, vector([[...text('env'), ...text('memory'), ...memory]])),
    ...section(Section.function, vector(functions.map((_, i) => leb(i)))),
    ...section(Section.export, vector(functions.map(({ name }, i) => [...text(name), 0x00, ...leb(i)]))),
    ...section(Section.code, vector(functions.map(({ code }) => code))),
  ]);
}

/** A function's body. @param locals how many of which type, after its parameters */
export function codeOf(
  locals: readonly (readonly [number, number])[],
  instructions: readonly number[],
): number[] {
  const all = [...vector(locals.map(([count, type]) => [...leb(count), type])), ...instructions];
  return [...leb(all.length), ...all];
}

/** Unsigned LEB128. */
export function leb(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return [...bytes, rest];
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** The same for a constant, which is signed: of its last byte the sixth bit is the sign. @param value 0 or more */
export function signedLeb(value: number): number[] {
  const bytes = leb(value);
  const last = bytes.at(-1) ?? 0;
  return last < 0x40 ? bytes : [...bytes.slice(0, -1), last | 0x80, 0];
}

const vector = (items: readonly (readonly number[])[]): number[] => [...leb(items.length), ...items.flat()];
const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...leb(content.length),
  ...content,
];
export const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
export const repeat = <Item>(item: Item, times: number): Item[] => range(times).map(() => item);
