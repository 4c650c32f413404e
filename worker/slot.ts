/**
 * The entry of a compute thread (a Piscina worker): one slot with its own single-threaded TensorFlow. Tasks
 * carry handles to shared memory; results are a few numbers.
 */
import { performance } from 'node:perf_hooks';
import { workerData } from 'piscina';
import { RunSpec } from '../shared/protocol/messages.js';
import { augment, type Place } from './augmentation/augment.js';
import { CompiledFunctions } from './compiled/compiled-functions.js';
import { TraceRefused } from './compiled/trace.js';
import { EagerLock } from './eager-lock.js';
import { EagerFunctions } from './eager-functions.js';
import type { Batch, ModelFunctions } from './model-functions.js';
import { fingerprintOf } from './probe.js';
import type { RowMemory } from './row-store.js';
import { nodeBackend, tensorflowVersion, tf } from './tensorflow.js';

/** What every slot of a process gets when it starts. */
export interface SlotData {
  /** Memory of the process's `EagerLock`. */
  readonly eagerLock: SharedArrayBuffer;
}

/** What a slot needs to know of a run; all of it on shared memory, so that posting it is free. */
export interface RunMemory {
  readonly id: number;
  /** JSON of the `RunSpec`. */
  readonly spec: SharedArrayBuffer;
  readonly rows: RowMemory;
}

/** Parameters and state on shared memory; `version` changes whenever the values do. */
export interface WeightMemory {
  readonly version: string;
  readonly values: SharedArrayBuffer;
}

export type SlotTask =
  | { readonly kind: 'warm-up' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'prepare'; readonly run: RunMemory }
  | {
      readonly kind: 'gradient';
      readonly run: RunMemory;
      readonly weights: WeightMemory;
      readonly out: SharedArrayBuffer;
      /** Dataset rows of the micro-batch. */
      readonly rows: Uint32Array;
      /** Two words for the random layers. */
      readonly seed: Int32Array;
      /** What augmentation draws from. */
      readonly place: Place;
    }
  | {
      readonly kind: 'evaluate';
      readonly run: RunMemory;
      readonly weights: WeightMemory;
      readonly rows: Uint32Array;
    };

export interface WarmUpResult {
  readonly tensorflow: string;
}
export interface MemoryResult {
  /** Tensors that tfjs holds. */
  readonly tensors: number;
  /** Tensors that the native binding holds. */
  readonly nativeTensors: number;
  /** Compiled graphs. */
  readonly graphs: number;
}
export interface PrepareResult {
  /** SHA-256 of the gradient of the run's probe batch (probe.ts). */
  readonly fingerprint: string;
  /** Why the model runs eagerly although it should be compiled. */
  readonly fallback: string | null;
}
export interface GradientResult {
  readonly lossSum: number;
  readonly correct: number;
  /** Why the step ran eagerly although it should be compiled. */
  readonly fallback: string | null;
  readonly computeMs: number;
}
export interface EvaluateResult {
  readonly lossSum: number;
  /** classes x classes counts; row: true class. */
  readonly confusion: Uint32Array;
  readonly computeMs: number;
}

export type SlotResult = WarmUpResult | MemoryResult | PrepareResult | GradientResult | EvaluateResult;

interface LoadedRun {
  readonly id: number;
  readonly spec: RunSpec;
  readonly functions: ModelFunctions;
  /** Why the model runs eagerly although it should be compiled. */
  readonly fallback: string | null;
}

const eagerLock = new EagerLock((workerData as SlotData).eagerLock);

/** The run whose model is loaded. A slot works for one run at a time. */
let loaded: LoadedRun | undefined;

async function load(memory: RunMemory): Promise<LoadedRun> {
  if (loaded?.id === memory.id) return loaded;
  loaded?.functions.dispose();
  const text = Buffer.from(new Uint8Array(memory.spec)).toString('utf8');
  const spec = RunSpec.parse(JSON.parse(text));
  loaded = { id: memory.id, spec, ...(await modelFunctions(spec)) };
  return loaded;
}

/** Compiled functions where the run asks for them and the model allows it, else eager ones. */
async function modelFunctions(spec: RunSpec): Promise<Pick<LoadedRun, 'functions' | 'fallback'>> {
  if (spec.step === 'eager')
    return { functions: await EagerFunctions.create(spec, eagerLock), fallback: null };
  const compiled = await CompiledFunctions.create(spec, eagerLock);
  try {
    compiled.prepare(spec.batchSize / spec.shards, imageBytes(spec));
    return { functions: compiled, fallback: null };
  } catch (error) {
    compiled.dispose();
    if (!(error instanceof TraceRefused)) throw error;
    if (spec.step === 'compiled') {
      throw new Error(`--step compiled: this model cannot be compiled: ${error.message}`, { cause: error });
    }
    return { functions: await EagerFunctions.create(spec, eagerLock), fallback: error.message };
  }
}

const imageBytes = (spec: RunSpec): number => spec.dataset.imageShape.reduce((size, d) => size * d, 1);

type GatheredBatch = Batch & { readonly images: Uint8Array };

/** Copies the rows of a batch out of the row store. */
function gather(memory: RowMemory, rows: Uint32Array, seed: Int32Array, imageBytes: number): GatheredBatch {
  const allImages = new Uint8Array(memory.images);
  const allLabels = new Uint8Array(memory.labels);
  const images = new Uint8Array(rows.length * imageBytes);
  const labels = new Int32Array(rows.length);
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i] as number;
    images.set(allImages.subarray(row * imageBytes, (row + 1) * imageBytes), i * imageBytes);
    labels[i] = allLabels[row] as number;
  }
  return { rows: rows.length, images, labels, seed };
}

/** The batch as it is learned from. */
function augmented(batch: GatheredBatch, { recipe, dataset }: RunSpec, place: Place): Batch {
  if (recipe.augmentation === null) return batch;
  return { ...batch, images: augment(batch.images, recipe.augmentation, dataset.imageShape, place) };
}

/** Evaluation draws nothing. */
const NO_SEED = new Int32Array(2);

export default async function slot(task: SlotTask): Promise<SlotResult> {
  if (task.kind === 'warm-up') {
    await tf.ready();
    return { tensorflow: tensorflowVersion() };
  }
  if (task.kind === 'memory') {
    const { binding } = nodeBackend();
    return {
      tensors: tf.memory().numTensors,
      nativeTensors: binding.getNumOfTensors(),
      graphs: binding.getNumOfSavedModels(),
    };
  }
  const { spec, functions, fallback } = await load(task.run);
  if (task.kind === 'prepare') return { fingerprint: fingerprintOf(spec, functions), fallback };
  const startedAt = performance.now();
  const seed = task.kind === 'gradient' ? task.seed : NO_SEED;
  const batch = gather(task.run.rows, task.rows, seed, imageBytes(spec));
  const weights = { version: task.weights.version, values: new Float32Array(task.weights.values) };
  if (task.kind === 'gradient') {
    const examples = augmented(batch, spec, task.place);
    const figures = functions.gradient(weights, examples, new Float32Array(task.out));
    return { ...figures, fallback, computeMs: performance.now() - startedAt };
  }
  const { lossSum, predictions } = functions.evaluate(weights, batch);
  const classes = spec.dataset.classNames.length;
  const confusion = new Uint32Array(classes ** 2);
  batch.labels.forEach((truth, i) => {
    const cell = truth * classes + (predictions[i] as number);
    confusion[cell] = (confusion[cell] ?? 0) + 1;
  });
  return { lossSum, confusion, computeMs: performance.now() - startedAt };
}
