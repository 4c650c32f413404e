/**
 * Lets one thread of the process at a time run TensorFlow ops eagerly. tfjs-node's binding keeps a process-wide
 * `std::set` of attribute names that every eager op writes without a lock (ATTR_NAME_SET in tfjs_backend.cc): two
 * threads that run eager ops at once crash the process sooner or later. Sessions (compiled steps) do not touch it.
 */
export class EagerLock {
  private readonly word: Int32Array;

  /** @param memory four bytes shared by all threads of the process, zero at first */
  constructor(memory: SharedArrayBuffer) {
    this.word = new Int32Array(memory);
  }

  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  }

  /** Runs `action` while no other thread runs one. Blocks this thread; not reentrant. */
  with<Result>(action: () => Result): Result {
    while (Atomics.compareExchange(this.word, 0, 0, 1) !== 0) Atomics.wait(this.word, 0, 1);
    try {
      return action();
    } finally {
      Atomics.store(this.word, 0, 0);
      Atomics.notify(this.word, 0, 1);
    }
  }
}
