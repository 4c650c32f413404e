/** All that an optimizer remembers between updates: what a checkpoint must hold to go on to the same bits. */
export interface OptimizerState {
  /** By name; one element for each trainable parameter. */
  readonly arrays: Readonly<Record<string, Float32Array>>;
  /** By name; doubles. */
  readonly numbers: Readonly<Record<string, number>>;
}

/**
 * One rule for turning a gradient into an update. Every operation is rounded to float32, in a fixed order, so
 * the result does not depend on the machine.
 */
export interface Optimizer {
  /** Updates the first `gradient.length` elements of `parameters` in place. */
  update(parameters: Float32Array, gradient: Float32Array, learningRate: number): void;
  /** A copy of the state, as of now. */
  snapshot(): OptimizerState;
  /**
   * Goes on from what `state` has under its own names, which is copied.
   * @throws AtelierError `data` when it has no state of an optimizer of this kind and size; nothing is changed then
   */
  restore(state: OptimizerState): void;
}
