import type { Tensor, Tensor1D } from '@tensorflow/tfjs-core';
import type { RunSpec } from '../../shared/protocol/messages.js';
import type { ExampleRecipe } from '../../shared/recipe.js';
import type { EagerLock } from '../eager-lock.js';
import type {
  Batch,
  EvaluationFigures,
  GradientFigures,
  ModelFunctions,
  Weights,
} from '../model-functions.js';
import { ModelProgram, type LossSum, type Weight } from '../model-program.js';
import { nodeBackend } from '../tensorflow.js';
import { withFusedNormalization } from './batch-normalization.js';
import { CompiledGraph, ResidentTensors, type GraphInput, type GraphOutput } from './compiled-graph.js';
import { withFastConvolutions } from './convolutions.js';
import { gradientsLast } from './gradients-last.js';
import { nativeLoss, nativeSmoothedLoss, withNativeGradients } from './native-gradients.js';
import { trace, TraceRefused, type TracedGraph, type TraceInput } from './trace.js';

/** Graphs kept: one for each kind and batch size (an epoch has two sizes, an evaluation two). */
const MAX_GRAPHS = 16;
const SEED_WORDS = 2;

type Kind = 'gradient' | 'evaluate';

/** The model compiled into one TensorFlow graph for each kind of work and batch size, on first use. */
export class CompiledFunctions implements ModelFunctions {
  private readonly program: ModelProgram;
  private readonly lock: EagerLock;
  private readonly isAugmented: boolean;
  private readonly graphs = new Map<string, CompiledGraph>();
  private current: { readonly version: string; readonly tensors: ResidentTensors } | undefined;
  private staged: { readonly batch: Batch; readonly tensors: ResidentTensors } | undefined;

  private constructor(program: ModelProgram, lock: EagerLock, { augmentation }: ExampleRecipe) {
    this.program = program;
    this.lock = lock;
    this.isAugmented = augmentation !== null;
  }

  static async create(spec: RunSpec, lock: EagerLock): Promise<CompiledFunctions> {
    const building = lock.with(() => ModelProgram.create(spec));
    return new CompiledFunctions(await building, lock, spec.recipe);
  }

  /** Compiles both kinds for this batch size. @throws TraceRefused when the model cannot be compiled */
  prepare(rows: number, imageBytes: number): void {
    this.graph('gradient', rows, imageBytes);
    this.graph('evaluate', rows, imageBytes);
  }

  stage(version: string, batch: Batch): void {
    if (this.current?.version !== version) this.dropWeights();
    this.staged?.tensors.dispose();
    this.staged = { batch, tensors: this.inputs('gradient', batch) };
  }

  gradient(weights: Weights, batch: Batch, out: Float32Array): GradientFigures {
    const graph = this.graph('gradient', batch.rows, batch.images.length / batch.rows);
    const targets = [...this.program.trainable, ...this.program.state];
    let lossSum = Number.NaN;
    let correct = Number.NaN;
    this.run(graph, weights, this.takeStaged(batch) ?? this.inputs('gradient', batch), (index, output) => {
      const spec = targets[index - 2]?.spec;
      if (spec !== undefined) output.copyTo(out.subarray(spec.offset, spec.offset + spec.size));
      else if (index === 0) lossSum = output.values[0] as number;
      else correct = output.values[0] as number;
    });
    return { lossSum, correct };
  }

  evaluate(weights: Weights, batch: Batch): EvaluationFigures {
    const graph = this.graph('evaluate', batch.rows, batch.images.length / batch.rows);
    let lossSum = Number.NaN;
    let predictions = new Int32Array(0);
    this.run(graph, weights, this.inputs('evaluate', batch), (index, output) => {
      if (index === 0) lossSum = output.values[0] as number;
      else predictions = output.values as Int32Array<ArrayBuffer>;
    });
    return { lossSum, predictions };
  }

  dispose(): void {
    for (const graph of this.graphs.values()) graph.dispose();
    this.graphs.clear();
    this.dropWeights();
    this.staged?.tensors.dispose();
    this.staged = undefined;
    this.program.dispose();
  }

  private get trainingLoss(): LossSum {
    const { classes, labelSmoothing } = this.program;
    return labelSmoothing === 0 ? nativeLoss : nativeSmoothedLoss(classes, labelSmoothing);
  }

  private get weights(): readonly Weight[] {
    return [...this.program.trainable, ...this.program.state];
  }

  /** Weights stay in TensorFlow's memory while their version does: all micro-batches of a step share them. */
  private resident({ version, values }: Weights): ResidentTensors {
    if (this.current?.version === version) return this.current.tensors;
    this.dropWeights();
    const { TF_FLOAT } = nodeBackend().binding;
    const tensors = new ResidentTensors(
      this.weights.map(({ spec: { shape, offset, size } }) => ({
        dtype: TF_FLOAT,
        shape,
        values: values.subarray(offset, offset + size),
      })),
    );
    this.current = { version, tensors };
    return tensors;
  }

  private dropWeights(): void {
    this.current?.tensors.dispose();
    this.current = undefined;
  }

  private takeStaged(batch: Batch): ResidentTensors | undefined {
    const { staged } = this;
    this.staged = undefined;
    if (staged === undefined || staged.batch === batch) return staged?.tensors;
    staged.tensors.dispose();
    return undefined;
  }

  /** @param rows their tensors, which are gone afterwards */
  private run(
    graph: CompiledGraph,
    weights: Weights,
    rows: ResidentTensors,
    read: (index: number, output: GraphOutput) => void,
  ): void {
    try {
      graph.run([this.resident(weights), rows], read);
    } finally {
      rows.dispose();
    }
  }

  private inputs(kind: Kind, batch: Batch): ResidentTensors {
    const { TF_FLOAT, TF_INT32 } = nodeBackend().binding;
    const { rows, images, labels, seed } = batch;
    const inputs: GraphInput[] = [];
    const dtype = this.pixelType(kind);
    // A probe's rows are bytes, whatever the graph takes.
    const values = dtype === TF_FLOAT && images instanceof Uint8Array ? Float32Array.from(images) : images;
    inputs.push({ dtype, shape: [rows, images.length / rows], values });
    inputs.push({ dtype: TF_INT32, shape: [rows], values: labels });
    if (kind === 'gradient') inputs.push({ dtype: TF_INT32, shape: [SEED_WORDS], values: seed });
    return new ResidentTensors(inputs);
  }

  /** Augmented rows are floats. */
  private pixelType(kind: Kind): number {
    const { TF_FLOAT, TF_UINT8 } = nodeBackend().binding;
    return kind === 'gradient' && this.isAugmented ? TF_FLOAT : TF_UINT8;
  }

  private graph(kind: Kind, rows: number, imageBytes: number): CompiledGraph {
    const key = `${kind} ${rows}`;
    const known = this.graphs.get(key);
    if (known !== undefined) return known;
    const [oldest] = this.graphs.keys();
    if (this.graphs.size >= MAX_GRAPHS && oldest !== undefined) {
      this.graphs.get(oldest)?.dispose();
      this.graphs.delete(oldest);
    }
    const graph = new CompiledGraph(this.lock.with(() => this.trace(kind, rows, imageBytes)));
    this.graphs.set(key, graph);
    return graph;
  }

  /** Traces twice with different inputs: what differs between the graphs would have been frozen. */
  private trace(kind: Kind, rows: number, imageBytes: number): TracedGraph {
    const first = this.traceOnce(kind, rows, imageBytes, 1);
    const second = this.traceOnce(kind, rows, imageBytes, 2);
    if (first.constants.join() !== second.constants.join() || first.nodes !== second.nodes) {
      throw new TraceRefused('the ops it runs depend on the values of its input', undefined);
    }
    const { graph, outputs } = first;
    if (kind === 'gradient') graph.waits = gradientsLast(graph.nodes, outputs, graph.shapes);
    return first;
  }

  private traceOnce(kind: Kind, rows: number, imageBytes: number, sample: number): TracedGraph {
    const { TF_FLOAT, TF_INT32 } = nodeBackend().binding;
    const { program } = this;
    const dtype = this.pixelType(kind);
    const inputs: TraceInput[] = this.weights.map(({ spec, variable }, i) => ({
      name: `weight_${i}`,
      dtype: TF_FLOAT,
      shape: spec.shape,
      sample: new Float32Array(0),
      variable,
    }));
    const bytes = new Uint8Array(rows * imageBytes).map((_, i) => (i * 31 * sample) & 0xff);
    const pixels = dtype === TF_FLOAT ? Float32Array.from(bytes) : bytes;
    const labels = new Int32Array(rows).map((_, i) => (i * sample) % program.classes);
    const seed = new Int32Array(SEED_WORDS).fill(sample);
    inputs.push({ name: 'pixels', dtype, shape: [rows, imageBytes], sample: pixels });
    inputs.push({ name: 'labels', dtype: TF_INT32, shape: [rows], sample: labels });
    if (kind === 'gradient')
      inputs.push({ name: 'seed', dtype: TF_INT32, shape: [SEED_WORDS], sample: seed });
    return withNativeGradients(() =>
      trace(
        inputs,
        (tensors) => {
          const [x, y, s] = tensors.slice(this.weights.length) as [Tensor, Tensor1D, Tensor];
          return kind === 'gradient'
            ? withFusedNormalization(program.model, () =>
                withFastConvolutions(program.model, () => program.gradient(x, y, s, this.trainingLoss)),
              )
            : program.evaluate(x, y, nativeLoss);
        },
        () => program.currentLayer,
      ),
    );
  }
}
