import { nativeMemory } from '../shared/native-memory.js';

/** So many paths are remembered. The system forgets a file that is gone by itself. */
const MAX_REMEMBERED = 64;

/** Waits for writes to files, whichever process makes them. One for each thread: the system counts a user's. */
export class WriteWatch {
  /** -1: there is none yet. */
  private watch = -1;
  /** That are watched; to watch one again changes nothing. */
  private readonly paths = new Set<string>();

  /** @returns false when the file is gone or the user has no more watches: then nothing ends a wait but time */
  add(path: string): boolean {
    if (this.paths.has(path)) return true;
    if (nativeMemory === null) return false;
    try {
      this.watch = nativeMemory.watchFile(this.watch, path);
    } catch {
      return false;
    }
    if (this.paths.size === MAX_REMEMBERED) this.paths.clear();
    this.paths.add(path);
    return true;
  }

  /** Blocks this thread until one of the files is written to, or has been since the last wait; at most so many milliseconds. */
  wait(milliseconds: number): void {
    nativeMemory?.awaitWrite(this.watch, Math.ceil(milliseconds));
  }
}
