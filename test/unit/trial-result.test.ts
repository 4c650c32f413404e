import { describe, expect, test } from 'vitest';
import { Ema } from '../../coordinator/ema.js';
import { Sgd } from '../../coordinator/optimizer/sgd.js';
import type { ResultOptions } from '../../coordinator/result-weights.js';
import { Trial, type Round, type TrialEffect, type TrialState } from '../../coordinator/trial.js';
import { makeLayout, weightsSha256 } from '../../shared/layout.js';
import type { CompiledModel } from '../../shared/models/compile.js';
import { rowDigest } from '../../shared/row-digest.js';
import { ShardPlan } from '../../shared/shards.js';
import { VectorMemory } from '../../shared/vector/memory.js';

/** One weight, one shard, two steps an epoch; the weight goes up by one in each step. */
const ZEROS = { className: 'Zeros', config: {} };
const model: CompiledModel = {
  topology: { class_name: 'Sequential', config: {} },
  training: { class_name: 'Sequential', config: {} },
  layout: makeLayout([{ name: 'weight', shape: [1] }], []),
  recipes: [{ initializer: ZEROS, l1: 0, l2: 0 }],
};
const SEED = 1;
const plan = new ShardPlan(Uint32Array.of(0, 1, 2, 3), 1, 2);
const PLAIN: ResultOptions = { emaDecay: null, monitor: 'val-loss', patience: null, select: 'last' };

const newTrial = (result: Partial<ResultOptions>, epochs: number, state?: TrialState): Trial =>
  new Trial(
    {
      trial: 0,
      fold: null,
      model,
      plan,
      seed: SEED,
      epochs,
      classes: 2,
      validationRows: 1,
      testRows: 1,
      evaluationRows: 1,
      rule: { optimizer: new Sgd(1, { momentum: 0 }), learningRate: () => 1, clipNorm: null },
      result: { ...PLAIN, ...result },
      weights: new Float32Array(1),
      memory: new VectorMemory(0, 0),
      now: () => 0,
    },
    state,
  );

const roundIn = (effects: readonly TrialEffect[]): Round | undefined =>
  effects.find((effect) => effect.type === 'compute')?.round;

/** What was evaluated, in order: the split and the weight it was given. */
type Evaluated = [split: string, weight: number][];

/** Runs a trial to its end, or up to the round `until`; `valLosses` by epoch. */
function run(trial: Trial, valLosses: readonly number[], until = Infinity): Evaluated {
  const evaluated: Evaluated = [];
  let effects = trial.start();
  for (let round = roundIn(effects), n = 0; round !== undefined && n < until; round = roundIn(effects), n++) {
    if (round.kind === 'step') {
      const order = plan.epochOrder(SEED, 0, round.epoch, 0);
      const digest = rowDigest(order.subarray(round.stepInEpoch * 2, round.stepInEpoch * 2 + 2));
      const sum = { rows: 2, lossSum: 1, correct: 1, values: Float32Array.of(-2) };
      effects = trial.receivePartial(round.round, { start: 0, count: 1 }, sum, [digest]).effects;
    } else {
      evaluated.push([round.split, trial.currentWeights[0] ?? NaN]);
      const lossSum = round.split === 'test' ? 9 : (valLosses[round.epoch] ?? NaN);
      effects = trial.receiveChunk(round.round, 0, {
        rows: 1,
        lossSum,
        confusion: Uint32Array.of(1, 0, 0, 0),
      }).effects;
    }
  }
  return evaluated;
}

const VALIDATIONS = [3, 1, 2, 4, 0];

describe('a trial', () => {
  test('validates and tests the weights as trained by default, through all its epochs', () => {
    const trial = newTrial({}, 3);
    const expected = [2, 4, 6].map((weight) => ['validation', weight]);
    expect(run(trial, VALIDATIONS)).toEqual([...expected, ['test', 6]]);
    expect(trial.summary().validation?.loss).toBe(2);
  });

  test('stops when its patience is over, and tests what it has', () => {
    const trial = newTrial({ patience: 2 }, 5);
    expect(run(trial, VALIDATIONS).map(([split]) => split)).toEqual([
      ...Array<string>(4).fill('validation'),
      'test',
    ]);
    expect(trial.isOver).toBe(true);
    expect(trial.remainingRounds).toBe(0);
    expect(trial.stepsDone).toBe(8);
    expect(trial.summary()).toMatchObject({ status: 'done', validation: { loss: 4 }, test: { loss: 9 } });
  });

  test('tests and keeps the weights of its best epoch where that is asked for, and reports their validation', () => {
    const trial = newTrial({ select: 'best', patience: 2 }, 5);
    expect(run(trial, VALIDATIONS).at(-1)).toEqual(['test', 4]);
    expect([...trial.currentWeights]).toEqual([4]);
    const { weightsSha256: hash, validation, epochs } = trial.summary();
    expect(hash).toBe(weightsSha256(Float32Array.of(4)));
    expect(hash).toBe(epochs[1]?.weightsSha256);
    expect(validation?.loss).toBe(1);
  });

  test('evaluates the moving average where that is asked for, and trains on without it', () => {
    const trial = newTrial({ emaDecay: 0.999 }, 2);
    const ema = new Ema(0.999, Float32Array.of(0));
    const averages = [1, 2, 3, 4].map((weight) => {
      ema.update(Float32Array.of(weight));
      return ema.values[0];
    });
    expect(run(trial, VALIDATIONS)).toEqual([
      ['validation', averages[1]],
      ['validation', averages[3]],
      ['test', averages[3]],
    ]);
    expect(trial.records.at(-1)?.weightsSha256).toBe(weightsSha256(Float32Array.of(4)));
  });

  test('comes to the same result from a checkpoint after any round', () => {
    const options = { emaDecay: 0.9, select: 'best', patience: 2 } as const;
    const whole = newTrial(options, 5);
    run(whole, VALIDATIONS);
    for (let rounds = 0; rounds <= 13; rounds++) {
      const first = newTrial(options, 5);
      run(first, VALIDATIONS, rounds);
      const second = newTrial(options, 5, first.snapshot());
      run(second, VALIDATIONS);
      expect(second.summary(), `after ${rounds} rounds`).toEqual(whole.summary());
      expect(second.currentWeights).toEqual(whole.currentWeights);
    }
  });
});
