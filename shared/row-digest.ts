import { z } from 'zod';

/**
 * A digest of a set of dataset rows that does not depend on their order: two sums mod 2^32 of independent
 * 32-bit hashes of the row numbers. A row missing, repeated or exchanged changes it but for a chance of about
 * 2^-64. Digests of disjoint sets add up to the digest of their union.
 */
export const RowDigest = z.tuple([z.uint32(), z.uint32()]);
export type RowDigest = z.infer<typeof RowDigest>;

/** The finalizer of MurmurHash3 (Appleby, public domain): a bijection of 32-bit integers that mixes well. */
function mix(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export function rowDigest(rows: Iterable<number>): RowDigest {
  let a = 0;
  let b = 0;
  for (const row of rows) {
    a = (a + mix(row + 0x9e3779b9)) >>> 0;
    b = (b + mix(mix(row + 0x7f4a7c15) ^ 0x94d049bb)) >>> 0;
  }
  return [a, b];
}

export const addRowDigests = (left: RowDigest, right: RowDigest): RowDigest => [
  (left[0] + right[0]) >>> 0,
  (left[1] + right[1]) >>> 0,
];

export const equalRowDigests = (left: RowDigest, right: RowDigest): boolean =>
  left[0] === right[0] && left[1] === right[1];

/** As 16 hexadecimal digits. */
export const formatRowDigest = ([a, b]: RowDigest): string =>
  a.toString(16).padStart(8, '0') + b.toString(16).padStart(8, '0');
