/** A set of row numbers below `length`, one bit each: how row sets cross the wire. */
export class Bitmap {
  readonly bytes: Uint8Array;
  readonly length: number;

  constructor(length: number, bytes: Uint8Array = new Uint8Array(Math.ceil(length / 8))) {
    this.length = length;
    this.bytes = bytes;
  }

  static byteLength(length: number): number {
    return Math.ceil(length / 8);
  }

  static of(length: number, rows: Iterable<number>): Bitmap {
    const bitmap = new Bitmap(length);
    for (const row of rows) bitmap.add(row);
    return bitmap;
  }

  add(row: number): void {
    this.bytes[row >>> 3] = (this.bytes[row >>> 3] ?? 0) | (1 << (row & 7));
  }

  has(row: number): boolean {
    return (((this.bytes[row >>> 3] ?? 0) >>> (row & 7)) & 1) === 1;
  }

  /** The rows of the set, ascending. */
  rows(): Uint32Array {
    const rows: number[] = [];
    for (let row = 0; row < this.length; row++) if (this.has(row)) rows.push(row);
    return Uint32Array.from(rows);
  }
}
