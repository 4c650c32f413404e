import { AtelierError, invariant } from '../shared/errors.js';
import type { GradientSum } from '../shared/gradient-sum.js';
import { LEAST_GRADIENT, unlessNegligible } from '../shared/negligible.js';
import { runKernel } from '../shared/vector/memory.js';
import type { CompiledModel } from '../shared/models/compile.js';
import { clipByGlobalNorm } from './optimizer/clip.js';
import type { UpdateRule } from './optimizer/update-rule.js';

const f = Math.fround;

/**
 * One synchronous update, in place: the sum over the batch becomes a mean, the regularizers' gradient is added
 * once, it is clipped where the rule says so, and the optimizer takes one step. Moving state changes by the mean of the changes the examples made.
 * @param weights parameters, then state
 * @param step from 0, over all epochs
 * @throws AtelierError `run-failed` when the gradient is not finite; `weights` are then as before
 */
export function applyUpdate(
  weights: Float32Array,
  sum: GradientSum,
  model: CompiledModel,
  rule: UpdateRule,
  step: number,
): void {
  invariant(sum.values !== null, 'a step has rows');
  const { trainable } = model.layout;
  const mean = sum.values;
  const probe = meanWithRegularization(mean, sum.rows, weights, model);
  if (probe + (sum.lossSum - sum.lossSum) !== 0) {
    throw new AtelierError(
      'run-failed',
      'the loss or a gradient is not finite: training diverged. Try a smaller --learning-rate.',
    );
  }
  const gradient = mean.subarray(0, trainable);
  if (rule.clipNorm !== null) clipByGlobalNorm(gradient, rule.clipNorm);
  rule.optimizer.update(weights, gradient, rule.learningRate(step));
  for (let i = trainable; i < mean.length; i++) weights[i] = (weights[i] as number) + (mean[i] as number);
}

/**
 * sum / rows + 2 * l2 * w + l1 * sign(w), in place; the division is a product with the
 * float32 nearest to 1 / rows, since a divider does a quarter of what memory brings. What is negligible is zero (shared/negligible.ts).
 * @returns 0 if all of it is finite, else NaN
 */
function meanWithRegularization(
  sum: Float32Array,
  rows: number,
  weights: Float32Array,
  model: CompiledModel,
): number {
  const share = f(1 / rows);
  let probe = 0;
  for (const { offset, size, l1, l2 } of alikeRegularized(model)) {
    const strength = f(2 * l2);
    const [mean, w] = [sum, weights].map((array) => array.subarray(offset, offset + size)) as [
      Float32Array,
      Float32Array,
    ];
    if (l1 === 0 && l2 === 0) {
      const { done, returned } = runKernel('scale', [mean], [share]);
      probe += returned;
      for (let i = done; i < size; i++) {
        const value = unlessNegligible(f(share * (mean[i] as number)), LEAST_GRADIENT);
        mean[i] = value;
        // x - x is 0 for finite x, NaN for the rest.
        probe += value - value;
      }
      continue;
    }
    const { done, returned } =
      l1 === 0 ? runKernel('scaleAndAdd', [mean, w], [share, strength]) : { done: 0, returned: 0 };
    probe += returned;
    for (let i = done; i < size; i++) {
      const weight = w[i] as number;
      const lasso = l1 === 0 ? 0 : f(l1 * Math.sign(weight));
      const penalty = l1 === 0 ? f(strength * weight) : f(f(strength * weight) + lasso);
      const value = unlessNegligible(f(f(share * (mean[i] as number)) + penalty), LEAST_GRADIENT);
      mean[i] = value;
      probe += value - value;
    }
  }
  return probe;
}

interface Regularized {
  readonly offset: number;
  readonly size: number;
  readonly l1: number;
  readonly l2: number;
}

/** The tensors of a model, neighbours with the same regularizers as one; state has none. */
function alikeRegularized({ layout, recipes }: CompiledModel): Regularized[] {
  const alike: Regularized[] = [];
  layout.tensors.forEach(({ offset, size }, index) => {
    const { l1, l2 } = (offset < layout.trainable ? recipes[index] : undefined) ?? { l1: 0, l2: 0 };
    const last = alike.at(-1);
    if (last?.l1 === l1 && last.l2 === l2) alike[alike.length - 1] = { ...last, size: last.size + size };
    else alike.push({ offset, size, l1, l2 });
  });
  return alike;
}
