import type { FilePlace } from '../../shared/exchange.js';
import { RunSpec } from '../../shared/protocol/messages.js';
import { wireOf } from '../../shared/wire.js';
import type { RunMemory } from '../../worker/slot.js';
import { gradientOfNode, type GradientOf } from '../../worker/micro-batch.js';
import type { Compute, ExpectedParameters } from '../../worker/compute-pool.js';
import { valuesAt, type MemoryArrivals } from './memory-exchange.js';
import type { Chance, SimProcess } from './world.js';

/*
 * What slots compute in a simulation: no gradient, but numbers that depend on every bit of the weights, on every row
 * and its contents, and on the address that random layers draw from. They are exact float32 values of very different
 * magnitudes, so that adding them in another order gives another sum.
 */

/** FNV-1a over words, then mixed (the finalizer of MurmurHash3). */
function hashOf(words: ArrayLike<number>, start: number): number {
  let h = start;
  for (let i = 0; i < words.length; i++) h = Math.imul(h ^ (words[i] as number), 0x01000193);
  return mix(h);
}

function mix(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** An integer of up to 20 bits times a power of two from 2^-12 to 2^11: exact in float32. */
const number = (hash: number): number => ((hash & 0xfffff) - 0x80000) * 2 ** ((hash >>> 27) - 12 - 8);

/** Where rows are read: images of a few bytes, one label each. */
export interface ToyRows {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  readonly imageBytes: number;
  readonly classes: number;
}

const bitsOf = (weights: Float32Array): Uint32Array =>
  new Uint32Array(weights.buffer, weights.byteOffset, weights.length);

function hashOfRow(row: number, { images, labels, imageBytes }: ToyRows, start: number): number {
  const pixels = images.subarray(row * imageBytes, (row + 1) * imageBytes);
  return hashOf(pixels, hashOf([row, labels[row] as number], start));
}

/** Sums over the rows go to `out`. */
export function toyGradient(
  weights: Float32Array,
  rows: Uint32Array,
  seed: Int32Array,
  data: ToyRows,
  out: Float32Array,
): { lossSum: number; correct: number } {
  const start = hashOf(seed, hashOf(bitsOf(weights), 1));
  out.fill(0);
  let lossSum = 0;
  let correct = 0;
  for (const row of rows) {
    let hash = hashOfRow(row, data, start);
    lossSum += hash / 3e8;
    correct += hash & 1;
    for (let i = 0; i < out.length; i++) {
      hash = mix(hash + 0x9e3779b9);
      out[i] = (out[i] as number) + number(hash);
    }
  }
  return { lossSum, correct };
}

export function toyEvaluation(
  weights: Float32Array,
  rows: Uint32Array,
  data: ToyRows,
): { lossSum: number; confusion: Uint32Array } {
  const start = hashOf(bitsOf(weights), 2);
  const confusion = new Uint32Array(data.classes ** 2);
  let lossSum = 0;
  for (const row of rows) {
    const hash = hashOfRow(row, data, start);
    lossSum += hash / 3e8;
    const cell = (data.labels[row] as number) * data.classes + (hash % data.classes);
    confusion[cell] = (confusion[cell] ?? 0) + 1;
  }
  return { lossSum, confusion };
}

export interface ToyPoolOptions {
  readonly owner: SimProcess;
  readonly chance: Chance;
  readonly slots: number;
  /** Simulated time of one task on an idle slot. */
  readonly taskMs: number;
  readonly imageBytes: number;
  readonly classes: number;
}

const specs = new WeakMap<SharedArrayBuffer, RunSpec>();

function specOf({ spec: text }: RunMemory): RunSpec {
  const spec =
    specs.get(text) ?? RunSpec.parse(JSON.parse(Buffer.from(new Uint8Array(text)).toString('utf8')));
  specs.set(text, spec);
  return spec;
}

const floatsOf = (values: SharedArrayBuffer | FilePlace): Float32Array =>
  values instanceof SharedArrayBuffer ? new Float32Array(values) : valuesAt(values);

const whenThere = ({ arrivals, round }: ExpectedParameters, action: () => void): void =>
  (arrivals as MemoryArrivals).whenThere(round, action);

/** Everyone's fingerprint. */
const FINGERPRINT = 'f'.repeat(64);

type GradientTask = Parameters<Compute['gradient']>[0];
type GradientResult = Awaited<ReturnType<Compute['gradient']>>;
/** Begins a task, and returns what ends it. */
type ToyTask<Result> = (computeMs: number) => () => Result;

/** The slots of a simulated worker: tasks wait in a queue and take simulated time. */
export class ToyPool implements Compute {
  private readonly options: ToyPoolOptions;
  private readonly queue: (() => void)[] = [];
  /** What drops each task on standby. */
  private readonly standing = new Set<() => void>();
  readonly slots: number;
  /** Both kinds are simulated. */
  readonly mapsFiles: boolean;
  private idle: number;
  /** The next task fails. */
  isBroken = false;

  constructor(options: ToyPoolOptions) {
    this.options = options;
    this.slots = options.slots;
    this.mapsFiles = options.slots % 2 === 1;
    this.idle = options.slots;
  }

  gradient: Compute['gradient'] = (task) => this.run(this.gradientOf(task));

  private gradientOf({ run, weights, batches, out: target }: GradientTask): ToyTask<GradientResult> {
    return (computeMs) => {
      const data = this.rowsOf(run);
      const values = floatsOf(weights.values);
      const out = new Float32Array(specOf(run).layout.size);
      const gradientOf: GradientOf = ({ rows, seed }, into) => toyGradient(values, rows, seed, data, into);
      const scratch = (): Float32Array => new Float32Array(out.length);
      const figures = gradientOfNode(batches, out, gradientOf, scratch, wireOf(specOf(run).wire));
      return () => {
        (target instanceof Float32Array ? target : valuesAt(target)).set(out);
        return { ...figures, computeMs, fallback: null, retries: 0, slot: 0, endedAt: 0 };
      };
    };
  }

  standBy: Compute['standBy'] = (tasks, expected) => {
    if (this.standing.size + tasks.length > this.slots) return null;
    const lying = tasks.map((task) => this.layReady(task, expected));
    return {
      begin: () => lying.map(({ begin }) => begin()),
      drop: async () => {
        for (const { drop } of lying) drop();
        await Promise.allSettled(lying.map(({ result }) => result));
      },
    };
  };

  /** Lies in a slot from when one is idle, and begins there by itself when its parameters come. */
  private layReady(
    task: GradientTask,
    expected: ExpectedParameters | undefined,
  ): {
    begin: () => Promise<GradientResult | null>;
    drop: () => void;
    result: Promise<GradientResult | null>;
  } {
    let begin = (): void => undefined;
    let drop = (): void => undefined;
    const result = new Promise<GradientResult | null>((resolve, reject) => {
      const compute = (): void => this.start(this.gradientOf(task), resolve, reject);
      let state: 'queued' | 'lies' | 'begun' | 'dropped' = 'queued';
      const letGo = (): void => {
        this.idle++;
        resolve(null);
        this.next();
      };
      this.queue.push(() => {
        if (state === 'begun') compute();
        else if (state === 'dropped') letGo();
        else {
          state = 'lies';
          if (expected !== undefined) whenThere(expected, () => begin());
        }
      });
      drop = () => {
        if (!this.standing.delete(drop)) return;
        const lay = state === 'lies';
        state = 'dropped';
        if (lay) letGo();
      };
      begin = () => {
        if (!this.standing.delete(drop)) return;
        const lay = state === 'lies';
        state = 'begun';
        if (lay) compute();
      };
      this.standing.add(drop);
    });
    result.catch(() => undefined);
    this.next();
    return {
      begin: () => {
        begin();
        return result;
      },
      drop,
      result,
    };
  }

  evaluate: Compute['evaluate'] = ({ run, weights, rows }) =>
    this.run((computeMs) => {
      const figures = toyEvaluation(floatsOf(weights.values), rows, this.rowsOf(run));
      return () => ({ ...figures, computeMs, retries: 0, slot: 0, endedAt: 0 });
    });

  prepare: Compute['prepare'] = () => this.run(() => () => ({ fingerprint: FINGERPRINT, fallback: null }));

  private rowsOf({ rows: { images, labels } }: RunMemory): ToyRows {
    const { imageBytes, classes } = this.options;
    return { images: new Uint8Array(images), labels: new Uint8Array(labels), imageBytes, classes };
  }

  private run<Result>(task: ToyTask<Result>): Promise<Result> {
    for (const drop of this.standing) drop();
    return new Promise((resolve, reject) => {
      this.queue.push(() => this.start(task, resolve, reject));
      this.next();
    });
  }

  /** On a slot that is taken. */
  private start<Result>(
    task: ToyTask<Result>,
    resolve: (result: Result) => void,
    reject: (error: Error) => void,
  ): void {
    const { chance, taskMs, owner } = this.options;
    const ms = taskMs * chance.between(0.5, 1.5);
    // As in a slot, the weights are read when the task begins, the gradient is written when it ends.
    const end = task(ms);
    owner.clock.after(ms, () => {
      this.idle++;
      if (this.isBroken) reject(new Error('a simulated slot broke'));
      else resolve(end());
      this.next();
    });
  }

  private next(): void {
    while (this.idle > 0) {
      const task = this.queue.shift();
      if (task === undefined) return;
      this.idle--;
      task();
    }
  }
}
