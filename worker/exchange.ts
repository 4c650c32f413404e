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
  bellFile,
  ExchangeOwner,
  gradientsFile,
  ownerFile,
  roundFile,
  weightsFile,
  type Arrivals,
  type ExchangeGuest,
  type ExchangeOffer,
  type ExchangePlaces,
  type FilePlace,
} from '../shared/exchange.js';
import { AtelierError } from '../shared/errors.js';
import { Places } from './places.js';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
const PRIVATE = 0o600;
/** The most that a worker leaves at a time; what goes beyond is sent. */
const MAX_LEFT_BYTES = 1024 ** 3;
/** A multiple of every page size: where maps may begin. */
const PAGE_BYTES = 64 * 1024;

/** A coordinator's folder in memory, seen by a worker of the same host (shared/exchange.ts). */
export class SharedFolder implements ExchangeGuest, ExchangePlaces {
  readonly places = this;
  private readonly folder: string;
  private readonly gradientsPath: string;
  private readonly gradients: number;
  private readonly bellPath: string;
  private readonly bell: number;
  private readonly weights = new Map<string, number>();
  private isClosed = false;
  private readonly taken = new Places(MAX_LEFT_BYTES);
  /** The gradients' file has pages up to here. */
  private filled = 0;

  private constructor(folder: string, worker: number, epoch: number) {
    this.folder = folder;
    this.gradientsPath = gradientsFile(folder, worker, epoch);
    this.bellPath = bellFile(folder, worker, epoch);
    const [gradients, bell] = [this.gradientsPath, this.bellPath].map((path) =>
      openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, PRIVATE),
    ) as [number, number];
    this.gradients = gradients;
    this.bell = bell;
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
      return new SharedFolder(folder, worker, epoch);
    } catch {
      return null;
    }
  }

  readWeights(run: number, trial: number, target: Uint8Array): boolean {
    if (this.isClosed) return false;
    const file = this.weightsOf(run, trial);
    if (file === undefined) return false;
    if (readSync(file, target, 0, target.byteLength, 0) !== target.byteLength) {
      throw tooFew();
    }
    return true;
  }

  leaveGradient(values: Uint8Array): number | null {
    // A slot may end its work after the connection has ended.
    if (this.isClosed) return null;
    const offset = this.take(values.byteLength);
    if (offset === null || this.write(values, offset)) return offset;
    this.free(offset);
    return null;
  }

  weightsAt(run: number, trial: number, bytes: number): FilePlace | undefined {
    const file = this.isClosed ? undefined : this.weightsOf(run, trial);
    if (file === undefined) return undefined;
    if (fstatSync(file).size < bytes) throw tooFew();
    return { path: weightsFile(this.folder, run, trial), offset: 0, bytes };
  }

  arrivals(run: number, trial: number): Arrivals | undefined {
    if (this.isClosed || this.weightsOf(run, trial) === undefined) return undefined;
    const path = roundFile(this.folder, run, trial);
    return { round: { path, offset: 0, bytes: Int32Array.BYTES_PER_ELEMENT }, bell: this.bellPath };
  }

  ring(): void {
    if (!this.isClosed) writeSync(this.bell, Uint8Array.of(1), 0, 1, 0);
  }

  takePlace(bytes: number): FilePlace | null {
    if (this.isClosed) return null;
    const offset = this.take(bytes);
    if (offset === null) return null;
    const end = offset + bytes;
    // What is mapped has to have its pages: where there are none left, whoever writes there is killed.
    if (end <= this.filled || this.write(new Uint8Array(end - this.filled), this.filled)) {
      this.filled = Math.max(this.filled, end);
      return { path: this.gradientsPath, offset, bytes };
    }
    this.free(offset);
    return null;
  }

  free(offset: number): void {
    this.taken.free(offset);
  }

  private take(bytes: number): number | null {
    return this.taken.take(Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES);
  }

  /** @returns false when the file system is full */
  private write(values: Uint8Array, offset: number): boolean {
    try {
      return writeSync(this.gradients, values, 0, values.byteLength, offset) === values.byteLength;
    } catch {
      return false;
    }
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
    for (const file of [this.gradients, this.bell]) closeSync(file);
    for (const path of [this.gradientsPath, this.bellPath]) rmSync(path, { force: true });
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

const tooFew = (): AtelierError =>
  new AtelierError('protocol', 'the coordinator has left fewer parameters than there are');
