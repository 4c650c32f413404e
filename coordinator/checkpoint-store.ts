import { mkdirSync, readdirSync } from 'node:fs';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { AtelierError, messageOf } from '../shared/errors.js';
import type { TrialState } from './trial.js';
import { decodeCheckpoint, encodeCheckpoint, sha256Of, type Checkpoint } from './checkpoint.js';

/** Files are `<rounds done, 10 digits>.checkpoint`; the best is kept as `best.checkpoint` besides. */
const NAME = /^\d{10}\.checkpoint$/;
const BEST = 'best.checkpoint';

/** What writing a checkpoint took. */
export interface WrittenCheckpoint {
  readonly file: string;
  readonly bytes: number;
  readonly milliseconds: number;
}

/** A checkpoint that was found, and those newer that were not usable. */
export interface Found {
  readonly checkpoint: Checkpoint;
  readonly file: string;
}

/**
 * The checkpoints of one trial in one folder. Writing goes on beside the training and never holds it up: while
 * one is being written, only the newest asked for is kept waiting.
 */
export class CheckpointStore {
  private readonly folder: string;
  private readonly keep: number;
  private waiting: { number: number; checkpoint: Checkpoint; best: boolean } | undefined;
  private writing: Promise<void> | undefined;
  private files: string[];

  /** @param keep the newest so many stay */
  constructor(folder: string, keep: number) {
    this.folder = folder;
    this.keep = keep;
    this.files = list(folder);
  }

  /**
   * Writes a checkpoint in the background.
   * @param number rises with the trial's progress; the name of the file
   * @param best keep a copy as the best so far
   * @param onError called when it could not be written; the files before it are untouched
   */
  write(
    number: number,
    checkpoint: Checkpoint,
    {
      best,
      onWritten,
      onError,
    }: {
      best: boolean;
      onWritten: (written: WrittenCheckpoint) => void;
      onError: (cause: unknown) => void;
    },
  ): void {
    this.waiting = { number, checkpoint, best: best || (this.waiting?.best ?? false) };
    if (this.writing !== undefined) return;
    this.writing = this.drain(onWritten, onError).finally(() => (this.writing = undefined));
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    while (this.writing !== undefined) await this.writing;
  }

  private async drain(
    onWritten: (written: WrittenCheckpoint) => void,
    onError: (cause: unknown) => void,
  ): Promise<void> {
    while (this.waiting !== undefined) {
      const { number, checkpoint, best } = this.waiting;
      this.waiting = undefined;
      try {
        onWritten(await this.writeOne(number, checkpoint, best));
      } catch (cause) {
        onError(cause);
      }
    }
  }

  private async writeOne(number: number, checkpoint: Checkpoint, best: boolean): Promise<WrittenCheckpoint> {
    const startedAt = performance.now();
    mkdirSync(this.folder, { recursive: true });
    const name = `${String(number).padStart(10, '0')}.checkpoint`;
    const bytes = encodeCheckpoint(checkpoint);
    const hash = await sha256Of(
      new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength),
    );
    await this.put(name, [bytes, hash]);
    if (best) await this.put(BEST, [bytes, hash]);
    this.files = [...this.files.filter((file) => file !== name), name].sort();
    while (this.files.length > this.keep) {
      const oldest = this.files.shift();
      if (oldest !== undefined) await rm(join(this.folder, oldest), { force: true });
    }
    const milliseconds = performance.now() - startedAt;
    return { file: name, bytes: bytes.byteLength + hash.byteLength, milliseconds };
  }

  /** Temporary name, fsync, rename, fsync of the folder: the file is there whole or not at all. */
  private async put(name: string, parts: readonly Uint8Array[]): Promise<void> {
    const path = join(this.folder, name);
    const temporary = `${path}.${process.pid}.tmp`;
    try {
      const file = await open(temporary, 'w');
      try {
        for (const part of parts) await file.writeFile(part);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    const folder = await open(this.folder, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }

  /** Removes what a killed coordinator left half-written. Only for who holds the run's lock. */
  async removeLeftovers(): Promise<void> {
    for (const name of namesIn(this.folder)) {
      if (name.endsWith('.tmp')) await rm(join(this.folder, name), { force: true });
    }
  }

  /**
   * The newest usable checkpoint of a run with this identity.
   * @param onDamaged called for each newer file that is not whole
   * @param fits further condition
   * @throws AtelierError `refused` when a checkpoint is one of another config, model or dataset
   */
  async newest(
    identity: string,
    onDamaged: (file: string, why: string) => void,
    fits: (state: TrialState) => boolean = () => true,
  ): Promise<Found | undefined> {
    for (const name of this.files.toReversed()) {
      const file = join(this.folder, name);
      let checkpoint: Checkpoint;
      try {
        checkpoint = await decodeCheckpoint(new Uint8Array(await readFile(file)));
      } catch (cause) {
        onDamaged(file, messageOf(cause));
        continue;
      }
      if (checkpoint.identity !== identity) {
        throw new AtelierError('refused', `${file} belongs to another config, model or dataset`);
      }
      if (fits(checkpoint.state)) return { checkpoint, file };
    }
    return undefined;
  }
}

const list = (folder: string): string[] => namesIn(folder).filter((name) => NAME.test(name));

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
