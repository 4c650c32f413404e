/** Places in a file: taken, freed and taken again by what has the same length. The file grows to what was ever taken at once. */
export class Places {
  private readonly limit: number;
  private end = 0;
  /** Length by offset. */
  private readonly taken = new Map<number, number>();
  /** By length. */
  private readonly unused = new Map<number, number[]>();

  /** @param limit bytes */
  constructor(limit: number) {
    this.limit = limit;
  }

  /** @returns an offset in bytes; null when there is no room */
  take(length: number): number | null {
    let offset = this.unused.get(length)?.pop();
    if (offset === undefined) {
      if (this.end + length > this.limit) return null;
      offset = this.end;
      this.end += length;
    }
    this.taken.set(offset, length);
    return offset;
  }

  free(offset: number): void {
    const length = this.taken.get(offset);
    if (length === undefined) return;
    this.taken.delete(offset);
    const unused = this.unused.get(length);
    if (unused === undefined) this.unused.set(length, [offset]);
    else unused.push(offset);
    if (this.taken.size > 0) return;
    // Other lengths may come next.
    this.end = 0;
    this.unused.clear();
  }
}
