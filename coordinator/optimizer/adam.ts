import type { Optimizer, OptimizerState } from './optimizer.js';

export interface AdamOptions {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

/** Keras' defaults. */
const DEFAULTS: AdamOptions = { learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };

const f = Math.fround;

/**
 * Adam (Kingma & Ba 2015, algorithm 1) in the order of operations the end of their section 2 gives: with
 * c = sqrt(1 - beta2^t), the step is learningRate * c / (1 - beta1^t) * m / (sqrt(v) + epsilon * c).
 */
export class Adam implements Optimizer {
  private readonly options: AdamOptions;
  private readonly m: Float32Array;
  private readonly v: Float32Array;
  /** beta^t as running products: `**` is not the same on every engine. */
  private beta1Power = 1;
  private beta2Power = 1;

  constructor(size: number, options: Partial<AdamOptions> = {}) {
    this.options = { ...DEFAULTS, ...options };
    this.m = new Float32Array(size);
    this.v = new Float32Array(size);
  }

  update(parameters: Float32Array, gradient: Float32Array): void {
    const { learningRate, beta1, beta2, epsilon } = this.options;
    this.beta1Power *= beta1;
    this.beta2Power *= beta2;
    const correction = Math.sqrt(1 - this.beta2Power);
    const rate = f((learningRate * correction) / (1 - this.beta1Power));
    const stabilizer = f(epsilon * correction);
    const [b1, c1, b2, c2] = [f(beta1), f(1 - beta1), f(beta2), f(1 - beta2)];
    const { m, v } = this;
    for (let i = 0; i < gradient.length; i++) {
      const g = gradient[i] as number;
      const mi = f(f(b1 * (m[i] as number)) + f(c1 * g));
      const vi = f(f(b2 * (v[i] as number)) + f(c2 * f(g * g)));
      m[i] = mi;
      v[i] = vi;
      parameters[i] = f((parameters[i] as number) - f(f(rate * mi) / f(f(Math.sqrt(vi)) + stabilizer)));
    }
  }

  snapshot(): OptimizerState {
    const { beta1Power, beta2Power, m, v } = this;
    return { numbers: { beta1Power, beta2Power }, arrays: { m: m.slice(), v: v.slice() } };
  }

  restore({ numbers, arrays }: OptimizerState): void {
    this.beta1Power = numbers['beta1Power'] ?? 1;
    this.beta2Power = numbers['beta2Power'] ?? 1;
    this.m.set(arrays['m'] ?? []);
    this.v.set(arrays['v'] ?? []);
  }
}
