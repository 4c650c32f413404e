import type { TrainingConfig } from '../../shared/config.js';
import { Adam } from './adam.js';
import type { Optimizer } from './optimizer.js';
import { Sgd } from './sgd.js';

/** @param size number of trainable parameters */
export function makeOptimizer(config: TrainingConfig, size: number): Optimizer {
  switch (config.optimizer) {
    case 'adam':
      return new Adam(size);
    case 'sgd':
      return new Sgd(size, { momentum: config.momentum });
  }
}
