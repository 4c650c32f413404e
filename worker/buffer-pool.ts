import { HEAD_ROOM_BYTES } from '../shared/protocol/frame.js';
import { VectorMemory } from '../shared/vector/memory.js';

const HEAD_ROOM_FLOATS = HEAD_ROOM_BYTES / Float32Array.BYTES_PER_ELEMENT;

/**
 * Arrays of one length on shared memory, lent and given back, so that a steady state allocates none. Before each is room
 * for the header of the frame that sends it.
 */
export class BufferPool {
  private readonly length: number;
  private readonly memory: VectorMemory;
  private readonly free: Float32Array[] = [];

  /**
   * @param length floats
   * @param usual how many are lent at a time, usually: these can be added to each other by the vector kernels
   */
  constructor(length: number, usual: number) {
    this.length = length;
    this.memory = new VectorMemory(usual, HEAD_ROOM_FLOATS + length, 'shared');
  }

  borrow(): Float32Array {
    return this.free.pop() ?? this.make();
  }

  giveBack(array: Float32Array): void {
    this.free.push(array);
  }

  private make(): Float32Array {
    const floats = HEAD_ROOM_FLOATS + this.length;
    const fast = this.memory.array(floats);
    const isShared = fast.buffer instanceof SharedArrayBuffer;
    const whole = isShared ? fast : new Float32Array(new SharedArrayBuffer(floats * fast.BYTES_PER_ELEMENT));
    return whole.subarray(HEAD_ROOM_FLOATS);
  }
}
