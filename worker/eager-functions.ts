import type { Tensor } from '@tensorflow/tfjs-core';
import type { RunSpec } from '../shared/protocol/messages.js';
import type { EagerLock } from './eager-lock.js';
import type {
  Batch,
  EvaluationFigures,
  GradientFigures,
  ModelFunctions,
  Weights,
} from './model-functions.js';
import { composedLoss, ModelProgram } from './model-program.js';
import { tf } from './tensorflow.js';

/** The model run op by op, as tfjs does. The reference for the compiled functions, and their fallback. */
export class EagerFunctions implements ModelFunctions {
  private readonly program: ModelProgram;
  private readonly lock: EagerLock;

  private constructor(program: ModelProgram, lock: EagerLock) {
    this.program = program;
    this.lock = lock;
  }

  static async create(spec: RunSpec, lock: EagerLock): Promise<EagerFunctions> {
    const building = lock.with(() => ModelProgram.create(spec));
    return new EagerFunctions(await building, lock);
  }

  gradient(weights: Weights, batch: Batch, out: Float32Array): GradientFigures {
    const { program } = this;
    return this.lock.with(() =>
      tf.tidy(() => {
        this.assign(weights.values);
        const { pixels, labels } = this.tensors(batch);
        const seed = tf.tensor1d(batch.seed, 'int32');
        const [lossSum, correct, ...sums] = program.gradient(
          pixels,
          labels,
          seed,
          composedLoss(program.classes, program.labelSmoothing),
        );
        [...program.trainable, ...program.state].forEach(({ spec }, i) => {
          out.set((sums[i] as Tensor).dataSync(), spec.offset);
        });
        return { lossSum: numberOf(lossSum), correct: numberOf(correct) };
      }),
    );
  }

  evaluate(weights: Weights, batch: Batch): EvaluationFigures {
    const { program } = this;
    return this.lock.with(() =>
      tf.tidy(() => {
        this.assign(weights.values);
        const { pixels, labels } = this.tensors(batch);
        const [lossSum, predictions] = program.evaluate(pixels, labels, composedLoss(program.classes));
        return { lossSum: numberOf(lossSum), predictions: (predictions as Tensor).dataSync() as Int32Array };
      }),
    );
  }

  dispose(): void {
    this.program.dispose();
  }

  private assign(weights: Float32Array): void {
    for (const { spec, variable } of [...this.program.trainable, ...this.program.state]) {
      const values = weights.subarray(spec.offset, spec.offset + spec.size);
      variable.assign(tf.tensor(values, spec.shape, 'float32'));
    }
  }

  private tensors({ rows, images, labels }: Batch): {
    pixels: Tensor;
    labels: ReturnType<typeof tf.tensor1d>;
  } {
    const pixels = tf.tensor(Float32Array.from(images), [rows, images.length / rows], 'float32');
    return { pixels, labels: tf.tensor1d(labels, 'int32') };
  }
}

const numberOf = (tensor: Tensor | undefined): number => tensor?.dataSync()[0] ?? Number.NaN;
