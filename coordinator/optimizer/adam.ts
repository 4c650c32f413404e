import { LEAST_MOMENT, unlessNegligible } from '../../shared/negligible.js';
import { runKernel, VectorMemory } from '../../shared/vector/memory.js';
import type { Optimizer, OptimizerState } from './optimizer.js';
import { copyState, takenOver } from './state.js';

export interface AdamOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

/** Keras' defaults. */
const DEFAULTS: AdamOptions = { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };

interface AdamState extends OptimizerState {
  readonly arrays: Readonly<Record<'m' | 'v', Float32Array>>;
  /** beta^t as running products: `**` is not the same on every engine. */
  readonly numbers: Readonly<Record<'beta1Power' | 'beta2Power', number>>;
}

const f = Math.fround;

/**
 * Adam (Kingma & Ba 2015, algorithm 1) in the order of operations the end of their section 2 gives: with
 * c = sqrt(1 - beta2^t), the step is learningRate * c / (1 - beta1^t) * m / (sqrt(v) + epsilon * c).
 * Negligible moments count as zero (shared/negligible.ts).
 */
export class Adam implements Optimizer {
  private readonly options: AdamOptions;
  private state: AdamState;

  /** @param memory where its arrays are; together with the parameters' and the gradient's a step is faster */
  constructor(size: number, options: Partial<AdamOptions> = {}, memory = new VectorMemory(0, 0)) {
    this.options = { ...DEFAULTS, ...options };
    this.state = {
      arrays: { m: memory.array(size), v: memory.array(size) },
      numbers: { beta1Power: 1, beta2Power: 1 },
    };
  }

  update(parameters: Float32Array, gradient: Float32Array, learningRate: number): void {
    const { beta1, beta2, epsilon } = this.options;
    const { arrays, numbers } = this.state;
    const beta1Power = numbers.beta1Power * beta1;
    const beta2Power = numbers.beta2Power * beta2;
    this.state = { arrays, numbers: { beta1Power, beta2Power } };
    const correction = Math.sqrt(1 - beta2Power);
    const rate = f((learningRate * correction) / (1 - beta1Power));
    const stabilizer = f(epsilon * correction);
    const [b1, c1, b2, c2] = [f(beta1), f(1 - beta1), f(beta2), f(1 - beta2)];
    const { m, v } = arrays;
    const reached = [parameters.subarray(0, gradient.length), gradient, m, v];
    const { done } = runKernel('adam', reached, [b1, c1, b2, c2, rate, stabilizer]);
    for (let i = done; i < gradient.length; i++) {
      const g = gradient[i] as number;
      const mi = unlessNegligible(f(f(b1 * (m[i] as number)) + f(c1 * g)), LEAST_MOMENT);
      const vi = unlessNegligible(f(f(b2 * (v[i] as number)) + f(c2 * f(g * g))), LEAST_MOMENT);
      m[i] = mi;
      v[i] = vi;
      parameters[i] = f((parameters[i] as number) - f(f(rate * mi) / f(f(Math.sqrt(vi)) + stabilizer)));
    }
  }

  snapshot(): OptimizerState {
    return copyState(this.state);
  }

  restore(state: OptimizerState): void {
    this.state = takenOver(state, this.state);
  }
}
