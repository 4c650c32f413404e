import type { TrainingConfig } from '../../shared/config.js';
import { Adam } from './adam.js';
import { Sgd } from './sgd.js';

/**
 * One rule for turning a gradient into an update. Every operation is rounded to float32, in a fixed order, so
 * the result does not depend on the machine.
 */
export interface Optimizer {
  /** Updates the first `gradient.length` elements of `parameters` in place. */
  update(parameters: Float32Array, gradient: Float32Array): void;
}

/** @param size number of trainable parameters */
export function makeOptimizer(config: TrainingConfig, size: number): Optimizer {
  switch (config.optimizer) {
    case 'adam':
      return new Adam(size, { learningRate: config.learningRate });
    case 'sgd':
      return new Sgd(size, { learningRate: config.learningRate, momentum: config.momentum });
  }
}
