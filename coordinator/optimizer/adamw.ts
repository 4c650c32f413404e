import type { VectorMemory } from '../../shared/vector/memory.js';
import { Adam, type AdamOptions } from './adam.js';
import type { Optimizer, OptimizerState } from './optimizer.js';

/** Elements from `offset`, `size` of them. */
export interface Stretch {
  readonly offset: number;
  readonly size: number;
}

export interface AdamWOptions extends Partial<AdamOptions> {
  readonly weightDecay: number;
  /** The parameters that decay. */
  readonly decayed: readonly Stretch[];
}

const f = Math.fround;

/**
 * Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, scaled as in PyTorch's `AdamW`): first
 * parameter -= learningRate * weightDecay * parameter, then Adam's step, whose gradient knows nothing of the decay.
 */
export class AdamW implements Optimizer {
  private readonly options: AdamWOptions;
  private readonly adam: Adam;

  constructor(size: number, options: AdamWOptions, memory?: VectorMemory) {
    this.options = options;
    this.adam = new Adam(size, options, memory);
  }

  update(parameters: Float32Array, gradient: Float32Array, learningRate: number): void {
    const rate = f(learningRate * this.options.weightDecay);
    for (const { offset, size } of this.options.decayed) {
      for (let i = offset; i < offset + size; i++) {
        const value = parameters[i] as number;
        parameters[i] = f(value - f(rate * value));
      }
    }
    this.adam.update(parameters, gradient, learningRate);
  }

  snapshot(): OptimizerState {
    return this.adam.snapshot();
  }

  restore(state: OptimizerState): void {
    this.adam.restore(state);
  }
}
