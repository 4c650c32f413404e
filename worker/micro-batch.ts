import { leftCount } from '../shared/tree.js';
import type { Wire } from '../shared/wire.js';
import type { Place } from './augmentation/augment.js';
import type { GradientFigures } from './model-functions.js';

/** What one shard contributes to one step. */
export interface MicroBatch {
  /** Dataset rows; none in a last, smaller batch that does not reach this shard. */
  readonly rows: Uint32Array;
  /** Two words for the random layers. */
  readonly seed: Int32Array;
  /** What augmentation draws from. */
  readonly place: Place;
}

/** Writes the gradient sum of one micro-batch, which has rows, into `out`. */
export type GradientOf = (batch: MicroBatch, out: Float32Array) => GradientFigures;

const NOTHING: GradientFigures = { lossSum: 0, correct: 0 };

/**
 * The gradient sum of one node of the reduction tree, from the micro-batches of its leaves, left to right.
 * @param out where the sum goes; as it was when no micro-batch has rows
 * @param scratch for each level of the tree a buffer as long as `out`
 * @param wire how gradients and their sums are rounded
 */
export function gradientOfNode(
  batches: readonly MicroBatch[],
  out: Float32Array,
  gradientOf: GradientOf,
  scratch: (level: number) => Float32Array,
  wire: Wire,
  level = 0,
): GradientFigures {
  const [first] = batches;
  if (first === undefined) return NOTHING;
  if (batches.length === 1) {
    if (first.rows.length === 0) return NOTHING;
    const figures = gradientOf(first, out);
    wire.round(out);
    return figures;
  }
  const half = leftCount(batches.length);
  const [left, right] = [batches.slice(0, half), batches.slice(half)];
  const sumOf = (part: readonly MicroBatch[], into: Float32Array, depth: number): GradientFigures =>
    gradientOfNode(part, into, gradientOf, scratch, wire, depth);
  if (!hasRows(right)) return sumOf(left, out, level);
  if (!hasRows(left)) return sumOf(right, out, level);
  const a = sumOf(left, out, level);
  const other = scratch(level);
  const b = sumOf(right, other, level + 1);
  wire.add(out, other);
  return { lossSum: a.lossSum + b.lossSum, correct: a.correct + b.correct };
}

export const hasRows = (batches: readonly MicroBatch[]): boolean =>
  batches.some(({ rows }) => rows.length > 0);
