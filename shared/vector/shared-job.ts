/*
 * One kernel's work on large arrays, shared by two threads: cut into chunks that whoever is free takes. Who offered it never waits for
 * a thread that sleeps, only for chunks that the other has taken.
 */

/** Of each array; a multiple of a kernel's block. */
export const CHUNK_BYTES = 256 * 1024;
/** A thread that has not done its chunk after so many looks never will; a process that was stopped meanwhile counts one. */
const MAX_LOOKS = 60;
const LOOK_MS = 1_000;
/** So often it is looked whether the other has done its chunk, before this thread sleeps: for some 20 microseconds. */
const SPINS = 2_000;

/** Where in the control words what is; 32 bits each. `scalars` are floats. */
const Word = {
  /** The job's number above `CHUNK_BITS`; below, how many of its chunks nobody has taken: the last of them is the next one. */
  ticket: 0,
  /** Chunks that the helper has done. */
  done: 1,
  /** Counts what there is for the helper to look at. */
  bell: 2,
  memory: 3,
  kernel: 4,
  bytes: 5,
  arrays: 6,
  offsets: 8,
  scalarCount: 15,
  scalars: 16,
  /** A float: what the kernel returned to the helper, summed over its chunks. */
  returned: 31,
} as const;
const CONTROL_BYTES = 32 * 4;
/** Enough for all of a memory of 4 GiB. */
const CHUNK_BITS = 14;
const CHUNK_MASK = 2 ** CHUNK_BITS - 1;

export interface Job {
  /** The number of the memory that the arrays are in. */
  readonly memory: number;
  readonly kernel: number;
  /** Bytes from the memory's beginning, one for each array. */
  readonly offsets: readonly number[];
  /** Of each array. */
  readonly bytes: number;
  readonly scalars: readonly number[];
}

/** Does a part of a job's arrays; returns what the kernel returns. */
export type Part = (offsets: readonly number[], bytes: number) => number;

/** The words that both threads see. */
export class SharedJob {
  readonly control: SharedArrayBuffer;
  private readonly words: Int32Array;
  private readonly floats: Float32Array;

  constructor(control = new SharedArrayBuffer(CONTROL_BYTES)) {
    this.control = control;
    this.words = new Int32Array(control);
    this.floats = new Float32Array(control);
  }

  /**
   * Offers a job to the helper, does what that does not take, and returns when all is done.
   * @returns the sum of what the kernel returned, over all chunks
   * @throws Error when the helper has taken a chunk and does not do it
   */
  share(job: Job, part: Part): number {
    const { words, floats } = this;
    const chunks = Math.ceil(job.bytes / CHUNK_BYTES);
    // Whoever reads these now does not get a chunk: all of the last job are taken.
    words[Word.memory] = job.memory;
    words[Word.kernel] = job.kernel;
    words[Word.bytes] = job.bytes;
    words[Word.arrays] = job.offsets.length;
    words.set(job.offsets, Word.offsets);
    words[Word.scalarCount] = job.scalars.length;
    floats.set(job.scalars, Word.scalars);
    floats[Word.returned] = 0;
    Atomics.store(words, Word.done, 0);
    const number = (Atomics.load(words, Word.ticket) >>> CHUNK_BITS) + 1;
    Atomics.store(words, Word.ticket, (number << CHUNK_BITS) | chunks);
    this.ring();
    let returned = 0;
    let own = 0;
    for (let ticket = this.ticketLeft(); ticket !== null; ticket = this.ticketLeft()) {
      if (!this.take(ticket)) continue;
      returned += doChunk(job, chunkOf(ticket), part);
      own++;
    }
    this.awaitHelper(chunks - own);
    return returned + (floats[Word.returned] as number);
  }

  /** Tells the helper to look. */
  ring(): void {
    Atomics.add(this.words, Word.bell, 1);
    Atomics.notify(this.words, Word.bell);
  }

  /**
   * The helper's life: does chunks, and sleeps while there are none.
   * @param look called when the bell has rung
   * @param partOf null for a job in a memory that is not known here, which is left to the other thread
   */
  help(look: () => void, partOf: (job: Job) => Part | null): never {
    const { words, floats } = this;
    for (;;) {
      const bell = Atomics.load(words, Word.bell);
      look();
      for (let ticket = this.ticketLeft(); ticket !== null; ticket = this.ticketLeft()) {
        // If another job has come meanwhile the ticket is not that any more.
        const job = this.read();
        const part = partOf(job);
        if (part === null) break;
        if (!this.take(ticket)) continue;
        floats[Word.returned] = (floats[Word.returned] as number) + doChunk(job, chunkOf(ticket), part);
        Atomics.add(words, Word.done, 1);
        Atomics.notify(words, Word.done);
      }
      Atomics.wait(words, Word.bell, bell);
    }
  }

  /** Null when all chunks are taken. */
  private ticketLeft(): number | null {
    const ticket = Atomics.load(this.words, Word.ticket);
    return (ticket & CHUNK_MASK) > 0 ? ticket : null;
  }

  /** @returns false when somebody else has taken the chunk */
  private take(ticket: number): boolean {
    return Atomics.compareExchange(this.words, Word.ticket, ticket, ticket - 1) === ticket;
  }

  private read(): Job {
    const { words, floats } = this;
    const word = (index: number): number => words[index] as number;
    return {
      memory: word(Word.memory),
      kernel: word(Word.kernel),
      offsets: [...words.subarray(Word.offsets, Word.offsets + word(Word.arrays))],
      bytes: word(Word.bytes),
      scalars: [...floats.subarray(Word.scalars, Word.scalars + word(Word.scalarCount))],
    };
  }

  private awaitHelper(chunks: number): void {
    const { words } = this;
    let looks = 0;
    for (let spins = 0; ; spins++) {
      const done = Atomics.load(words, Word.done);
      if (done === chunks) return;
      if (spins < SPINS) continue;
      if (Atomics.wait(words, Word.done, done, LOOK_MS) === 'timed-out' && ++looks === MAX_LOOKS)
        throw new Error(
          'the thread that helps with large arrays does not answer: resume the run from its last checkpoint',
        );
    }
  }
}

const chunkOf = (ticket: number): number => (ticket & CHUNK_MASK) - 1;

function doChunk({ offsets, bytes }: Job, chunk: number, part: Part): number {
  const at = chunk * CHUNK_BYTES;
  return part(
    offsets.map((offset) => offset + at),
    Math.min(CHUNK_BYTES, bytes - at),
  );
}
