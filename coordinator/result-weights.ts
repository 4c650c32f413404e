import type { Recipe } from '../shared/recipe.js';
import type { EpochRecord } from '../shared/summary.js';
import { bestEpoch, isPatienceOver } from './early-stopping.js';
import { Ema } from './ema.js';
import type { OptimizerState } from './optimizer/optimizer.js';
import { checkedState } from './optimizer/state.js';

export type ResultOptions = Pick<Recipe, 'emaDecay' | 'monitor' | 'patience' | 'select'>;

/**
 * Which weights a trial is judged by and leaves behind: those being trained, their moving average, or either as it was
 * after the best epoch. Where nothing of it is asked for, they are the trained weights themselves, uncopied.
 */
export class ResultWeights {
  private readonly options: ResultOptions;
  private readonly weights: Float32Array;
  private readonly ema: Ema | null;
  private best: Float32Array | null = null;

  /** @param weights parameters and state of the trial, which changes them in place */
  constructor(options: ResultOptions, weights: Float32Array) {
    this.options = options;
    this.weights = weights;
    this.ema = options.emaDecay === null ? null : new Ema(options.emaDecay, weights);
  }

  /** After each update of the weights. */
  stepped(): void {
    this.ema?.update(this.weights);
  }

  /** What the validation after an epoch takes. */
  get validated(): Float32Array {
    return this.ema?.values ?? this.weights;
  }

  /**
   * After the record of an epoch is made. A trial that is not validated trains to its end and keeps its last weights.
   * @param records of all epochs so far
   * @returns whether the result is now that of this epoch, and whether the trial stops here
   */
  epochEnded(records: readonly EpochRecord[]): { isResult: boolean; isLast: boolean } {
    const { monitor, patience, select } = this.options;
    const best = select === 'best' ? bestEpoch(records, monitor) : -1;
    const isResult = best === -1 || best === records.length - 1;
    if (best !== -1 && isResult) this.best = this.validated.slice();
    return { isResult, isLast: isPatienceOver(records, monitor, patience) };
  }

  /** What the test takes, and what is kept: as of now, or of the best epoch so far. */
  get result(): Float32Array {
    return this.best ?? this.validated;
  }

  snapshot(): OptimizerState {
    const { arrays, numbers } = this.ema?.snapshot() ?? { arrays: {}, numbers: {} };
    return { arrays: { ...arrays, ...(this.best === null ? {} : { best: this.best.slice() }) }, numbers };
  }

  /** @param state may hold more. Throws AtelierError `data` when what it holds is not of this model. */
  restore(state: OptimizerState): void {
    this.ema?.restore(state);
    if (state.arrays['best'] === undefined) this.best = null;
    else this.best = checkedState(state, { arrays: { best: this.weights }, numbers: {} }).arrays.best;
  }
}
