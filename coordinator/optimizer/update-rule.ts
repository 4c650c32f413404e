import type { TrainingConfig } from '../../shared/config.js';
import type { TensorLayout } from '../../shared/layout.js';
import type { VectorMemory } from '../../shared/vector/memory.js';
import { makeOptimizer } from './make-optimizer.js';
import type { Optimizer } from './optimizer.js';
import { makeSchedule, type Schedule } from './schedule.js';

/** How a trial turns mean gradients into weights. All that changes from step to step is in `optimizer`. */
export interface UpdateRule {
  readonly optimizer: Optimizer;
  readonly learningRate: Schedule;
  /** The largest Euclidean norm a gradient may have; null: any. */
  readonly clipNorm: number | null;
}

export function makeUpdateRule(
  config: TrainingConfig,
  layout: TensorLayout,
  stepsPerEpoch: number,
  memory?: VectorMemory,
): UpdateRule {
  return {
    optimizer: makeOptimizer(config, layout, memory),
    learningRate: scheduleOf(config, stepsPerEpoch),
    clipNorm: config.clipNorm,
  };
}

/** The learning rates of a trial. */
export function scheduleOf(config: TrainingConfig, stepsPerEpoch: number): Schedule {
  const { schedule, learningRate, warmupEpochs, epochs } = config;
  return makeSchedule({
    schedule,
    learningRate,
    warmupSteps: Math.round(warmupEpochs * stepsPerEpoch),
    totalSteps: epochs * stepsPerEpoch,
  });
}
