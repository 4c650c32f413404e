import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nodeBackend, type Binding } from '../tensorflow.js';
import { SAVED_MODEL_TAG } from './graph-def.js';
import type { TracedGraph } from './trace.js';

/** The values of an input, in the layout of its placeholder. */
export interface GraphInput {
  readonly dtype: number;
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array | Uint8Array;
}

/** Tensors in TensorFlow's memory, for one run or several. */
export class ResidentTensors {
  readonly ids: readonly number[];

  constructor(inputs: readonly GraphInput[]) {
    const { binding } = nodeBackend();
    this.ids = inputs.map(({ shape, dtype, values }) => binding.createTensor(shape, dtype, values));
  }

  dispose(): void {
    for (const id of this.ids) nodeBackend().binding.deleteTensor(id);
  }
}

/** One output of a run; it is gone when the run's `read` has returned. */
export class GraphOutput {
  private readonly binding: Binding;
  private readonly id: number;

  constructor(binding: Binding, id: number) {
    this.binding = binding;
    this.id = id;
  }

  /** A copy of its values. */
  get values(): Float32Array | Int32Array | Uint8Array {
    return this.binding.tensorDataSync(this.id);
  }

  /** Copies its values, as many as `target` has, without memory of their own in between where the addon can. */
  copyTo(target: Float32Array): void {
    if (this.binding.readTensor === undefined) target.set(this.values);
    else this.binding.readTensor(this.id, target);
  }
}

/** A graph in a TensorFlow session of its own. Runs without any eager op: threads need no lock. */
export class CompiledGraph {
  private readonly binding: Binding;
  private readonly session: number;
  private readonly inputNames: string;
  private readonly outputNames: string;

  constructor(graph: TracedGraph) {
    this.binding = nodeBackend().binding;
    this.inputNames = graph.inputs.join(',');
    this.outputNames = graph.outputs.join(',');
    const folder = mkdtempSync(join(tmpdir(), `atelier-graph-${process.pid}-`));
    try {
      writeFileSync(join(folder, 'saved_model.pb'), graph.savedModel);
      this.session = this.binding.loadSavedModel(folder, SAVED_MODEL_TAG);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** Runs the graph and hands each output to `read`, in order. No tensor is made that is left behind. */
  run(inputs: readonly ResidentTensors[], read: (index: number, output: GraphOutput) => void): void {
    const { binding } = this;
    const outputs = binding.runSavedModel(
      this.session,
      inputs.flatMap(({ ids }) => ids),
      this.inputNames,
      this.outputNames,
    );
    try {
      outputs.forEach(({ id }, index) => read(index, new GraphOutput(binding, id)));
    } finally {
      for (const { id } of outputs) binding.deleteTensor(id);
    }
  }

  dispose(): void {
    this.binding.deleteSavedModel(this.session);
  }
}
