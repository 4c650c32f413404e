/**
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC'11). A stream is a pure function of its address, so any shard of any epoch can be
 * recomputed on any machine without replaying what came before.
 */

/** What a stream is used for. The number is part of the address: never renumber. */
export const Purpose = {
  initialWeights: 1,
  shuffle: 2,
  dropout: 3,
  augmentation: 4,
  folds: 5,
  probe: 6,
} as const;
export type Purpose = (typeof Purpose)[keyof typeof Purpose];

/** The address of a stream. `seed` is a safe integer >= 0; `trial` < 2^24; `epoch` and `shard` < 2^32. */
export interface StreamAddress {
  readonly seed: number;
  readonly purpose: Purpose;
  readonly trial: number;
  readonly epoch: number;
  readonly shard: number;
}

const TWO_32 = 2 ** 32;
const PHILOX_M0 = 0xd2511f53;
const PHILOX_M1 = 0xcd9e8d57;
const PHILOX_W0 = 0x9e3779b9;
const PHILOX_W1 = 0xbb67ae85;
const PHILOX_ROUNDS = 10;

/** The high 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000);
  const middle2 = aLow * bHigh + (middle % 0x10000);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(middle2 / 0x10000)) >>> 0;
}

/**
 * One Philox4x32-10 block: encrypts `counter` (four words) under `key` (two words) into `out` (four words).
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
  out: Uint32Array,
): void {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < PHILOX_ROUNDS; round++) {
    const high0 = multiplyHigh(PHILOX_M0, c0);
    const low0 = Math.imul(PHILOX_M0, c0) >>> 0;
    const high1 = multiplyHigh(PHILOX_M1, c2);
    const low1 = Math.imul(PHILOX_M1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + PHILOX_W0) >>> 0;
    k1 = (k1 + PHILOX_W1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/** A cursor over one stream. Two streams of the same address give the same numbers. */
export class RandomStream {
  private readonly key: readonly [number, number];
  private readonly address: StreamAddress;
  private readonly block = new Uint32Array(4);
  private blockIndex: number;
  private used = 4;

  /** @param index block of four words to start at, < 2^32 */
  constructor(address: StreamAddress, index = 0) {
    this.address = address;
    this.blockIndex = index;
    this.key = [address.seed >>> 0, Math.floor(address.seed / TWO_32) >>> 0];
  }

  /** The next unsigned 32-bit integer. */
  uint32(): number {
    if (this.used === 4) {
      const { purpose, trial, epoch, shard } = this.address;
      philox4x32([this.blockIndex++, shard, epoch, ((trial << 8) | purpose) >>> 0], this.key, this.block);
      this.used = 0;
    }
    return this.block[this.used++] as number;
  }

  /** The next number in [0, 1), with 53 random bits. */
  uniform(): number {
    const high = this.uint32() >>> 5;
    const low = this.uint32() >>> 6;
    return (high * 0x4000000 + low) / 2 ** 53;
  }

  /** The next integer in [0, bound), without bias: draws of the incomplete last interval are thrown away. */
  below(bound: number): number {
    const limit = TWO_32 - (TWO_32 % bound);
    for (;;) {
      const draw = this.uint32();
      if (draw < limit) return draw % bound;
    }
  }

  /** The next standard normal deviate (Box & Muller 1958, the cosine branch). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }
}

/** A uniformly random permutation of `values`, in place (Fisher & Yates). */
export function shuffle(values: Uint32Array, stream: RandomStream): Uint32Array {
  for (let i = values.length - 1; i > 0; i--) {
    const j = stream.below(i + 1);
    const held = values[i] as number;
    values[i] = values[j] as number;
    values[j] = held;
  }
  return values;
}
