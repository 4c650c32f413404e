import { threadId } from 'node:worker_threads';

/** Thread 0 is the process's main thread, so owners are stored one higher. */
const UNOWNED = 0;
const ownerOf = (thread: number): number => thread + 1;

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
    for (;;) {
      const owner = Atomics.compareExchange(this.word, 0, UNOWNED, ownerOf(threadId));
      if (owner === UNOWNED) break;
      Atomics.wait(this.word, 0, owner);
    }
    try {
      return action();
    } finally {
      this.release();
    }
  }

  /** Takes the lock from a thread that died with it. @param alive thread ids of those that live */
  releaseDead(alive: readonly number[]): void {
    const owner = Atomics.load(this.word, 0);
    if (owner !== UNOWNED && !alive.some((thread) => ownerOf(thread) === owner)) this.release();
  }

  private release(): void {
    Atomics.store(this.word, 0, UNOWNED);
    Atomics.notify(this.word, 0, 1);
  }
}
