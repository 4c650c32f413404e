import { MAP_ORDER } from './affine.js';
import { codeOf, leb, Op, range, signedLeb, Simd, Type, wasmModule } from '../../shared/vector/encoding.js';

/*
 * `warp` of images of one channel as WebAssembly: four pixels of a row at a time, every operation rounded as there.
 * Beyond the last row and column it reads on, and what it reads there counts 0 times.
 */

/** The kernel's images are a multiple of this wide. */
export const PIXELS_AT_ONCE = 4;

/** Byte offsets in the memory, then counts. */
export type WarpFunction = (
  source: number,
  target: number,
  maps: number,
  images: number,
  height: number,
  width: number,
) => void;

const PARAMETERS = ['source', 'target', 'maps', 'images', 'height', 'width'] as const;
const INTEGERS = ['image', 'row', 'column', 'below'] as const;
/** `f32`s of one image's map. */
const FLOATS = MAP_ORDER;
const VECTORS = [
  ...['yxs', 'xxs', 'lastRow', 'lastColumn', 'widths', 'rowY', 'rowX', 'columns', 'y', 'x'],
  ...['down', 'along', 'places', 'pairs', 'upper', 'lower'],
] as const;
const LOCALS: readonly string[] = [...PARAMETERS, ...INTEGERS, ...FLOATS, ...VECTORS];

const local = (name: string): number[] => leb(LOCALS.indexOf(name));
const get = (name: string): number[] => [Op.localGet, ...local(name)];
const set = (name: string, value: number[]): number[] => [...value, Op.localSet, ...local(name)];
const simd = (op: number, ...operands: number[][]): number[] => [...operands.flat(), Op.simd, ...leb(op)];
const integer = (value: number): number[] => [Op.i32Const, ...signedLeb(value)];
const addTo = (name: string, value: number[]): number[] => set(name, [...get(name), ...value, Op.i32Add]);
const splat = (value: number[]): number[] => simd(Simd.splat, value);
const floatOf = (value: number[]): number[] => [...value, Op.f32Convert];
const lastOf = (name: string): number[] => splat(floatOf([...get(name), ...integer(1), Op.i32Sub]));

const bytesOf = (values: Float32Array | Int32Array): number[] => [...new Uint8Array(values.buffer)];
const constant = (values: Float32Array | Int32Array): number[] => [
  ...simd(Simd.constant),
  ...bytesOf(values),
];
const every = (value: number): number[] => constant(Float32Array.of(value, value, value, value));
const everyInteger = (value: number): number[] => constant(Int32Array.of(value, value, value, value));

/** Runs `body` while the counter, which it begins at 0 and which grows by `step`, is below the end. */
const counting = (counter: string, end: string, step: number, body: number[]): number[] => [
  ...set(counter, integer(0)),
  ...[Op.loop, Type.empty],
  ...body,
  ...addTo(counter, integer(step)),
  ...[...get(counter), ...get(end), Op.i32LessUnsigned, Op.branchIf, 0],
  Op.end,
];

/** value < 0 ? 0 : value > last ? last : value */
const clamped = (value: number[], last: string): number[] =>
  simd(Simd.lesser, simd(Simd.greater, value, every(0)), get(last));

/** Adding this to an integer below it leaves the integer in the low bits. */
const INTEGER_BITS = 2 ** 23;

/** The pairs of neighbouring bytes from `first` + a place on, one pair in each lane. */
const pairsFrom = (first: string): number[] => [
  ...set('pairs', everyInteger(0)),
  ...range(PIXELS_AT_ONCE).flatMap((lane) => [
    ...[...get(first), ...get('places'), ...simd(Simd.extractInteger), lane, Op.i32Add],
    ...[...get('pairs'), ...simd(Simd.load16Lane), 0, 0, 2 * lane],
    ...[Op.localSet, ...local('pairs')],
  ]),
];

/** left + along * (right - left) of the pairs. */
const between = (name: string): number[] => [
  ...set(name, simd(Simd.convert, simd(Simd.and, get('pairs'), everyInteger(0xff)))),
  ...set(
    name,
    simd(
      Simd.add,
      get(name),
      simd(
        Simd.mul,
        get('along'),
        simd(Simd.sub, simd(Simd.convert, simd(Simd.shiftRight, get('pairs'), integer(8))), get(name)),
      ),
    ),
  ),
];

const pixels: number[] = [
  ...set('y', clamped(simd(Simd.add, simd(Simd.mul, get('yxs'), get('columns')), get('rowY')), 'lastRow')),
  ...set('x', clamped(simd(Simd.add, simd(Simd.mul, get('xxs'), get('columns')), get('rowX')), 'lastColumn')),
  ...set('down', simd(Simd.sub, get('y'), simd(Simd.floor, get('y')))),
  ...set('along', simd(Simd.sub, get('x'), simd(Simd.floor, get('x')))),
  ...set(
    'places',
    simd(
      Simd.and,
      simd(
        Simd.add,
        simd(Simd.add, simd(Simd.mul, simd(Simd.floor, get('y')), get('widths')), simd(Simd.floor, get('x'))),
        every(INTEGER_BITS),
      ),
      everyInteger(INTEGER_BITS - 1),
    ),
  ),
  ...pairsFrom('source'),
  ...between('upper'),
  ...pairsFrom('below'),
  ...between('lower'),
  ...get('target'),
  ...simd(Simd.add, get('upper'), simd(Simd.mul, get('down'), simd(Simd.sub, get('lower'), get('upper')))),
  ...[...simd(Simd.store), 0, 0],
  ...addTo('target', integer(PIXELS_AT_ONCE * Float32Array.BYTES_PER_ELEMENT)),
  ...set('columns', simd(Simd.add, get('columns'), every(PIXELS_AT_ONCE))),
];

/** a * row + b */
const alongRows = (a: string, b: string): number[] =>
  splat([...get(a), ...floatOf(get('row')), Op.f32Mul, ...get(b), Op.f32Add]);

const row: number[] = [
  ...set('rowY', alongRows('yy', 'y0')),
  ...set('rowX', alongRows('xy', 'x0')),
  ...set('columns', constant(Float32Array.of(0, 1, 2, 3))),
  ...counting('column', 'width', PIXELS_AT_ONCE, pixels),
];

const image: number[] = [
  ...FLOATS.flatMap((name, i) => [...get('maps'), Op.f32Load, 2, ...leb(4 * i), Op.localSet, ...local(name)]),
  ...set('yxs', splat(get('yx'))),
  ...set('xxs', splat(get('xx'))),
  ...set('below', [...get('source'), ...get('width'), Op.i32Add]),
  ...counting('row', 'height', 1, row),
  ...addTo('maps', integer(4 * FLOATS.length)),
  ...addTo('source', [...get('height'), ...get('width'), Op.i32Mul]),
];

const instructions: number[] = [
  ...set('lastRow', lastOf('height')),
  ...set('lastColumn', lastOf('width')),
  ...set('widths', splat(floatOf(get('width')))),
  ...counting('image', 'images', 1, image),
  Op.end,
];

/** A module with `warp`, a `WarpFunction`, over a memory of `pages` (64 KiB each) imported as `env.memory`. */
export const warpModule = (pages: number): Uint8Array =>
  wasmModule(
    [
      {
        name: 'warp',
        parameters: PARAMETERS.map(() => Type.i32),
        results: [],
        code: codeOf(
          [
            [INTEGERS.length, Type.i32],
            [FLOATS.length, Type.f32],
            [VECTORS.length, Type.v128],
          ],
          instructions,
        ),
      },
    ],
    pages,
    false,
  );
