import type { Found } from '../../coordinator/checkpoint-store.js';
import type { Checkpoint } from '../../coordinator/checkpoint.js';
import type { ResumableJournal } from '../../coordinator/resumption.js';
import type { RunEvent } from '../../coordinator/run-directory.js';
import type { RunJournal } from '../../coordinator/run.js';
import type { EpochRecord } from '../../shared/summary.js';
import type { RandomStream } from '../../shared/rng.js';
import type { ProcessClock } from './sim-clock.js';

const MAX_WRITE_MS = 20;

interface Line {
  readonly trial: number;
  readonly record: EpochRecord;
}

/** A run directory in memory that outlives the simulated coordinator. Checkpoints take their time to be there. */
export class MemoryJournal implements RunJournal, ResumableJournal {
  readonly path = 'memory';
  readonly events: RunEvent[] = [];
  metrics: Line[] = [];
  /** Loss sums of each trial's steps. */
  readonly steps = new Map<number | null, number[]>();
  private manifest: Record<string, unknown> = {};
  private readonly files = new Map<
    number | null,
    { number: number; checkpoint: Checkpoint; damaged: boolean }[]
  >();
  private clock: ProcessClock;
  private readonly random: RandomStream;

  constructor(clock: ProcessClock, random: RandomStream) {
    this.clock = clock;
    this.random = random;
  }

  /** The coordinator was started again. */
  ownedBy(clock: ProcessClock): void {
    this.clock = clock;
  }

  appendEvent(_time: number, event: RunEvent): void {
    this.events.push(event);
  }

  appendEpoch(trial: number, _fold: number | null, record: EpochRecord): void {
    this.metrics.push({ trial, record });
  }

  rewriteEpochs(trials: readonly { trial: number; records: readonly EpochRecord[] }[]): void {
    this.metrics = trials.flatMap(({ trial, records }) => records.map((record) => ({ trial, record })));
  }

  readManifest(): Readonly<Record<string, unknown>> {
    return this.manifest;
  }

  amendManifest(fields: Readonly<Record<string, unknown>>): void {
    this.manifest = { ...this.manifest, ...fields };
  }

  stepLog(fold: number | null, stepsDone: number): ReturnType<RunJournal['stepLog']> {
    const written = (this.steps.get(fold) ?? []).slice(0, stepsDone);
    this.steps.set(fold, written);
    let pending: number[] = [];
    return {
      add: (lossSum) => pending.push(lossSum),
      flush: () => {
        written.push(...pending);
        pending = [];
      },
    };
  }

  checkpoints(
    fold: number | null,
    keep: number,
  ): ReturnType<RunJournal['checkpoints']> & ReturnType<ResumableJournal['checkpoints']> {
    const files = this.files.get(fold) ?? [];
    this.files.set(fold, files);
    let writing = 0;
    let wake: () => void = () => undefined;
    return {
      write: (number, checkpoint, { onWritten }) => {
        writing++;
        this.clock.after(this.random.uniform() * MAX_WRITE_MS, () => {
          files.push({ number, checkpoint, damaged: false });
          files.sort((a, b) => a.number - b.number);
          while (files.length > keep) files.shift();
          if (--writing === 0) wake();
          onWritten(String(number));
        });
      },
      settled: () => (writing === 0 ? Promise.resolve() : new Promise((resolve) => (wake = resolve))),
      newest: (identity, onDamaged): Promise<Found | undefined> => {
        for (const { number, checkpoint, damaged } of files.toReversed()) {
          if (damaged) onDamaged(String(number), 'bits have flipped');
          else if (checkpoint.identity !== identity) return Promise.reject(new Error('another identity'));
          else return Promise.resolve({ checkpoint, file: String(number) });
        }
        return Promise.resolve(undefined);
      },
    };
  }

  /** Bits flip in the newest checkpoint of every trial. */
  damageNewest(): void {
    for (const files of this.files.values()) {
      const newest = files.at(-1);
      if (newest !== undefined) newest.damaged = true;
    }
  }
}
