import { performance } from 'node:perf_hooks';

/*
 * A slot on standby: it has its next task, with the rows gathered, and waits for the word to begin, or for the parameters themselves. Between
 * two steps nothing is on the way then but those: no queue, no message, no copy (ARCHITECTURE.md, "One step, end to end").
 */

const WAITING = 0;
const BEGIN = 1;
const DROPPED = 2;

/** Then the slot lets the task go: whoever posted it has forgotten it. */
const LONGEST_WAIT_MS = 60_000;

/** A slot that waits for parameters looks at least so often; what it waits for wakes it anyway. */
const LONGEST_LOOK_MS = 1_000;

/** The parameters that a task on standby is to be computed with, where a slot sees for itself that they have come. */
export interface Expected {
  haveCome(): boolean;
  /** Blocks until they may have, or the word was said; at most so many milliseconds. */
  wait(milliseconds: number): void;
}

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

  /** @returns false when it was decided before */
  begin(cell: number): boolean {
    return this.decide(cell, BEGIN);
  }

  /**
   * No more than a wish where the task has begun.
   * @returns false when it was decided before
   */
  drop(cell: number): boolean {
    return this.decide(cell, DROPPED);
  }

  /**
   * Blocks this thread until it is decided. Whoever sees that what is expected has come decides for all.
   * @returns whether to begin
   */
  wait(cell: number, expected?: Expected): boolean {
    if (expected === undefined) Atomics.wait(this.words, cell, WAITING, LONGEST_WAIT_MS);
    else this.lookOutFor(expected, cell);
    return Atomics.load(this.words, cell) === BEGIN;
  }

  private lookOutFor(expected: Expected, cell: number): void {
    const end = performance.now() + LONGEST_WAIT_MS;
    while (Atomics.load(this.words, cell) === WAITING) {
      if (expected.haveCome()) {
        this.begin(cell);
        return;
      }
      const left = end - performance.now();
      if (left <= 0) return;
      expected.wait(Math.min(left, LONGEST_LOOK_MS));
    }
  }

  private decide(cell: number, word: number): boolean {
    if (Atomics.compareExchange(this.words, cell, WAITING, word) !== WAITING) return false;
    Atomics.notify(this.words, cell);
    return true;
  }
}
