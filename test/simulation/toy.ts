/**
 * A toy in TensorFlow's place. Its "gradient" depends on every row number, on every bit of the parameters and on
 * the seed words, and its values differ so much in magnitude that float32 sums of them depend on the order of the
 * additions: whatever the cluster does wrong shows in the final weights.
 */
import { parseRunConfig, type RunConfig } from '../../shared/config.js';
import type { Dataset } from '../../shared/dataset/load.js';
import { makeLayout } from '../../shared/layout.js';
import type { CompiledModel } from '../../shared/models/compile.js';
import type { Clock } from '../../shared/clock.js';
import type { RandomStream } from '../../shared/rng.js';
import type { Compute } from '../../worker/compute-pool.js';

const CLASSES = 3;
const TRAIN_ROWS = 60;
const TEST_ROWS = 20;
const ZEROS = { className: 'Zeros', config: {} };
const NO_RECIPE = { initializer: ZEROS, l1: 0, l2: 0 };

export const MODEL: CompiledModel = {
  topology: { class_name: 'Sequential', config: {} },
  training: { class_name: 'Sequential', config: {} },
  layout: makeLayout(
    [
      { name: 'kernel', shape: [2, 2] },
      { name: 'bias', shape: [2] },
    ],
    [{ name: 'moving_mean', shape: [1] }],
  ),
  recipes: [{ ...NO_RECIPE, l2: 0.01 }, NO_RECIPE, NO_RECIPE],
};

const labels = new Uint8Array(new SharedArrayBuffer(TRAIN_ROWS + TEST_ROWS)).map((_, i) => (i * 7) % CLASSES);
const shared = (bytes: Uint8Array): Uint8Array => {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.byteLength));
  copy.set(bytes);
  return copy;
};

export const DATASET: Dataset = {
  info: {
    name: 'toy',
    sha256: '0'.repeat(64),
    trainRows: TRAIN_ROWS,
    testRows: TEST_ROWS,
    imageShape: [1, 1, 1],
    classNames: ['a', 'b', 'c'],
  },
  folder: 'nowhere',
  images: shared(Uint8Array.from({ length: TRAIN_ROWS + TEST_ROWS }, (_, i) => (i * 37) % 256)),
  labels: shared(labels),
};

export const toyConfig = (settings: Partial<RunConfig>): RunConfig =>
  parseRunConfig({ model: 'toy', dataset: 'toy', validationRows: 7, learningRate: 0.01, ...settings });

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ value, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

function hashOf(weights: Float32Array): number {
  let hash = 1;
  for (const word of new Uint32Array(weights.buffer, weights.byteOffset, weights.length))
    hash = mix(hash, word);
  return hash;
}

export interface Toy {
  readonly lossSum: number;
  readonly correct: number;
}

/** Sums the rows' made-up gradients into `out`. */
export function toyGradient(
  weights: Float32Array,
  rows: Uint32Array,
  seed: Int32Array,
  pixels: Uint8Array,
  out: Float32Array,
): Toy {
  const base = mix(mix(hashOf(weights), seed[0] as number), seed[1] as number);
  out.fill(0);
  let lossSum = 0;
  let correct = 0;
  for (const row of rows) {
    // A row that has not arrived has the wrong pixel.
    const rowHash = mix(mix(base, row), pixels[row] as number);
    for (let i = 0; i < out.length; i++) {
      const h = mix(rowHash, i);
      const value = ((h & 0xffff) - 0x8000) * 2 ** (((h >>> 16) % 24) - 24);
      out[i] = (out[i] as number) + value;
    }
    lossSum += rowHash / 2 ** 32;
    correct += rowHash & 1;
  }
  return { lossSum, correct };
}

export function toyEvaluate(
  weights: Float32Array,
  rows: Uint32Array,
  pixels: Uint8Array,
  truth: Uint8Array,
): { lossSum: number; confusion: Uint32Array } {
  const base = hashOf(weights);
  const confusion = new Uint32Array(CLASSES ** 2);
  let lossSum = 0;
  for (const row of rows) {
    const hash = mix(mix(base, row), pixels[row] as number);
    lossSum += hash / 2 ** 32;
    const cell = (truth[row] as number) * CLASSES + (hash % CLASSES);
    confusion[cell] = (confusion[cell] ?? 0) + 1;
  }
  return { lossSum, confusion };
}

/** The slots of a simulated worker: each takes its time for a task, and reads the parameters when it begins it. */
export class ToyPool implements Compute {
  private readonly clock: Clock;
  private readonly random: RandomStream;
  private readonly rowMs: number;
  private idle: number;
  private readonly queue: (() => void)[] = [];

  constructor(clock: Clock, random: RandomStream, slots: number, rowMs: number) {
    this.clock = clock;
    this.random = random;
    this.idle = slots;
    this.rowMs = rowMs;
  }

  prepare(): Promise<{ fingerprint: string; fallback: null }> {
    return this.takes(50, () => ({ fingerprint: 'f'.repeat(64), fallback: null }));
  }

  gradient(task: Parameters<Compute['gradient']>[0]): ReturnType<Compute['gradient']> {
    const { weights, rows, seed, run, out } = task;
    return this.takes(rows.length, () => {
      const figures = toyGradient(
        new Float32Array(weights.values),
        rows,
        seed,
        new Uint8Array(run.rows.images),
        new Float32Array(out),
      );
      return { ...figures, fallback: null, computeMs: rows.length, retries: 0 };
    });
  }

  evaluate(task: Parameters<Compute['evaluate']>[0]): ReturnType<Compute['evaluate']> {
    const { weights, rows, run } = task;
    const { images, labels: truth } = run.rows;
    return this.takes(rows.length, () => ({
      ...toyEvaluate(new Float32Array(weights.values), rows, new Uint8Array(images), new Uint8Array(truth)),
      computeMs: rows.length,
      retries: 0,
    }));
  }

  private takes<Result>(rows: number, compute: () => Result): Promise<Result> {
    return new Promise((resolve) => {
      const begin = (): void => {
        this.idle--;
        const result = compute();
        this.clock.after(rows * this.rowMs * (0.5 + this.random.uniform()), () => {
          this.idle++;
          resolve(result);
          this.queue.shift()?.();
        });
      };
      if (this.idle > 0) begin();
      else this.queue.push(begin);
    });
  }
}
