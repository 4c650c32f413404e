/*
 * A slot on standby: it has its next task, with the rows gathered, and waits for the word to begin. Between two steps nothing is on the
 * way then but that word: no queue, no message, no copy (ARCHITECTURE.md, "One step, end to end").
 */

const WAITING = 0;
const BEGIN = 1;
const DROPPED = 2;

/** Then the slot lets the task go: whoever posted it has forgotten it. */
const LONGEST_WAIT_MS = 60_000;

/** What tasks on standby wait for: cells in memory that the threads of a process share. */
export class StandbyCells {
  private readonly words: Int32Array;
  private readonly free: number[];

  /** @param memory of `StandbyCells.memory`, zero at first */
  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.free = [...this.words.keys()];
  }

  static memory(cells: number): SharedArrayBuffer {
    return new SharedArrayBuffer(cells * Int32Array.BYTES_PER_ELEMENT);
  }

  /** For one task. @returns null when all are taken */
  take(): number | null {
    const cell = this.free.pop();
    if (cell === undefined) return null;
    Atomics.store(this.words, cell, WAITING);
    return cell;
  }

  /** The task is over. */
  giveBack(cell: number): void {
    this.free.push(cell);
  }

  begin(cell: number): void {
    this.decide(cell, BEGIN);
  }

  /** No more than a wish where the task has begun. */
  drop(cell: number): void {
    this.decide(cell, DROPPED);
  }

  /**
   * Blocks this thread until it is decided.
   * @returns whether to begin
   */
  wait(cell: number): boolean {
    Atomics.wait(this.words, cell, WAITING, LONGEST_WAIT_MS);
    return Atomics.load(this.words, cell) === BEGIN;
  }

  private decide(cell: number, word: number): void {
    if (Atomics.compareExchange(this.words, cell, WAITING, word) === WAITING)
      Atomics.notify(this.words, cell);
  }
}
