import type { TrainingConfig } from '../../shared/config.js';
import { makeOptimizer } from './make-optimizer.js';
import type { Optimizer } from './optimizer.js';

/** How a trial turns mean gradients into weights. All that changes from step to step is in `optimizer`. */
export interface UpdateRule {
  readonly optimizer: Optimizer;
  /** @param step from 0, over all epochs */
  readonly learningRate: (step: number) => number;
}

/** @param size number of trainable parameters */
export function makeUpdateRule(config: TrainingConfig, size: number): UpdateRule {
  return { optimizer: makeOptimizer(config, size), learningRate: () => config.learningRate };
}
