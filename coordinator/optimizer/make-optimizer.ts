import type { TrainingConfig } from '../../shared/config.js';
import type { TensorLayout } from '../../shared/layout.js';
import type { VectorMemory } from '../../shared/vector/memory.js';
import { Adam } from './adam.js';
import { AdamW } from './adamw.js';
import type { Optimizer } from './optimizer.js';
import { Sgd } from './sgd.js';

/** Kernels decay; biases and the scales of normalization, which have one axis, do not. */
const MIN_DECAYED_RANK = 2;

export function makeOptimizer(
  { optimizer, momentum, weightDecay }: TrainingConfig,
  { tensors, trainable }: TensorLayout,
  memory?: VectorMemory,
): Optimizer {
  switch (optimizer) {
    case 'adam':
      return new Adam(trainable, {}, memory);
    case 'adamw': {
      const decayed = tensors.filter(
        ({ offset, shape }) => offset < trainable && shape.length >= MIN_DECAYED_RANK,
      );
      return new AdamW(trainable, { weightDecay, decayed }, memory);
    }
    case 'sgd':
      return new Sgd(trainable, { momentum }, memory);
  }
}
