import { LEAST_MOMENT, unlessNegligible } from '../../shared/negligible.js';
import { runKernel, VectorMemory } from '../../shared/vector/memory.js';
import type { Optimizer, OptimizerState } from './optimizer.js';
import { copyState, takenOver } from './state.js';

export interface SgdOptions {
  readonly momentum: number;
}

interface SgdState extends OptimizerState {
  readonly arrays: Readonly<Record<'velocity', Float32Array>>;
}

const f = Math.fround;

/**
 * Stochastic gradient descent with (heavy-ball) momentum as Keras has it: velocity = momentum * velocity -
 * learningRate * gradient; parameter += velocity. A negligible velocity counts as zero (shared/negligible.ts).
 */
export class Sgd implements Optimizer {
  private readonly options: SgdOptions;
  private state: SgdState;

  /** @param memory where its array is; together with the parameters' and the gradient's a step is faster */
  constructor(size: number, options: SgdOptions, memory = new VectorMemory(0, 0)) {
    this.options = options;
    this.state = { arrays: { velocity: memory.array(size) }, numbers: {} };
  }

  update(parameters: Float32Array, gradient: Float32Array, learningRate: number): void {
    const rate = f(learningRate);
    const momentum = f(this.options.momentum);
    const { velocity } = this.state.arrays;
    const reached = [parameters.subarray(0, gradient.length), gradient, velocity];
    const { done } = runKernel('sgd', reached, [momentum, rate]);
    for (let i = done; i < gradient.length; i++) {
      const vi = unlessNegligible(
        f(f(momentum * (velocity[i] as number)) - f(rate * (gradient[i] as number))),
        LEAST_MOMENT,
      );
      velocity[i] = vi;
      parameters[i] = f((parameters[i] as number) + vi);
    }
  }

  snapshot(): OptimizerState {
    return copyState(this.state);
  }

  restore(state: OptimizerState): void {
    this.state = takenOver(state, this.state);
  }
}
