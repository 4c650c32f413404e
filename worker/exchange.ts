import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import {
  ExchangeOwner,
  gradientsFile,
  ownerFile,
  weightsFile,
  type ExchangeGuest,
  type ExchangeOffer,
} from '../shared/exchange.js';
import { AtelierError } from '../shared/errors.js';
import { Places } from './places.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
const PRIVATE = 0o600;
/** The most that a worker leaves at a time; what goes beyond is sent. */
const MAX_LEFT_BYTES = 1024 ** 3;

/** A coordinator's folder in memory, seen by a worker of the same host (shared/exchange.ts). */
export class SharedFolder implements ExchangeGuest {
  private readonly folder: string;
  private readonly gradientsPath: string;
  private readonly gradients: number;
  private readonly weights = new Map<string, number>();
  private isClosed = false;
  private readonly places = new Places(MAX_LEFT_BYTES);

  private constructor(folder: string, gradientsPath: string) {
    this.folder = folder;
    this.gradientsPath = gradientsPath;
    this.gradients = openSync(gradientsPath, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, PRIVATE);
  }

  /** Null when the folder is not here, or not this user's alone: then everything is sent. */
  static open(
    { folder, secret }: ExchangeOffer,
    { worker, epoch }: { readonly worker: number; readonly epoch: number },
  ): SharedFolder | null {
    try {
      const found = lstatSync(folder);
      if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o077) !== 0) return null;
      const owner = ExchangeOwner.parse(JSON.parse(readFileSync(ownerFile(folder), 'utf8')));
      if (owner.secret !== secret) return null;
      return new SharedFolder(folder, gradientsFile(folder, worker, epoch));
    } catch {
      return null;
    }
  }

  readWeights(run: number, trial: number, target: Uint8Array): boolean {
    if (this.isClosed) return false;
    const file = this.weightsOf(run, trial);
    if (file === undefined) return false;
    if (readSync(file, target, 0, target.byteLength, 0) !== target.byteLength) {
      throw new AtelierError('protocol', 'the coordinator has left fewer parameters than there are');
    }
    return true;
  }

  leaveGradient(values: Uint8Array): number | null {
    // A slot may end its work after the connection has ended.
    if (this.isClosed) return null;
    const offset = this.places.take(values.byteLength);
    if (offset === null) return null;
    try {
      if (writeSync(this.gradients, values, 0, values.byteLength, offset) === values.byteLength)
        return offset;
    } catch {
      // The file system is full.
    }
    this.places.free(offset);
    return null;
  }

  free(offset: number): void {
    this.places.free(offset);
  }

  forget(run: number): void {
    for (const [key, file] of this.weights) {
      if (!key.startsWith(`${run}-`)) continue;
      closeSync(file);
      this.weights.delete(key);
    }
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    for (const file of this.weights.values()) closeSync(file);
    this.weights.clear();
    closeSync(this.gradients);
    rmSync(this.gradientsPath, { force: true });
  }

  private weightsOf(run: number, trial: number): number | undefined {
    const key = `${run}-${trial}`;
    let file = this.weights.get(key);
    if (file !== undefined) return file;
    try {
      file = openSync(weightsFile(this.folder, run, trial), O_RDONLY | O_NOFOLLOW);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    if (!fstatSync(file).isFile()) {
      closeSync(file);
      throw new AtelierError('protocol', 'what the coordinator has left is no file');
    }
    this.weights.set(key, file);
    return file;
  }
}
