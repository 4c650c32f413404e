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
  weightsFile,
  type ExchangeHost,
  type ExchangeOffer,
  type LeftGradients,
} from '../shared/exchange.js';
import { bytesOf } from '../shared/protocol/frame.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
const PRIVATE = 0o600;

/** A folder in memory that only this user's processes can open (shared/exchange.ts says what for). */
export class Exchange implements ExchangeHost {
  readonly offer: ExchangeOffer;
  private readonly weights = new Map<string, number>();

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

  leaveWeights(run: number, trial: number, weights: Float32Array): boolean {
    const key = `${run}-${trial}`;
    try {
      let file = this.weights.get(key);
      if (file === undefined) {
        file = openSync(weightsFile(this.offer.folder, run, trial), O_RDWR | O_CREAT | O_EXCL, PRIVATE);
        this.weights.set(key, file);
      }
      return writeSync(file, bytesOf(weights), 0, weights.byteLength, 0) === weights.byteLength;
    } catch {
      return false;
    }
  }

  gradientsOf({ worker, epoch }: { readonly worker: number; readonly epoch: number }): LeftGradients {
    const path = gradientsFile(this.offer.folder, worker, epoch);
    const file = openGradients(path);
    return {
      read: (offset, target) => {
        if (readSync(file, target, 0, target.byteLength, offset) !== target.byteLength) {
          throw new AtelierError('protocol', 'no gradient lies where the answer says');
        }
      },
      close: () => {
        closeSync(file);
        rmSync(path, { force: true });
      },
    };
  }

  forget(run: number): void {
    for (const [key, file] of this.weights) {
      const [ofRun, trial] = key.split('-').map(Number);
      if (ofRun !== run || trial === undefined) continue;
      closeSync(file);
      this.weights.delete(key);
      rmSync(weightsFile(this.offer.folder, run, trial), { force: true });
    }
  }

  /** Removes the folder. */
  close(): void {
    for (const file of this.weights.values()) closeSync(file);
    this.weights.clear();
    process.off('exit', this.remove);
    this.remove();
  }

  private readonly remove = (): void => rmSync(this.offer.folder, { recursive: true, force: true });
}

/** @throws AtelierError `protocol` when it is no plain file */
function openGradients(path: string): number {
  try {
    const file = openSync(path, O_RDONLY | O_NOFOLLOW);
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
