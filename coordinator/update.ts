import { AtelierError, invariant } from '../shared/errors.js';
import type { GradientSum } from '../shared/gradient-sum.js';
import { runKernel } from '../shared/vector/memory.js';
import type { CompiledModel } from '../shared/models/compile.js';
import { clipByGlobalNorm } from './optimizer/clip.js';
import type { UpdateRule } from './optimizer/update-rule.js';

const f = Math.fround;
const NOTHING_DONE = { done: 0 };

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
  // x - x is 0 for finite x, NaN for the rest: one pass finds any non-finite value.
  const { done, returned } = runKernel('divide', [mean], [sum.rows]);
  let probe = sum.lossSum - sum.lossSum + returned;
  for (let i = done; i < mean.length; i++) {
    const value = f((mean[i] as number) / sum.rows);
    mean[i] = value;
    probe += value - value;
  }
  if (probe !== 0) {
    throw new AtelierError(
      'run-failed',
      'the loss or a gradient is not finite: training diverged. Try a smaller --learning-rate.',
    );
  }
  const gradient = mean.subarray(0, trainable);
  addRegularization(gradient, weights, model);
  if (rule.clipNorm !== null) clipByGlobalNorm(gradient, rule.clipNorm);
  rule.optimizer.update(weights, gradient, rule.learningRate(step));
  for (let i = trainable; i < mean.length; i++) weights[i] = (weights[i] as number) + (mean[i] as number);
}

/** gradient += 2 * l2 * w + l1 * sign(w), for the tensors that have a regularizer. */
function addRegularization(gradient: Float32Array, weights: Float32Array, model: CompiledModel): void {
  model.layout.tensors.forEach(({ offset, size }, index) => {
    const { l1, l2 } = model.recipes[index] ?? { l1: 0, l2: 0 };
    if ((l1 === 0 && l2 === 0) || offset >= gradient.length) return;
    const scale = f(2 * l2);
    const reached = [gradient, weights].map((array) => array.subarray(offset, offset + size));
    const { done } = l1 === 0 ? runKernel('addScaled', reached, [scale]) : NOTHING_DONE;
    for (let i = offset + done; i < offset + size; i++) {
      const w = weights[i] as number;
      const penalty = l1 === 0 ? f(scale * w) : f(f(scale * w) + f(l1 * Math.sign(w)));
      gradient[i] = (gradient[i] as number) + penalty;
    }
  });
}
