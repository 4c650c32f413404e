import type { Tensor, Tensor1D, Variable } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { AtelierError, invariant } from '../shared/errors.js';
import type { TensorSpec } from '../shared/layout.js';
import { instantiate } from '../shared/models/compile.js';
import type { RunSpec } from '../shared/protocol/messages.js';
import type { EagerLock } from './eager-lock.js';
import type { Batch, EvaluationFigures, GradientFigures, ModelFunctions } from './model-functions.js';
import { tf } from './tensorflow.js';

const PIXEL_MAX = 255;

interface Weight {
  readonly spec: TensorSpec;
  readonly variable: Variable;
}

/** The model run op by op, as tfjs does. The reference for the compiled functions, and their fallback. */
export class EagerFunctions implements ModelFunctions {
  private readonly model: LayersModel;
  private readonly inputShape: number[];
  private readonly classes: number;
  private readonly trainable: readonly Weight[];
  private readonly state: readonly Weight[];

  private readonly lock: EagerLock;

  private constructor(model: LayersModel, spec: RunSpec, lock: EagerLock) {
    this.model = model;
    this.lock = lock;
    this.inputShape = (model.inputs[0]?.shape.slice(1) ?? []) as number[];
    this.classes = spec.dataset.classNames.length;
    const weights = matchWeights(model, spec.layout.tensors);
    this.trainable = weights.filter(({ spec: tensor }) => tensor.offset < spec.layout.trainable);
    this.state = weights.filter(({ spec: tensor }) => tensor.offset >= spec.layout.trainable);
  }

  static async create(spec: RunSpec, lock: EagerLock): Promise<EagerFunctions> {
    const { class_name, config } = spec.topology as { class_name: string; config: Record<string, unknown> };
    // Every op of it runs before its first await.
    const building = lock.with(() => instantiate({ class_name, config }));
    return new EagerFunctions(await building, spec, lock);
  }

  gradient(weights: Float32Array, batch: Batch, out: Float32Array): GradientFigures {
    return this.lock.with(() => this.eagerGradient(weights, batch, out));
  }

  evaluate(weights: Float32Array, batch: Batch): EvaluationFigures {
    return this.lock.with(() => this.eagerEvaluate(weights, batch));
  }

  dispose(): void {
    this.model.dispose();
  }

  private eagerGradient(weights: Float32Array, batch: Batch, out: Float32Array): GradientFigures {
    this.assign(weights);
    return tf.tidy(() => {
      const images = this.images(batch);
      const labels = tf.tensor1d(batch.labels, 'int32');
      let correct: Tensor | undefined;
      const { value, grads } = tf.variableGrads(
        () => {
          const logits = this.model.apply(images, { training: true }) as Tensor;
          // variableGrads disposes of whatever its function leaves behind.
          correct = tf.keep(tf.sum(tf.cast(tf.equal(tf.argMax(logits, 1), labels), 'int32')));
          return this.lossSum(logits, labels);
        },
        this.trainable.map(({ variable }) => variable),
      );
      for (const { spec, variable } of this.trainable) {
        const gradient = grads[variable.name];
        invariant(gradient !== undefined, `no gradient for ${spec.name}`);
        out.set(gradient.dataSync(), spec.offset);
      }
      for (const { spec, variable } of this.state) {
        const now = variable.dataSync();
        for (let i = 0; i < spec.size; i++) {
          const change = (now[i] as number) - (weights[spec.offset + i] as number);
          out[spec.offset + i] = batch.rows * Math.fround(change);
        }
      }
      invariant(correct !== undefined, 'the loss was computed');
      const figures = { lossSum: value.dataSync()[0] as number, correct: correct.dataSync()[0] as number };
      correct.dispose();
      return figures;
    });
  }

  private eagerEvaluate(weights: Float32Array, batch: Batch): EvaluationFigures {
    this.assign(weights);
    return tf.tidy(() => {
      const labels = tf.tensor1d(batch.labels, 'int32');
      const logits = this.model.apply(this.images(batch), { training: false }) as Tensor;
      const predictions = tf.argMax(logits, 1).dataSync() as Int32Array;
      return { lossSum: this.lossSum(logits, labels).dataSync()[0] as number, predictions };
    });
  }

  private assign(weights: Float32Array): void {
    for (const { spec, variable } of [...this.trainable, ...this.state]) {
      const values = weights.subarray(spec.offset, spec.offset + spec.size);
      tf.tidy(() => variable.assign(tf.tensor(values, spec.shape, 'float32')));
    }
  }

  private images({ rows, images }: Batch): Tensor {
    const pixels = Float32Array.from(images, (pixel) => pixel / PIXEL_MAX);
    return tf.tensor(pixels, [rows, ...this.inputShape], 'float32');
  }

  private lossSum(logits: Tensor, labels: Tensor1D): tf.Scalar {
    const truth = tf.oneHot(labels, this.classes);
    return tf.losses.softmaxCrossEntropy(truth, logits, undefined, 0, tf.Reduction.SUM);
  }
}

/** The model's variables in layout order. */
function matchWeights(model: LayersModel, tensors: readonly TensorSpec[]): Weight[] {
  const byName = new Map(model.weights.map((weight) => [weight.originalName, weight]));
  return tensors.map((spec) => {
    const weight = byName.get(spec.name);
    if (weight === undefined || weight.shape.join() !== spec.shape.join()) {
      throw new AtelierError(
        'protocol',
        `the topology has no weight ${spec.name} of [${spec.shape.join(', ')}]`,
      );
    }
    // tfjs declares `val` protected; it is the variable that gradients are taken of.
    return { spec, variable: (weight as unknown as { val: Variable }).val };
  });
}
