import { runKernel } from './vector/memory.js';

/** What one tree node of one step comes to. */
export interface GradientSum {
  /** Examples behind the sum. */
  readonly rows: number;
  /** Sum of the examples' losses. */
  readonly lossSum: number;
  /** Examples whose most probable class is the right one. */
  readonly correct: number;
  /** `layout.size` sums: gradients, then changes of the state, each times its rows. Null exactly when `rows` is 0. */
  readonly values: Float32Array | null;
}

/** `left[i] += right[i]`, each rounded to float32 once. */
export function addInPlace(left: Float32Array, right: Float32Array): Float32Array {
  const { done } = runKernel('add', [left, right], []);
  for (let i = done; i < left.length; i++) left[i] = (left[i] as number) + (right[i] as number);
  return left;
}

/**
 * Left plus right, reusing the left's memory: the `combine` of a gradient's `TreeSum`.
 * @param add as the run's wire adds (shared/wire.ts)
 */
export function addGradientSums(left: GradientSum, right: GradientSum, add = addInPlace): GradientSum {
  let values = left.values ?? right.values;
  if (left.values !== null && right.values !== null) values = add(left.values, right.values);
  return {
    rows: left.rows + right.rows,
    lossSum: left.lossSum + right.lossSum,
    correct: left.correct + right.correct,
    values,
  };
}
