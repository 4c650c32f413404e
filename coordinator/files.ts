import { closeSync, fchownSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** A user and a group, by number. */
export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Writes a file so that a reader, or a crash, sees the old contents or the new, never half: temporary name,
 * fsync, rename, fsync of the folder.
 * @param mode permissions of the file, from its first byte on
 * @param owner whose it is to be, which root alone may say; null: ours
 */
export function writeFileAtomic(
  path: string,
  contents: string | Uint8Array,
  mode = 0o666,
  owner: Owner | null = null,
): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const bytes = typeof contents === 'string' ? Buffer.from(contents) : contents;
    rmSync(temporary, { force: true });
    // Not through a link that somebody else has put there.
    const file = openSync(temporary, 'wx', mode);
    try {
      if (owner !== null) fchownSync(file, owner.uid, owner.gid);
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
