/** All that an optimizer remembers between steps. */
export interface OptimizerState {
  readonly numbers: Readonly<Record<string, number>>;
  readonly arrays: Readonly<Record<string, Float32Array>>;
}

/**
 * One rule for turning a gradient into an update. Every operation is rounded to float32, in a fixed order, so
 * the result does not depend on the machine.
 */
export interface Optimizer {
  /** Updates the first `gradient.length` elements of `parameters` in place. */
  update(parameters: Float32Array, gradient: Float32Array): void;
  /** A copy of what it remembers. */
  snapshot(): OptimizerState;
  /** Goes on from a copy taken of an optimizer of the same kind and size. */
  restore(state: OptimizerState): void;
}
