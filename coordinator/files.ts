import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Writes a file so that a reader, or a crash, sees the old contents or the new, never half: temporary name,
 * fsync, rename, fsync of the folder.
 * @param mode permissions of the file, from its first byte on
 */
export function writeFileAtomic(path: string, contents: string | Uint8Array, mode = 0o666): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const bytes = typeof contents === 'string' ? Buffer.from(contents) : contents;
    const file = openSync(temporary, 'w', mode);
    try {
      for (let written = 0; written < bytes.byteLength;) {
        written += writeSync(file, bytes, written);
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
