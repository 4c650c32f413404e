import { HEAD_ROOM_BYTES } from '../shared/protocol/frame.js';

/**
 * Arrays of one length on shared memory, lent and given back, so that a steady state allocates none. Before each is room
 * for the header of the frame that sends it.
 */
export class BufferPool {
  private readonly length: number;
  private readonly free: Float32Array[] = [];

  /** @param length floats */
  constructor(length: number) {
    this.length = length;
  }

  borrow(): Float32Array {
    return this.free.pop() ?? this.make();
  }

  giveBack(array: Float32Array): void {
    this.free.push(array);
  }

  private make(): Float32Array {
    const memory = new SharedArrayBuffer(HEAD_ROOM_BYTES + this.length * Float32Array.BYTES_PER_ELEMENT);
    return new Float32Array(memory, HEAD_ROOM_BYTES, this.length);
  }
}
