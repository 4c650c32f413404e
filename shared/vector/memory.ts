import {
  add,
  addBits,
  and,
  andNot,
  assemble,
  bits,
  BLOCK_FLOATS,
  div,
  lesserBits,
  load,
  loadUpper,
  mul,
  scalar,
  set,
  shift,
  sqrt,
  store,
  storeUpper,
  sub,
  temporary,
  type Expression,
  type Kernel,
} from './assembler.js';
import { LEAST_GRADIENT, LEAST_MOMENT } from '../negligible.js';
import { Helper, LEAST_HELPED_FLOATS } from './helper.js';

/** WebAssembly's pages; a multiple of the system's, whatever they are. */
const PAGE_BYTES = 65_536;
/** WebAssembly's addresses have 32 bits. */
const MAX_PAGES = 65_536;
const VECTOR_FLOATS = 4;
const VECTOR_BYTES = 16;

export type KernelFunction = (...args: readonly number[]) => number;

/** temporary 0 += x - x, where x is temporary 1: 0 as long as it is finite, then NaN for good. */
const FINITENESS = set(0, add(temporary(0), sub(temporary(1), temporary(1))));

/** `bf16`, of a value. */
const halved = (value: Expression): Expression =>
  and(addBits(addBits(value, and(shift(value, 16), bits(1))), bits(0x7fff)), bits(0xffff0000));

/** `unlessNegligible`, of a value: magnitudes are in the order of their bits. */
const unlessNegligible = (value: Expression, least: number): Expression =>
  andNot(value, lesserBits(and(value, bits(0x7fffffff)), bits(bitsOf(least))));
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] as number;

/** The kernels; each says the plain loop that it is. */
const KERNELS = {
  /** a0 = a0 + a1 */
  add: {
    arrays: 2,
    scalars: 0,
    temporaries: 0,
    body: [store(0, add(load(0), load(1)))],
  },
  /** a0 = bf16(a0) */
  roundBf16: {
    arrays: 1,
    scalars: 0,
    temporaries: 2,
    body: [set(1, load(0)), store(0, halved(temporary(1)))],
  },
  /** a0 = bf16(a0 + a1) */
  addBf16: {
    arrays: 2,
    scalars: 0,
    temporaries: 2,
    body: [set(1, add(load(0), load(1))), store(0, halved(temporary(1)))],
  },
  /** a0 = the upper halves of bf16(a1); a0 may be the beginning of a1 */
  pack: {
    arrays: 2,
    scalars: 0,
    temporaries: 2,
    body: [set(1, load(1)), set(1, halved(temporary(1))), storeUpper(0, temporary(1))],
  },
  /** a0 = a1 as upper halves; a1 may be the end of a0 */
  unpack: {
    arrays: 2,
    scalars: 0,
    temporaries: 2,
    body: [set(1, loadUpper(1)), store(0, temporary(1))],
  },
  /** a0 = s0 * a0, unless negligible as a gradient; returns the sum of x - x over its elements: 0 if all are finite, else NaN */
  scale: {
    arrays: 1,
    scalars: 1,
    temporaries: 2,
    body: [
      set(1, mul(scalar(0), load(0))),
      set(1, unlessNegligible(temporary(1), LEAST_GRADIENT)),
      store(0, temporary(1)),
      FINITENESS,
    ],
  },
  /** a0 = s0 * a0 + s1 * a1, unless negligible; returns what `scale` does */
  scaleAndAdd: {
    arrays: 2,
    scalars: 2,
    temporaries: 2,
    body: [
      set(1, add(mul(scalar(0), load(0)), mul(scalar(1), load(1)))),
      set(1, unlessNegligible(temporary(1), LEAST_GRADIENT)),
      store(0, temporary(1)),
      FINITENESS,
    ],
  },
  /** `Adam.update`: parameters, gradient, m, v; beta1, 1 - beta1, beta2, 1 - beta2, rate, stabilizer */
  adam: {
    arrays: 4,
    scalars: 6,
    temporaries: 4,
    body: [
      set(1, load(1)),
      set(2, add(mul(scalar(0), load(2)), mul(scalar(1), temporary(1)))),
      set(3, add(mul(scalar(2), load(3)), mul(scalar(3), mul(temporary(1), temporary(1))))),
      set(2, unlessNegligible(temporary(2), LEAST_MOMENT)),
      set(3, unlessNegligible(temporary(3), LEAST_MOMENT)),
      store(2, temporary(2)),
      store(3, temporary(3)),
      store(0, sub(load(0), div(mul(scalar(4), temporary(2)), add(sqrt(temporary(3)), scalar(5))))),
    ],
  },
  /** `Sgd.update`: parameters, gradient, velocity; momentum, rate */
  sgd: {
    arrays: 3,
    scalars: 2,
    temporaries: 2,
    body: [
      set(1, sub(mul(scalar(0), load(2)), mul(scalar(1), load(1)))),
      set(1, unlessNegligible(temporary(1), LEAST_MOMENT)),
      store(2, temporary(1)),
      store(0, add(load(0), temporary(1))),
    ],
  },
} as const satisfies Record<string, Omit<Kernel, 'name'>>;

export type KernelName = keyof typeof KERNELS;

/** What `VectorMemory.pages` has given. */
const paged = new WeakSet<Float32Array>();

interface Kernels {
  readonly functions: Readonly<Record<KernelName, KernelFunction>>;
  readonly helped: { readonly helper: Helper; readonly memory: number } | null;
}

const kernelsOf = new WeakMap<ArrayBufferLike, Kernels>();
const KERNEL_NAMES = Object.keys(KERNELS) as KernelName[];

/** Whose a memory is: one thread's; that of several, which V8 copies word by word, a fifth as fast; or one's whom a `Helper` helps with arrays that are large enough. */
export type Sharing = 'own' | 'shared' | 'helped';

/**
 * Arrays in one memory where the kernels reach them all. What does not fit, or where there is no such memory, is an
 * array like any other: everything works with it, only slower.
 */
export class VectorMemory {
  private readonly buffer: ArrayBuffer | SharedArrayBuffer | null;
  private used = 0;

  /**
   * Room for `arrays` arrays of `length` floats; the system gives what is touched.
   */
  constructor(arrays: number, length: number, sharing: Sharing = 'own') {
    const pages = arrays * pagesOf(length);
    this.buffer = pages === 0 ? null : makeMemory(Math.min(MAX_PAGES, pages), sharing, length);
  }

  /**
   * Zeros that begin where a page of the system does and share no page with another array, so that a file can be mapped over
   * them (`NativeMemory.mapOver`). Null when they do not fit.
   */
  pages(length: number): Float32Array | null {
    const begin = Math.ceil(this.used / PAGE_BYTES) * PAGE_BYTES;
    const end = begin + pagesOf(length) * PAGE_BYTES;
    if (this.buffer === null || end > this.buffer.byteLength) return null;
    this.used = end;
    const values = new Float32Array(this.buffer, begin, length);
    paged.add(values);
    return values;
  }

  /** Zeros. */
  array(length: number): Float32Array {
    const bytes = paddedBytes(length);
    if (this.buffer === null || this.used + bytes > this.buffer.byteLength) return new Float32Array(length);
    const array = new Float32Array(this.buffer, this.used, length);
    this.used += bytes;
    return array;
  }
}

/** Whether it is an array of `VectorMemory.pages`. */
export const hasPagesOfItsOwn = (values: Float32Array): boolean => paged.has(values);

const pagesOf = (floats: number): number => Math.ceil((floats * Float32Array.BYTES_PER_ELEMENT) / PAGE_BYTES);
const paddedBytes = (floats: number): number => Math.ceil(floats / VECTOR_FLOATS) * VECTOR_BYTES;

function makeMemory(pages: number, sharing: Sharing, length: number): ArrayBuffer | SharedArrayBuffer | null {
  const helper = sharing === 'helped' && length >= LEAST_HELPED_FLOATS ? Helper.get() : null;
  const shared = sharing === 'shared' || helper !== null;
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
    const helped = helper && { helper, memory: helper.adopt(memory) };
    kernelsOf.set(memory.buffer, { functions: instantiate(memory), helped });
    return memory.buffer;
  } catch (error) {
    // No room for its address space.
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** The kernels' functions in a memory, in the order of `KERNELS`. */
export function instantiate(memory: WebAssembly.Memory): Readonly<Record<KernelName, KernelFunction>> {
  const { buffer } = memory;
  const kernels = KERNEL_NAMES.map((name) => ({ name, ...KERNELS[name] }));
  const code = assemble(kernels, buffer.byteLength / PAGE_BYTES, buffer instanceof SharedArrayBuffer);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(code), { env: { memory } });
  return exports as Record<KernelName, KernelFunction>;
}

/**
 * Runs a kernel over the first elements of arrays of equal length, a block at a time.
 * @returns how many elements are done: the last ones, less than a block, or all when the arrays are not in one `VectorMemory`, are
 * left to the plain loop; and what the kernel returned
 */
export function runKernel(
  name: KernelName,
  arrays: readonly (Float32Array | Uint16Array)[],
  scalars: readonly number[],
): { done: number; returned: number } {
  const [first] = arrays;
  const kernels = first === undefined ? undefined : kernelsOf.get(first.buffer);
  const done = (first?.length ?? 0) & ~(BLOCK_FLOATS - 1);
  if (kernels === undefined || done === 0 || arrays.some(({ buffer }) => buffer !== first?.buffer)) {
    return { done: 0, returned: 0 };
  }
  const { functions, helped } = kernels;
  const offsets = arrays.map(({ byteOffset }) => byteOffset);
  const bytes = done * Float32Array.BYTES_PER_ELEMENT;
  const run = (from: readonly number[], of: number): number => functions[name](...from, of, ...scalars);
  if (
    helped === null ||
    done < LEAST_HELPED_FLOATS ||
    !arrays.every((array) => array instanceof Float32Array)
  )
    return { done, returned: run(offsets, bytes) };
  const { helper, memory } = helped;
  const kernel = KERNEL_NAMES.indexOf(name);
  return { done, returned: helper.run({ memory, kernel, offsets, bytes, scalars }, run) };
}
