import { addInPlace } from '../../../shared/gradient-sum.js';
import { leftCount, type Range } from '../../../shared/tree.js';

/** Floats from one shard's gradient to the next one's: both are views of the same numbers. */
const STRIDE = 16;
const LOSS_OF_A_ROW = 2.5;

/** Gradients that cost nothing to compute: each shard's is a view, a little further on, of the same random numbers. */
export class MadeUpGradients {
  private readonly numbers: Float32Array;
  private readonly size: number;

  constructor(size: number, shards: number) {
    this.size = size;
    let state = 1;
    this.numbers = Float32Array.from({ length: size + STRIDE * shards }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32 - 0.5;
    });
  }

  /** The sum over a node of the tree: a view for a leaf, else a copy. */
  sumOf({ start, count }: Range): Float32Array {
    if (count === 1) return this.numbers.subarray(start * STRIDE, start * STRIDE + this.size);
    const left = leftCount(count);
    const sum = this.sumOf({ start, count: left });
    return addInPlace(
      left === 1 ? sum.slice() : sum,
      this.sumOf({ start: start + left, count: count - left }),
    );
  }

  static lossOf(rows: number): number {
    return LOSS_OF_A_ROW * rows;
  }
}
