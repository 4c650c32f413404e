import { describe, expect, test } from 'vitest';
import { bestEpoch, isPatienceOver } from '../../coordinator/early-stopping.js';
import { Ema } from '../../coordinator/ema.js';
import { ResultWeights, type ResultOptions } from '../../coordinator/result-weights.js';
import { parseRunConfig } from '../../shared/config.js';
import type { EpochRecord } from '../../shared/summary.js';
import { atelierError } from '../support/errors.js';

const record = (valLoss: number | null, valAccuracy: number | null = null): EpochRecord => ({
  epoch: 1,
  loss: 1,
  accuracy: 0.5,
  valLoss,
  valAccuracy,
  rows: 1,
  seconds: 1,
  weightsSha256: '0'.repeat(64),
});
const losses = (...values: (number | null)[]): EpochRecord[] => values.map((value) => record(value));

describe('the moving average', () => {
  test('follows its definition, with a small decay at first', () => {
    const weights = Float32Array.of(1, -2, 0.5);
    const ema = new Ema(0.9, weights);
    const expected = Float64Array.from(weights);
    for (let n = 0; n < 200; n++) {
      weights.forEach((w, i) => (weights[i] = w + Math.sin(n + i)));
      const decay = Math.min(0.9, (1 + n) / (10 + n));
      expected.forEach((average, i) => (expected[i] = decay * average + (1 - decay) * (weights[i] ?? NaN)));
      ema.update(weights);
      ema.values.forEach((value, i) => expect(value).toBeCloseTo(expected[i] ?? NaN, 4));
    }
  });

  test('of weights that do not move is those weights, to the bit', () => {
    const weights = Float32Array.of(0.1, -3e-8, 7);
    const ema = new Ema(0.999, weights);
    for (let n = 0; n < 100; n++) ema.update(weights);
    expect(ema.values).toEqual(weights);
  });

  test('goes on from its state to the same bits', () => {
    const weightsAt = (n: number): Float32Array => Float32Array.of(n, 1 / (n + 1), -n * n);
    const whole = new Ema(0.99, weightsAt(0));
    const first = new Ema(0.99, weightsAt(0));
    for (let n = 1; n < 20; n++) whole.update(weightsAt(n));
    for (let n = 1; n < 8; n++) first.update(weightsAt(n));
    const second = new Ema(0.99, weightsAt(5));
    second.restore(first.snapshot());
    for (let n = 8; n < 20; n++) second.update(weightsAt(n));
    expect(second.snapshot()).toEqual(whole.snapshot());
  });

  test('refuses the state of another model', () => {
    const state = new Ema(0.9, new Float32Array(3)).snapshot();
    expect(atelierError('data', () => new Ema(0.9, new Float32Array(2)).restore(state)).message).toMatch(
      /ema has 3/,
    );
  });
});

describe('the best epoch', () => {
  test('has the smallest loss or the largest accuracy, the first of equals', () => {
    const records = [record(0.5, 0.8), record(0.3, 0.9), record(0.3, 0.95), record(0.4, 0.95)];
    expect(bestEpoch(records, 'val-loss')).toBe(1);
    expect(bestEpoch(records, 'val-accuracy')).toBe(2);
  });

  test('is none where nothing was validated', () => {
    expect(bestEpoch([], 'val-loss')).toBe(-1);
    expect(bestEpoch(losses(null, null), 'val-accuracy')).toBe(-1);
  });
});

describe('patience', () => {
  test.each([
    [[3, 2, 1], 1, false],
    [[3, 2, 2], 1, true],
    [[3, 2, 2.5], 2, false],
    [[3, 2, 2.5, 2.1], 2, true],
    [[3, 2, 2.5, 1.9], 2, false],
    [[], 1, false],
    [[null, null, null], 1, false],
  ])('with losses %j and %d is over: %s', (values, patience, over) => {
    expect(isPatienceOver(losses(...values), 'val-loss', patience)).toBe(over);
  });

  test('that is not asked for never ends', () => {
    expect(isPatienceOver(losses(1, 2, 3, 4, 5, 6), 'val-loss', null)).toBe(false);
  });
});

describe('the weights of the result', () => {
  const PLAIN: ResultOptions = { emaDecay: null, monitor: 'val-loss', patience: null, select: 'last' };

  test('are the trained ones, uncopied, when nothing is asked for', () => {
    const weights = Float32Array.of(1, 2);
    const result = new ResultWeights(PLAIN, weights);
    result.stepped();
    expect(result.epochEnded(losses(1))).toEqual({ isResult: true, isLast: false });
    expect(result.validated).toBe(weights);
    expect(result.result).toBe(weights);
    expect(result.snapshot()).toEqual({ arrays: {}, numbers: {} });
  });

  /** Trains through epochs of these validation losses; the weights are the number of the epoch. */
  function train(result: ResultWeights, weights: Float32Array, validation: number[], from = 0): boolean[] {
    const records = losses(...validation.slice(0, from));
    return validation.slice(from).map((loss) => {
      records.push(record(loss));
      weights.fill(records.length);
      result.stepped();
      return result.epochEnded(records).isResult;
    });
  }

  test('are those of the best epoch where the best are to be kept', () => {
    const weights = new Float32Array(2);
    const result = new ResultWeights({ ...PLAIN, select: 'best' }, weights);
    expect(train(result, weights, [3, 1, 2, 1])).toEqual([true, true, false, false]);
    expect([...result.result]).toEqual([2, 2]);
    expect([...result.validated]).toEqual([4, 4]);
  });

  test('are the average as it was after the best epoch where both are asked for', () => {
    const weights = new Float32Array(1);
    const result = new ResultWeights({ ...PLAIN, emaDecay: 0.999, select: 'best' }, weights);
    train(result, weights, [3, 1]);
    const average = result.validated[0] ?? NaN;
    train(result, weights, [3, 1, 2], 2);
    expect(result.result[0]).toBe(average);
    expect(result.validated[0]).not.toBe(average);
    expect(average).toBeCloseTo(0.9 + (9 / 11) * 1.1, 5);
  });

  test('come back from a state, with the average and the best epoch', () => {
    const options = { ...PLAIN, emaDecay: 0.9, select: 'best' } as const;
    const validation = [3, 1, 2, 0.5, 4];
    const whole = new Float32Array(2);
    const reference = new ResultWeights(options, whole);
    train(reference, whole, validation);
    const weights = new Float32Array(2);
    const first = new ResultWeights(options, weights);
    train(first, weights, validation.slice(0, 3));
    const second = new ResultWeights(options, weights);
    const state = first.snapshot();
    second.restore({
      arrays: { ...state.arrays, weights, m: weights },
      numbers: { ...state.numbers, beta1Power: 1 },
    });
    train(second, weights, validation, 3);
    expect(second.snapshot()).toEqual(reference.snapshot());
    expect(second.result).toEqual(reference.result);
  });

  test('of a trial without validation are the last ones, and its patience does not run out', () => {
    const weights = new Float32Array(1);
    const result = new ResultWeights({ ...PLAIN, select: 'best', patience: 1 }, weights);
    expect(result.epochEnded(losses(null, null))).toEqual({ isResult: true, isLast: false });
    expect(result.result).toBe(weights);
  });
});

describe('a recipe', () => {
  test.each([
    [{ schedule: 'one-cycle', warmupEpochs: 1 }, /--warmup-epochs does not go with --schedule one-cycle/],
    [{ epochs: 3, warmupEpochs: 4 }, /--warmup-epochs 4 is more than --epochs 3/],
    [{ validationRows: 0, patience: 2 }, /--patience needs validation/],
    [{ validationRows: 0, select: 'best' }, /--select best needs validation/],
    [{ emaDecay: 1 }, /--ema-decay 1/],
    [{ labelSmoothing: 1 }, /--label-smoothing 1/],
    [{ clipNorm: 0 }, /--clip-norm 0/],
    [{ augment: 'some' }, /--augment "some"/],
    [{ augmentFlip: 2 }, /--augment-flip 2/],
    [{ augmentShearDegrees: 90 }, /--augment-shear-degrees 90/],
  ])('of %j is refused', (values, message) => {
    expect(atelierError('usage', () => parseRunConfig(values)).message).toMatch(message);
  });

  test('with patience and folds needs no validation rows of its own', () => {
    expect(parseRunConfig({ validationRows: 0, folds: 5, patience: 2 }).patience).toBe(2);
  });
});
