import type { Scalar, Tensor, Tensor1D, Variable } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { AtelierError, invariant } from '../shared/errors.js';
import type { TensorSpec } from '../shared/layout.js';
import { instantiate } from '../shared/models/compile.js';
import type { RunSpec } from '../shared/protocol/messages.js';
import { feedRandomLayers } from './random-layers.js';
import { tf } from './tensorflow.js';

/** A tensor of the layout and the model's variable for it. */
export interface Weight {
  readonly spec: TensorSpec;
  readonly variable: Variable;
}

/** Sum of the examples' losses. @param logits rows x classes @param labels int32 class numbers */
export type LossSum = (logits: Tensor, labels: Tensor1D) => Scalar;

/**
 * Softmax cross-entropy as tfjs composes it.
 * @param smoothing s: the truth is (1 - s) * oneHot + s / classes
 */
export const composedLoss =
  (classes: number, smoothing = 0): LossSum =>
  (logits, labels) =>
    tf.losses.softmaxCrossEntropy(tf.oneHot(labels, classes), logits, undefined, smoothing, tf.Reduction.SUM);

/**
 * The functions of tensors that training is made of: what is run op by op, or traced and compiled. Everything they
 * depend on is an argument or one of the model's variables.
 */
export class ModelProgram {
  readonly inputShape: readonly number[];
  readonly classes: number;
  readonly labelSmoothing: number;
  private readonly pixelMax: number;
  /** In layout order. */
  readonly trainable: readonly Weight[];
  /** In layout order. */
  readonly state: readonly Weight[];
  readonly model: LayersModel;
  private seed: Tensor | undefined;
  private applying: string | undefined;

  private constructor(model: LayersModel, spec: RunSpec) {
    this.model = model;
    this.inputShape = (model.inputs[0]?.shape.slice(1) ?? []) as number[];
    this.classes = spec.dataset.classNames.length;
    this.labelSmoothing = spec.recipe.labelSmoothing;
    this.pixelMax = spec.recipe.pixelMax;
    const weights = matchWeights(model, spec.layout.tensors);
    this.trainable = weights.filter(({ spec: tensor }) => tensor.offset < spec.layout.trainable);
    this.state = weights.filter(({ spec: tensor }) => tensor.offset >= spec.layout.trainable);
    feedRandomLayers(model, () => {
      invariant(this.seed !== undefined, 'a random layer is only applied in training');
      return this.seed;
    });
    this.noteLayers();
  }

  /** Runs eager ops, all of them before its first await: call it inside the `EagerLock`. */
  static async create(spec: RunSpec): Promise<ModelProgram> {
    const { class_name, config } = spec.topology as { class_name: string; config: Record<string, unknown> };
    return new ModelProgram(await instantiate({ class_name, config }), spec);
  }

  /** Name of the layer that is being applied, for errors. */
  get currentLayer(): string | undefined {
    return this.applying;
  }

  /**
   * Forward and backward.
   * @param pixels rows x input shape, 0 to 255
   * @param seed two int32 words that the random layers draw from
   * @returns loss sum, number correct, gradient sums by `trainable`, change times rows by `state`
   */
  gradient(pixels: Tensor, labels: Tensor1D, seed: Tensor, lossSum: LossSum): Tensor[] {
    return tf.tidy(() => {
      const [rows = 0] = pixels.shape;
      const before = this.state.map(({ variable }) => tf.clone(variable));
      let correct: Tensor | undefined;
      this.seed = seed;
      const { value, grads } = tf.variableGrads(
        () => {
          const logits = this.model.apply(this.scale(pixels), { training: true }) as Tensor;
          // variableGrads disposes of whatever its function leaves behind.
          correct = tf.keep(tf.sum(tf.cast(tf.equal(tf.argMax(logits, 1), labels), 'int32')));
          return lossSum(logits, labels);
        },
        this.trainable.map(({ variable }) => variable),
      );
      this.seed = undefined;
      invariant(correct !== undefined, 'the loss was computed');
      const kept = correct;
      // From here on the surrounding tidy owns it.
      const result = tf.clone(kept);
      kept.dispose();
      const gradients = this.trainable.map(({ spec, variable }) => {
        const gradient = grads[variable.name];
        invariant(gradient !== undefined, `no gradient for ${spec.name}`);
        return gradient;
      });
      const changes = this.state.map(({ variable }, i) =>
        tf.mul(tf.sub(variable, before[i] as Tensor), rows),
      );
      return [value, result, ...gradients, ...changes];
    });
  }

  /** Forward only. @returns loss sum, predicted class of each row (int32) */
  evaluate(pixels: Tensor, labels: Tensor1D, lossSum: LossSum): Tensor[] {
    return tf.tidy(() => {
      const logits = this.model.apply(this.scale(pixels), { training: false }) as Tensor;
      return [lossSum(logits, labels), tf.cast(tf.argMax(logits, 1), 'int32')];
    });
  }

  dispose(): void {
    this.model.dispose();
  }

  private scale(pixels: Tensor): Tensor {
    return tf.div(tf.reshape(pixels, [-1, ...this.inputShape]), this.pixelMax);
  }

  private noteLayers(): void {
    for (const layer of this.model.layers) {
      const call = layer.call.bind(layer);
      layer.call = (inputs, kwargs) => {
        const outer = this.applying;
        this.applying = layer.name;
        const result = call(inputs, kwargs);
        this.applying = outer;
        return result;
      };
    }
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
