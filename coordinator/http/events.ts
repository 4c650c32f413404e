import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';

/** What is read of `events.jsonl` at once. */
const MAX_READ_BYTES = 1024 * 1024;

/** Whole lines of a run's log, and where the next ones begin. */
export interface LogPart {
  readonly lines: readonly string[];
  /** Bytes from the start of the file. */
  readonly next: number;
}

/** Reads the lines of `events.jsonl` that begin at byte `after` or later: at most 1 MiB of them. */
export function readLog(runDirectory: string, after: number): LogPart {
  let file: number;
  try {
    file = openSync(join(runDirectory, 'events.jsonl'), 'r');
  } catch {
    // A run that has not begun has said nothing yet.
    return { lines: [], next: after };
  }
  try {
    const left = fstatSync(file).size - after;
    if (left <= 0) return { lines: [], next: after };
    const bytes = Buffer.alloc(Math.min(left, MAX_READ_BYTES));
    const read = readSync(file, bytes, 0, bytes.length, after);
    // The last line may not be whole yet.
    const end = bytes.subarray(0, read).lastIndexOf('\n') + 1;
    if (end === 0) return { lines: [], next: after };
    return { lines: bytes.toString('utf8', 0, end - 1).split('\n'), next: after + end };
  } finally {
    closeSync(file);
  }
}
