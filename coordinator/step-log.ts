import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { AtelierError } from '../shared/errors.js';

const BYTES = Float64Array.BYTES_PER_ELEMENT;

/**
 * The loss sum of every training step of a trial, as little-endian float64, step after step. It is exact, and any
 * other bit in the weights before a step shows in it: so it says at which step two trainings part.
 */
export class StepLog {
  private readonly path: string;
  private pending: number[] = [];
  private written: number;

  /** @param steps steps that the trial has done: what the file has beyond them is cut off */
  constructor(path: string, steps: number) {
    this.path = path;
    this.written = steps;
    if (steps === 0) return;
    if (!existsSync(path)) throw new AtelierError('data', `${path} is missing: the run directory is damaged`);
    const file = openSync(path, 'r+');
    try {
      const { size } = fstatSync(file);
      if (size < steps * BYTES) {
        throw new AtelierError(
          'data',
          `${path} has ${Math.floor(size / BYTES)} of ${steps} steps: it is damaged`,
        );
      }
      ftruncateSync(file, steps * BYTES);
    } finally {
      closeSync(file);
    }
  }

  add(lossSum: number): void {
    this.pending.push(lossSum);
  }

  /** Appends what has been added. Throws what the file system throws; nothing is lost then. */
  flush(): void {
    if (this.pending.length === 0) return;
    const bytes = new Uint8Array(Float64Array.from(this.pending).buffer);
    const file = openSync(this.path, this.written === 0 ? 'w' : 'r+');
    try {
      for (let done = 0; done < bytes.byteLength;) {
        done += writeSync(file, bytes, done, bytes.byteLength - done, this.written * BYTES + done);
      }
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    this.written += this.pending.length;
    this.pending = [];
  }

  /** The loss sums of a file; empty when there is none. */
  static read(path: string): Float64Array {
    try {
      const bytes = readFileSync(path);
      return new Float64Array(
        Uint8Array.from(bytes.subarray(0, bytes.byteLength - (bytes.byteLength % BYTES))).buffer,
      );
    } catch {
      return new Float64Array(0);
    }
  }
}
