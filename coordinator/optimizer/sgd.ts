import type { Optimizer, OptimizerState } from './optimizer.js';

export interface SgdOptions {
  readonly learningRate: number;
  readonly momentum: number;
}

const f = Math.fround;

/**
 * Stochastic gradient descent with (heavy-ball) momentum as Keras has it: velocity = momentum * velocity -
 * learningRate * gradient; parameter += velocity.
 */
export class Sgd implements Optimizer {
  private readonly options: SgdOptions;
  private readonly velocity: Float32Array;

  constructor(size: number, options: SgdOptions) {
    this.options = options;
    this.velocity = new Float32Array(size);
  }

  update(parameters: Float32Array, gradient: Float32Array): void {
    const rate = f(this.options.learningRate);
    const momentum = f(this.options.momentum);
    const { velocity } = this;
    for (let i = 0; i < gradient.length; i++) {
      const vi = f(f(momentum * (velocity[i] as number)) - f(rate * (gradient[i] as number)));
      velocity[i] = vi;
      parameters[i] = f((parameters[i] as number) + vi);
    }
  }

  snapshot(): OptimizerState {
    return { numbers: {}, arrays: { velocity: this.velocity.slice() } };
  }

  restore({ arrays }: OptimizerState): void {
    this.velocity.set(arrays['velocity'] ?? []);
  }
}
