import { addGradientSums, type GradientSum } from '../shared/gradient-sum.js';
import type { VectorMemory } from '../shared/vector/memory.js';

/**
 * Where a step's partials are held until they are added: beside the weights and the optimizer's state, where the
 * vector kernels reach them. There are as many buffers as partials were ever held at once, at most one for each shard.
 */
export class GradientBuffers {
  private readonly memory: VectorMemory;
  private readonly size: number;
  private readonly all: Float32Array[] = [];
  private free: Float32Array[] = [];

  /** @param size floats of a gradient */
  constructor(memory: VectorMemory, size: number) {
    this.memory = memory;
    this.size = size;
  }

  /** Forgets what was held: a new step begins. */
  reset(): void {
    this.free = [...this.all];
  }

  /** The same sum, in a buffer of its own. */
  hold(sum: GradientSum): GradientSum {
    if (sum.values === null) return sum;
    const values = this.free.pop() ?? this.make();
    values.set(sum.values);
    return { ...sum, values };
  }

  /** Left plus right, both of them held; the right one's buffer becomes free. The `combine` of a `TreeSum`. */
  readonly combine = (left: GradientSum, right: GradientSum): GradientSum => {
    if (left.values !== null && right.values !== null) this.free.push(right.values);
    return addGradientSums(left, right);
  };

  private make(): Float32Array {
    const buffer = this.memory.array(this.size);
    this.all.push(buffer);
    return buffer;
  }
}
