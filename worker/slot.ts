/**
 * The entry of a compute thread (a Piscina worker): one slot with its own single-threaded TensorFlow. Tasks
 * carry handles to shared memory; results are a few numbers.
 */
import { performance } from 'node:perf_hooks';
import { threadId } from 'node:worker_threads';
import { workerData } from 'piscina';
import { hostTimeMs } from '../shared/clock.js';
import type { Arrivals, FilePlace } from '../shared/exchange.js';
import { RunSpec } from '../shared/protocol/messages.js';
import { augment, type Place } from './augmentation/augment.js';
import { Warper } from './augmentation/warper.js';
import { CompiledFunctions } from './compiled/compiled-functions.js';
import { TraceRefused } from './compiled/trace.js';
import { VectorMemory } from '../shared/vector/memory.js';
import { wireOf } from '../shared/wire.js';
import { EagerLock } from './eager-lock.js';
import { EagerFunctions } from './eager-functions.js';
import { gatherRows } from './gather-rows.js';
import { canMapFiles, MappedPlaces } from './mapped-places.js';
import { gradientOfNode, type GradientOf, type MicroBatch } from './micro-batch.js';
import type { Batch, ModelFunctions, Weights } from './model-functions.js';
import { fingerprintOf } from './probe.js';
import type { RowMemory } from './row-store.js';
import { StandbyCells, type Expected } from './standby.js';
import { nodeBackend, tensorflowVersion, tf } from './tensorflow.js';
import { WriteWatch } from './write-watch.js';

/** What every slot of a process gets when it starts. */
export interface SlotData {
  /** Memory of the process's `EagerLock`. */
  readonly eagerLock: SharedArrayBuffer;
  /** Memory of the process's `StandbyCells`. */
  readonly standby: SharedArrayBuffer;
}

/** What a slot needs to know of a run; all of it on shared memory, so that posting it is free. */
export interface RunMemory {
  readonly id: number;
  /** JSON of the `RunSpec`. */
  readonly spec: SharedArrayBuffer;
  readonly rows: RowMemory;
}

/** Parameters and state on shared memory, or where the coordinator left them; `version` changes whenever the values do. */
export interface WeightMemory {
  readonly version: string;
  readonly values: SharedArrayBuffer | FilePlace;
}

/** What a task on standby waits for. */
export interface StandbyOrder {
  /** Says whether to begin (standby.ts). */
  readonly cell: number;
  /** Where the slot sees for itself that the weights have come; left out: nowhere. */
  readonly expected?: ExpectedRound;
}

/** The round whose weights a task takes. */
export interface ExpectedRound {
  readonly round: number;
  readonly arrivals: Arrivals;
}

export type SlotTask =
  | { readonly kind: 'warm-up' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'prepare'; readonly run: RunMemory }
  | {
      readonly kind: 'gradient';
      readonly run: RunMemory;
      readonly weights: WeightMemory;
      /** On shared memory, or where it is left for the coordinator. */
      readonly out: Float32Array | FilePlace;
      /** Of the leaves of one tree node, left to right; at least one has rows. */
      readonly batches: readonly MicroBatch[];
      /** When to begin: the weights may not be there before. Left out: now. */
      readonly standby?: StandbyOrder;
    }
  | {
      readonly kind: 'evaluate';
      readonly run: RunMemory;
      readonly weights: WeightMemory;
      readonly rows: Uint32Array;
    };

export interface WarmUpResult {
  readonly tensorflow: string;
  /** Whether parameters and gradients may lie in files (shared/exchange.ts). */
  readonly mapsFiles: boolean;
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
/** When and where a task was computed. */
export interface TaskTime {
  /** The thread's number. */
  readonly slot: number;
  readonly computeMs: number;
  /** By `hostTimeMs`. */
  readonly endedAt: number;
}
export interface GradientResult extends TaskTime {
  readonly lossSum: number;
  readonly correct: number;
  /** Why the step ran eagerly although it should be compiled. */
  readonly fallback: string | null;
}
/** A task on standby was dropped. */
export interface NotBegun {
  readonly begun: false;
}
export interface EvaluateResult extends TaskTime {
  readonly lossSum: number;
  /** classes x classes counts; row: true class. */
  readonly confusion: Uint32Array;
}

/** What a slot holds after a task; it comes with every result of a gradient or an evaluation. */
export interface SlotHoldings {
  readonly slot: number;
  /** Of the native binding. */
  readonly tensors: number;
  /** As far as tfjs keeps account of them. */
  readonly tensorBytes: number;
}

export type SlotResult =
  WarmUpResult | MemoryResult | PrepareResult | GradientResult | NotBegun | EvaluateResult;

interface LoadedRun {
  readonly spec: RunSpec;
  readonly functions: ModelFunctions;
  /** For sums along the tree. */
  readonly scratch: Scratch;
  readonly places: MappedPlaces;
  /** Why the model runs eagerly although it should be compiled. */
  readonly fallback: string | null;
}

/** Buffers for gradients, where the vector kernels add them. */
class Scratch {
  private readonly memory: VectorMemory;
  private readonly size: number;
  private readonly buffers: Float32Array[] = [];

  constructor({ shards, layout }: RunSpec) {
    this.size = layout.size;
    this.memory = new VectorMemory(Math.ceil(Math.log2(shards)) + 1, layout.size);
  }

  at(index: number): Float32Array {
    return (this.buffers[index] ??= this.memory.array(this.size));
  }
}

const { eagerLock: lockMemory, standby: standbyMemory } = workerData as SlotData;
const eagerLock = new EagerLock(lockMemory);
const standbyCells = new StandbyCells(standbyMemory);

/** Runs whose models stay loaded: those that were computed for last. */
const MAX_LOADED = 4;
/** By number, the one that was used last at the end. */
const loaded = new Map<number, LoadedRun>();

async function load({ id, spec: text }: RunMemory): Promise<LoadedRun> {
  let run = loaded.get(id);
  if (run === undefined) {
    const spec = RunSpec.parse(JSON.parse(Buffer.from(new Uint8Array(text)).toString('utf8')));
    run = { spec, scratch: new Scratch(spec), places: new MappedPlaces(), ...(await modelFunctions(spec)) };
  }
  loaded.delete(id);
  loaded.set(id, run);
  for (const [oldest, { functions }] of loaded) {
    if (loaded.size <= MAX_LOADED) break;
    loaded.delete(oldest);
    functions.dispose();
  }
  return run;
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
  gatherRows(allImages, rows, images);
  const labels = new Int32Array(rows.length);
  rows.forEach((row, i) => (labels[i] = allLabels[row] as number));
  return { rows: rows.length, images, labels, seed };
}

const warper = new Warper();

/** The batch as it is learned from, until the next one is. */
function augmented(batch: GatheredBatch, { recipe, dataset }: RunSpec, place: Place): Batch {
  if (recipe.augmentation === null) return batch;
  return { ...batch, images: augment(batch.images, recipe.augmentation, dataset.imageShape, place, warper) };
}

/** Evaluation draws nothing. */
const NO_SEED = new Int32Array(2);

/** When the task before is done, and answered. */
let turn: Promise<void> = Promise.resolve();
let waiting = 0;

/** Tasks that come together are computed one after the other, each answered before the next begins. */
export default async function slot(task: SlotTask): Promise<SlotResult> {
  const before = turn;
  let pass = (): void => undefined;
  turn = new Promise((resolve) => (pass = resolve));
  waiting++;
  await before;
  waiting--;
  try {
    return await perform(task);
  } finally {
    // Computing blocks this thread: first the answer has to leave it.
    if (waiting > 0) setImmediate(pass);
    else pass();
  }
}

async function perform(task: SlotTask): Promise<SlotResult> {
  if (task.kind === 'warm-up') {
    await tf.ready();
    return { tensorflow: tensorflowVersion(), mapsFiles: canMapFiles() };
  }
  if (task.kind === 'memory') {
    // Present where Node was started to expose it: what is held then is no garbage.
    globalThis.gc?.();
    const { binding } = nodeBackend();
    return {
      tensors: tf.memory().numTensors,
      nativeTensors: binding.getNumOfTensors(),
      graphs: binding.getNumOfSavedModels(),
    };
  }
  const { spec, functions, scratch, places, fallback } = await load(task.run);
  if (task.kind === 'prepare') return { fingerprint: fingerprintOf(spec, functions), fallback };
  const weights = weightsOf(task.weights, places);
  if (task.kind === 'gradient') {
    const { batches, standby } = task;
    const cameAt = performance.now();
    const learnedFrom = ({ rows, seed, place }: MicroBatch): Batch =>
      augmented(gather(task.run.rows, rows, seed, imageBytes(spec)), spec, place);
    const first = batches.find(({ rows }) => rows.length > 0);
    const prepared = first && learnedFrom(first);
    if (standby !== undefined) {
      if (prepared) functions.stage?.(weights.version, prepared);
      if (!standbyCells.wait(standby.cell, expectedBy(standby, places))) return { begun: false };
    }
    const startedAt = standby === undefined ? cameAt : performance.now();
    const gradientOf: GradientOf = (batch, out) =>
      functions.gradient(weights, prepared && batch === first ? prepared : learnedFrom(batch), out);
    const out = task.out instanceof Float32Array ? task.out : places.at(task.out, 'write');
    const sum = batches.length === 1 ? out : scratch.at(0);
    const figures = gradientOfNode(
      batches,
      sum,
      gradientOf,
      (level) => scratch.at(level + 1),
      wireOf(spec.wire),
    );
    if (sum !== out) out.set(sum);
    return { fallback, ...figures, ...since(startedAt), ...holdings() };
  }
  const startedAt = performance.now();
  const batch = gather(task.run.rows, task.rows, NO_SEED, imageBytes(spec));
  const { lossSum, predictions } = functions.evaluate(weights, batch);
  const classes = spec.dataset.classNames.length;
  const confusion = new Uint32Array(classes ** 2);
  batch.labels.forEach((truth, i) => {
    const cell = truth * classes + (predictions[i] as number);
    confusion[cell] = (confusion[cell] ?? 0) + 1;
  });
  return { lossSum, confusion, ...since(startedAt), ...holdings() };
}

const weightsOf = ({ version, values }: WeightMemory, places: MappedPlaces): Weights => ({
  version,
  values: values instanceof SharedArrayBuffer ? new Float32Array(values) : places.at(values, 'read'),
});

const watch = new WriteWatch();

/** Undefined where the slot can be told only. */
function expectedBy({ expected }: StandbyOrder, places: MappedPlaces): Expected | undefined {
  if (expected === undefined) return undefined;
  const { round, arrivals } = expected;
  if (!watch.add(arrivals.bell) || !watch.add(arrivals.round.path)) return undefined;
  const newest = new Int32Array(places.at(arrivals.round, 'read').buffer);
  return {
    haveCome: () => Atomics.load(newest, 0) === round,
    wait: (milliseconds) => watch.wait(milliseconds),
  };
}

const since = (startedAt: number): Pick<TaskTime, 'computeMs' | 'endedAt'> => ({
  computeMs: performance.now() - startedAt,
  endedAt: hostTimeMs(),
});

const holdings = (): SlotHoldings => ({
  slot: threadId,
  tensors: nodeBackend().binding.getNumOfTensors(),
  tensorBytes: tf.memory().numBytes,
});
