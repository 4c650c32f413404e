import { nativeMemory } from '../shared/native-memory.js';

/**
 * Copies rows out of a row store, one after the other.
 * @param source all rows
 * @param target `rows.length` rows; its length says how long a row is
 */
export function gatherRows(source: Uint8Array, rows: Uint32Array, target: Uint8Array): void {
  if (nativeMemory === null) gatherRowsPlainly(source, rows, target);
  else nativeMemory.gatherRows(source, rows, target);
}

/** The plain loop: V8 copies shared memory word by word. */
export function gatherRowsPlainly(source: Uint8Array, rows: Uint32Array, target: Uint8Array): void {
  const bytes = target.length / rows.length;
  rows.forEach((row, i) => target.set(source.subarray(row * bytes, (row + 1) * bytes), i * bytes));
}
