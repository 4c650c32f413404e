import type { OptimizerState } from './optimizer/optimizer.js';
import { checkedState } from './optimizer/state.js';

const f = Math.fround;

/** Decay after `updates` updates is at most (1 + updates) / (WARM_UP + updates). */
const WARM_UP = 10;

/**
 * The exponential moving average of a trial's parameters and state: average += (1 - d) * (weights - average), where d
 * is `decay`, less in the beginning: min(decay, (1 + n) / (10 + n)) at update n from 0, as TensorFlow's
 * `ExponentialMovingAverage` has it. So the random first weights are soon forgotten.
 */
export class Ema {
  private readonly decay: number;
  private average: Float32Array;
  private updates = 0;

  /** @param weights the initial ones: the average starts there */
  constructor(decay: number, weights: Float32Array) {
    this.decay = decay;
    this.average = weights.slice();
  }

  /** The average as of now; a view, not a copy. */
  get values(): Float32Array {
    return this.average;
  }

  update(weights: Float32Array): void {
    const { average, updates } = this;
    const part = f(1 - Math.min(this.decay, (1 + updates) / (WARM_UP + updates)));
    this.updates = updates + 1;
    for (let i = 0; i < average.length; i++) {
      const value = average[i] as number;
      average[i] = f(value + f(part * f((weights[i] as number) - value)));
    }
  }

  snapshot(): OptimizerState {
    return { arrays: { ema: this.average.slice() }, numbers: { emaUpdates: this.updates } };
  }

  /** @throws AtelierError `data` when `state` has no average of this size */
  restore(state: OptimizerState): void {
    const { arrays, numbers } = checkedState(state, {
      arrays: { ema: this.average },
      numbers: { emaUpdates: 0 },
    });
    this.average = arrays.ema;
    this.updates = numbers.emaUpdates;
  }
}
