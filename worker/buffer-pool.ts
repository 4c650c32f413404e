/** Shared memory of one size, lent and given back, so that a steady state allocates none. */
export class BufferPool {
  private readonly byteLength: number;
  private readonly free: SharedArrayBuffer[] = [];

  constructor(byteLength: number) {
    this.byteLength = byteLength;
  }

  borrow(): SharedArrayBuffer {
    return this.free.pop() ?? new SharedArrayBuffer(this.byteLength);
  }

  giveBack(buffer: SharedArrayBuffer): void {
    this.free.push(buffer);
  }
}
