import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { AtelierError } from '../shared/errors.js';
import {
  EXCHANGE_FOLDER,
  EXCHANGE_ROOT,
  ExchangeOwner,
  gradientsFile,
  isExchangeFolder,
  ownerFile,
  roundFile,
  weightsFile,
  type ExchangeHost,
  type ExchangeOffer,
  type LeftGradients,
} from '../shared/exchange.js';
import { nativeMemory } from '../shared/native-memory.js';
import { bytesOf } from '../shared/protocol/frame.js';
import { hasPagesOfItsOwn } from '../shared/vector/memory.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
const PRIVATE = 0o600;

/** Open files of a trial. */
interface LeftFiles {
  readonly weights: number;
  readonly round: number;
  /** What the first of them is mapped over. */
  mapped: Float32Array | null;
}

/** A folder in memory that only this user's processes can open (shared/exchange.ts says what for). */
export class Exchange implements ExchangeHost {
  readonly offer: ExchangeOffer;
  private readonly left = new Map<string, LeftFiles>();
  private readonly roundNumber = new Int32Array(1);

  private constructor(offer: ExchangeOffer) {
    this.offer = offer;
    process.on('exit', this.remove);
  }

  /** Null where there is no file system in memory, or no room in it: then everything is sent. */
  static open(): Exchange | null {
    try {
      sweep();
      const folder = mkdtempSync(EXCHANGE_FOLDER);
      const secret = randomBytes(32).toString('hex');
      const owner = { host: hostname(), pid: process.pid, secret } satisfies ExchangeOwner;
      writeFileSync(ownerFile(folder), JSON.stringify(owner), { mode: PRIVATE });
      return new Exchange({ folder, secret });
    } catch {
      return null;
    }
  }

  leaveWeights(run: number, trial: number, round: number, weights: Float32Array): boolean {
    try {
      const files = this.filesOf(run, trial);
      this.roundNumber[0] = round;
      if (files.mapped !== weights && !putWeights(files, weights)) return false;
      return writeAll(files.round, bytesOf(this.roundNumber));
    } catch {
      return false;
    }
  }

  private filesOf(run: number, trial: number): LeftFiles {
    const key = `${run}-${trial}`;
    let files = this.left.get(key);
    if (files === undefined) {
      const { folder } = this.offer;
      const [weights, round] = [weightsFile(folder, run, trial), roundFile(folder, run, trial)].map((path) =>
        openSync(path, O_RDWR | O_CREAT | O_EXCL, PRIVATE),
      ) as [number, number];
      files = { weights, round, mapped: null };
      this.left.set(key, files);
    }
    return files;
  }

  gradientsOf({ worker, epoch }: { readonly worker: number; readonly epoch: number }): LeftGradients {
    const path = gradientsFile(this.offer.folder, worker, epoch);
    const file = openGradients(path);
    let isClosed = false;
    return {
      get isClosed() {
        return isClosed;
      },
      mapOver: (offset, values) => {
        try {
          nativeMemory?.mapOver(values, file, offset);
          return nativeMemory !== null;
        } catch {
          // Where nothing lies there, reading it says so.
          return false;
        }
      },
      unmap: (values) => nativeMemory?.mapOver(values, -1, 0),
      read: (offset, target) => {
        if (readSync(file, target, 0, target.byteLength, offset) !== target.byteLength) {
          throw new AtelierError('protocol', 'no gradient lies where the answer says');
        }
      },
      close: () => {
        isClosed = true;
        closeSync(file);
        rmSync(path, { force: true });
      },
    };
  }

  forget(run: number): void {
    const { folder } = this.offer;
    for (const [key, files] of this.left) {
      const [ofRun, trial] = key.split('-').map(Number);
      if (ofRun !== run || trial === undefined) continue;
      this.left.delete(key);
      closeFiles(files);
      for (const path of [weightsFile(folder, run, trial), roundFile(folder, run, trial)])
        rmSync(path, { force: true });
    }
  }

  /** Removes the folder. */
  close(): void {
    this.left.forEach(closeFiles);
    this.left.clear();
    process.off('exit', this.remove);
    this.remove();
  }

  private readonly remove = (): void => rmSync(this.offer.folder, { recursive: true, force: true });
}

function closeFiles({ weights, round }: LeftFiles): void {
  closeSync(weights);
  closeSync(round);
}

/**
 * Other parameters than last time, or those that were written: if they have pages of their own the file is these from now on, and has
 * every change without being written again.
 * @returns false when the file system is full
 */
function putWeights(files: LeftFiles, weights: Float32Array): boolean {
  const { mapped } = files;
  if (mapped !== null) {
    // Not to be written over with the others.
    const values = mapped.slice();
    nativeMemory?.mapOver(mapped, -1, 0);
    mapped.set(values);
    files.mapped = null;
  }
  // What is mapped has its pages by then: where there are none left, whoever writes there is killed.
  if (!writeAll(files.weights, bytesOf(weights))) return false;
  if (nativeMemory === null || !hasPagesOfItsOwn(weights)) return true;
  nativeMemory.mapOver(weights, files.weights, 0);
  files.mapped = weights;
  return true;
}

/** From the beginning of the file. @returns false when the file system is full */
const writeAll = (file: number, bytes: Uint8Array): boolean =>
  writeSync(file, bytes, 0, bytes.byteLength, 0) === bytes.byteLength;

/** @throws AtelierError `protocol` when it is no plain file */
function openGradients(path: string): number {
  try {
    const file = openSync(path, O_RDWR | O_NOFOLLOW);
    if (fstatSync(file).isFile()) return file;
    closeSync(file);
  } catch (cause) {
    throw new AtelierError('protocol', 'the worker has left no file for its gradients', { cause });
  }
  throw new AtelierError('protocol', 'what the worker has left for its gradients is no file');
}

/** Removes the folders of this host's coordinators that were killed. */
function sweep(): void {
  for (const name of readdirSync(EXCHANGE_ROOT).filter(isExchangeFolder)) {
    const folder = join(EXCHANGE_ROOT, name);
    try {
      const owner = ExchangeOwner.parse(JSON.parse(readFileSync(ownerFile(folder), 'utf8')));
      if (owner.host === hostname() && !isAlive(owner.pid)) rmSync(folder, { recursive: true, force: true });
    } catch {
      // Somebody else's, or half made.
    }
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
