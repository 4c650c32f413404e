import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { AtelierError, messageOf } from '../shared/errors.js';

const LOCK = 'lock';

/** Keeps other processes of this machine from writing to the same folder. */
export class FolderLock {
  private readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * The lock of a process that is gone is taken over.
   * @throws AtelierError `usage` when a process holds it
   */
  static take(folder: string): FolderLock {
    const path = join(folder, LOCK);
    for (let attempt = 0; attempt < 2; attempt++) {
      try {
        const file = openSync(path, 'wx');
        writeSync(file, JSON.stringify({ pid: process.pid, host: hostname() }));
        closeSync(file);
        return new FolderLock(path);
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
          throw new AtelierError('usage', `cannot write to ${folder}: ${messageOf(cause)}`, { cause });
        }
      }
      const owner = readOwner(path);
      if (owner !== undefined && (owner.host !== hostname() || isAlive(owner.pid))) {
        throw new AtelierError(
          'usage',
          `${folder} is in use by process ${owner.pid} on ${owner.host}. If that is gone, remove ${path}`,
        );
      }
      rmSync(path, { force: true });
    }
    throw new AtelierError('usage', `${folder} is in use by another process`);
  }

  release(): void {
    rmSync(this.path, { force: true });
  }
}

function readOwner(path: string): { pid: number; host: string } | undefined {
  try {
    const owner = JSON.parse(readFileSync(path, 'utf8')) as { pid: number; host: string };
    return Number.isInteger(owner.pid) ? owner : undefined;
  } catch {
    // Its owner died before it had written it.
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return pid !== process.pid;
  } catch {
    return false;
  }
}
