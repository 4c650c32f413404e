import type { ScheduleName } from '../../shared/recipe.js';
import { sineCosine } from '../../shared/sine-cosine.js';

/** The learning rate of a step; steps count from 0 over all epochs. */
export type Schedule = (step: number) => number;

export interface ScheduleOptions {
  readonly schedule: ScheduleName;
  /** The highest learning rate. */
  readonly learningRate: number;
  /** Steps of linear rise before `constant` and `cosine`. */
  readonly warmupSteps: number;
  /** Steps of the whole training. */
  readonly totalSteps: number;
}

/** PyTorch's defaults of `OneCycleLR`. */
const ONE_CYCLE = { rise: 0.3, startDivisor: 25, endDivisor: 1e4 } as const;

/** From `start` to `end` along half a cosine; `part` in [0, 1]. */
const anneal = (start: number, end: number, part: number): number =>
  end + ((start - end) / 2) * (1 + sineCosine(Math.PI * part).cosine);

/**
 * - `constant`: the learning rate.
 * - `cosine`: half a cosine from it down to 0 (Loshchilov & Hutter 2017, equation 5, without restarts).
 * - `one-cycle`: half a cosine up from 1/25 of it over 30 % of the steps, then one down to 1/250,000 (Smith & Topin
 *   2017, as PyTorch's `OneCycleLR` has it; momentum does not cycle).
 *
 * The first two may begin with a warm-up: step t of the first `warmupSteps` takes (t + 1) / warmupSteps of the rate.
 */
export function makeSchedule(options: ScheduleOptions): Schedule {
  const { schedule, learningRate, warmupSteps, totalSteps } = options;
  const warm = (after: Schedule): Schedule => {
    return (step) => (step < warmupSteps ? (learningRate * (step + 1)) / warmupSteps : after(step));
  };
  switch (schedule) {
    case 'constant':
      return warm(() => learningRate);
    case 'cosine':
      return warm((step) => anneal(learningRate, 0, (step - warmupSteps) / (totalSteps - warmupSteps)));
    case 'one-cycle': {
      const start = learningRate / ONE_CYCLE.startDivisor;
      const end = start / ONE_CYCLE.endDivisor;
      const top = ONE_CYCLE.rise * totalSteps - 1;
      const last = totalSteps - 1;
      return (step) =>
        step <= top
          ? anneal(start, learningRate, top === 0 ? 1 : step / top)
          : anneal(learningRate, end, (step - top) / (last - top));
    }
  }
}
