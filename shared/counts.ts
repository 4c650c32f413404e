/** How often each of a few things happened. Keys are the program's own words, never a peer's. */
export class Counts<Key extends string> {
  private readonly values = new Map<Key, number>();

  add(key: Key, by = 1): void {
    this.values.set(key, (this.values.get(key) ?? 0) + by);
  }

  of(key: Key): number {
    return this.values.get(key) ?? 0;
  }

  entries(): IterableIterator<[Key, number]> {
    return this.values.entries();
  }
}
