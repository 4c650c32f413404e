/**
 * One rule for turning a gradient into an update. Every operation is rounded to float32, in a fixed order, so
 * the result does not depend on the machine.
 */
export interface Optimizer {
  /** Updates the first `gradient.length` elements of `parameters` in place. */
  update(parameters: Float32Array, gradient: Float32Array): void;
}
