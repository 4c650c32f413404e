import type { Optimizer, OptimizerState } from './optimizer.js';
import { checkedState, copyState } from './state.js';

export interface SgdOptions {
  readonly momentum: number;
}

interface SgdState extends OptimizerState {
  readonly arrays: Readonly<Record<'velocity', Float32Array>>;
}

const f = Math.fround;

/**
 * Stochastic gradient descent with (heavy-ball) momentum as Keras has it: velocity = momentum * velocity -
 * learningRate * gradient; parameter += velocity.
 */
export class Sgd implements Optimizer {
  private readonly options: SgdOptions;
  private state: SgdState;

  constructor(size: number, options: SgdOptions) {
    this.options = options;
    this.state = { arrays: { velocity: new Float32Array(size) }, numbers: {} };
  }

  update(parameters: Float32Array, gradient: Float32Array, learningRate: number): void {
    const rate = f(learningRate);
    const momentum = f(this.options.momentum);
    const { velocity } = this.state.arrays;
    for (let i = 0; i < gradient.length; i++) {
      const vi = f(f(momentum * (velocity[i] as number)) - f(rate * (gradient[i] as number)));
      velocity[i] = vi;
      parameters[i] = f((parameters[i] as number) + vi);
    }
  }

  snapshot(): OptimizerState {
    return copyState(this.state);
  }

  restore(state: OptimizerState): void {
    this.state = checkedState(state, this.state);
  }
}
