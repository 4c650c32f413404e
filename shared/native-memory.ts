import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** What Node cannot do with memory and files: the functions of setup/memory-addon.cc. Each throws an Error that says what is wrong. */
export interface NativeMemory {
  /** A part of an open file as memory, until it is garbage. Writing to one that is not writable crashes. */
  mapFile(file: number, offset: number, bytes: number, writable: boolean): ArrayBuffer;
  /**
   * From now on these values are those in the file, for everybody who has it open; with file -1 they are zeros of this process again.
   * @param values of `VectorMemory.pages`: all of their last page is mapped
   * @param offset bytes, a multiple of the page size
   */
  mapOver(values: Float32Array, file: number, offset: number): void;
  /** Adds a file to a watch, or with -1 to a new one, which lasts as long as the thread; returns the watch. */
  watchFile(watch: number, path: string): number;
  /** Blocks until one of a watch's files is written to, or has been since the last time, or so many milliseconds have passed. */
  awaitWrite(watch: number, milliseconds: number): void;
  /** Copies rows of `target.length / rows.length` bytes. */
  gatherRows(source: Uint8Array, rows: Uint32Array, target: Uint8Array): void;
}

const require = createRequire(import.meta.url);

/** Null where set-up has compiled nothing: tfjs-node's addon is npm's. */
export const nativeMemory: NativeMemory | null = load();

function load(): NativeMemory | null {
  const tensorflow = dirname(require.resolve('@tensorflow/tfjs-node/package.json'));
  const addon = join(tensorflow, 'deps', 'lib', 'atelier_memory.node');
  return existsSync(addon) ? (require(addon) as NativeMemory) : null;
}

/** `target.set(source)`, of as many bytes; fast also in memory that threads share, which V8 copies byte by byte. */
export function copyBytes(target: Uint8Array, source: Uint8Array): void {
  const isShared = [target, source].some(({ buffer }) => buffer instanceof SharedArrayBuffer);
  if (isShared && nativeMemory !== null) nativeMemory.gatherRows(source, Uint32Array.of(0), target);
  else target.set(source);
}
