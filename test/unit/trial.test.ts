import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Adam } from '../../coordinator/optimizer/adam.js';
import type { Optimizer, OptimizerState } from '../../coordinator/optimizer/optimizer.js';
import {
  Trial,
  type Round,
  type TrialEffect,
  type TrialState,
  type Verdict,
} from '../../coordinator/trial.js';
import type { ChunkResult } from '../../coordinator/evaluation-sum.js';
import { addGradientSums, type GradientSum } from '../../shared/gradient-sum.js';
import { makeLayout, weightsSha256 } from '../../shared/layout.js';
import type { CompiledModel } from '../../shared/models/compile.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { rowDigest, type RowDigest } from '../../shared/row-digest.js';
import { ShardPlan } from '../../shared/shards.js';
import { VectorMemory } from '../../shared/vector/memory.js';
import { coveringNodes, TreeSum, type Range } from '../../shared/tree.js';

const SHARDS = 6;
const SEED = 5;
const ALL: Range = { start: 0, count: SHARDS };
const TRAINING_ROWS = 45;
const VALIDATION_ROWS = 25;
const TEST_ROWS = 30;
const EVALUATION_ROWS = 10;
const CLASSES = 3;
const ZEROS = { className: 'Zeros', config: {} };

const model: CompiledModel = {
  topology: { class_name: 'Sequential', config: {} },
  training: { class_name: 'Sequential', config: {} },
  layout: makeLayout(
    [
      { name: 'kernel', shape: [4, 3] },
      { name: 'bias', shape: [3] },
    ],
    [{ name: 'moving_mean', shape: [2] }],
  ),
  recipes: [
    { initializer: ZEROS, l1: 0, l2: 0.01 },
    { initializer: ZEROS, l1: 0, l2: 0 },
    { initializer: ZEROS, l1: 0, l2: 0 },
  ],
};
const plan = new ShardPlan(
  Uint32Array.from({ length: TRAINING_ROWS }, (_, i) => i),
  SHARDS,
  12,
);

const numbers = (round: number, unit: number): RandomStream =>
  new RandomStream({ seed: 3, purpose: Purpose.initialWeights, trial: 0, epoch: round, shard: unit });

const initial = (): Float32Array => {
  const stream = numbers(1_000, 0);
  return Float32Array.from({ length: model.layout.size }, () => stream.uniform());
};

/** What shard `shard` comes to in a round: made up, but a function of both. */
function shardSum({ round, stepInEpoch }: Round & { kind: 'step' }, shard: number): GradientSum {
  const rows = plan.microBatchRows(shard, stepInEpoch);
  if (rows === 0) return { rows, lossSum: 0, correct: 0, values: null };
  const stream = numbers(round, shard);
  return {
    rows,
    lossSum: rows * stream.uniform(),
    correct: stream.below(rows + 1),
    values: Float32Array.from({ length: model.layout.size }, () => stream.normal() * 10 ** stream.below(4)),
  };
}

/** Of the rows that the shards of a node use in a step. */
function digestsOf(
  { epoch, stepInEpoch }: Pick<Round & { kind: 'step' }, 'epoch' | 'stepInEpoch'>,
  node: Range,
): RowDigest[] {
  const { microBatch } = plan;
  return Array.from({ length: node.count }, (_, i) =>
    rowDigest(
      plan
        .epochOrder(SEED, 0, epoch, node.start + i)
        .subarray(stepInEpoch * microBatch, (stepInEpoch + 1) * microBatch),
    ),
  );
}
/** Of the first step. */
const firstDigests = (node: Range): RowDigest[] => digestsOf({ epoch: 0, stepInEpoch: 0 }, node);

function nodeSum(round: Round & { kind: 'step' }, node: Range): GradientSum {
  const tree = new TreeSum<GradientSum>(node, addGradientSums);
  let sum: GradientSum | undefined;
  for (let shard = node.start; shard < node.start + node.count; shard++) {
    sum = tree.add({ start: shard, count: 1 }, shardSum(round, shard));
  }
  if (sum === undefined) throw new Error('a node has leaves');
  return sum;
}

function chunkResult(round: Round & { kind: 'evaluate' }, chunk: number): ChunkResult {
  const total = round.split === 'test' ? TEST_ROWS : VALIDATION_ROWS;
  const rows = Math.min(EVALUATION_ROWS, total - chunk * EVALUATION_ROWS);
  const stream = numbers(round.round, chunk);
  const confusion = new Uint32Array(CLASSES ** 2);
  for (let i = 0; i < rows; i++) {
    const cell = stream.below(CLASSES ** 2);
    confusion[cell] = (confusion[cell] ?? 0) + 1;
  }
  return { rows, lossSum: rows * stream.uniform(), confusion };
}

interface Answer {
  readonly verdict: Verdict;
  readonly effects: TrialEffect[];
}

/** One answer that some worker could give. */
type Part = (trial: Trial) => Answer;

function partsOf(round: Round, cuts: readonly boolean[]): Part[] {
  if (round.kind === 'evaluate') {
    return Array.from(
      { length: round.units },
      (_, chunk) => (trial: Trial) => trial.receiveChunk(round.round, chunk, chunkResult(round, chunk)),
    );
  }
  const starts = Array.from({ length: SHARDS }, (_, i) => i).filter((i) => i === 0 || cuts[i] === true);
  return starts
    .flatMap((start, i) => coveringNodes({ start, count: (starts[i + 1] ?? SHARDS) - start }, SHARDS))
    .map(
      (node) => (trial: Trial) =>
        trial.receivePartial(round.round, node, nodeSum(round, node), digestsOf(round, node)),
    );
}

const newTrial = (
  optimizer: Optimizer = new Adam(model.layout.trainable),
  validationRows = VALIDATION_ROWS,
  state?: TrialState,
): Trial =>
  new Trial(
    {
      trial: 0,
      fold: null,
      model,
      plan,
      seed: SEED,
      epochs: 2,
      classes: CLASSES,
      validationRows,
      testRows: TEST_ROWS,
      evaluationRows: EVALUATION_ROWS,
      rule: { optimizer, learningRate: () => 0.001, clipNorm: null },
      result: { emaDecay: null, monitor: 'val-loss', patience: null, select: 'last' },
      weights: initial(),
      memory: new VectorMemory(0, 0),
      now: () => 0,
    },
    state,
  );

const roundIn = (effects: readonly TrialEffect[]): Round | undefined =>
  effects.find((effect) => effect.type === 'compute')?.round;

/** How a cluster may behave in one round. */
interface Behaviour {
  readonly cuts: readonly boolean[];
  readonly order: readonly number[];
  /** Which answers come twice, and which come once more a round later. */
  readonly twice: readonly boolean[];
  readonly late: readonly boolean[];
}
const ORDERLY: Behaviour = { cuts: new Array<boolean>(SHARDS).fill(true), order: [], twice: [], late: [] };

/** Runs a trial to its end. */
function runTrial(
  behaviours: readonly Behaviour[],
  trial = newTrial(),
): { trial: Trial; effects: TrialEffect[] } {
  const all: TrialEffect[] = [];
  let effects = trial.start();
  let late: Part[] = [];
  for (let n = 0; ; n++) {
    all.push(...effects);
    const round = roundIn(effects);
    if (round === undefined) break;
    for (const part of late) expect(part(trial)).toEqual({ verdict: 'late', effects: [] });
    const { cuts, order, twice, late: laggards } = behaviours[n % behaviours.length] ?? ORDERLY;
    const parts = partsOf(round, cuts)
      .map((part, i) => ({ part, key: order[i] ?? i }))
      .sort((a, b) => a.key - b.key)
      .map(({ part }) => part);
    effects = [];
    parts.forEach((part, i) => {
      const answer = part(trial);
      expect(answer.verdict).toBe('used');
      effects.push(...answer.effects);
      if (twice[i] === true) expect(part(trial)).toEqual({ verdict: 'late', effects: [] });
    });
    late = parts.filter((_, i) => laggards[i] === true);
  }
  return { trial, effects: all };
}

const behaviour: fc.Arbitrary<Behaviour> = fc.record({
  cuts: fc.array(fc.boolean(), { minLength: SHARDS, maxLength: SHARDS }),
  order: fc.array(fc.nat(), { minLength: SHARDS, maxLength: SHARDS }),
  twice: fc.array(fc.boolean(), { minLength: SHARDS, maxLength: SHARDS }),
  late: fc.array(fc.boolean(), { minLength: SHARDS, maxLength: SHARDS }),
});

const reference = runTrial([ORDERLY]);

describe('a trial', () => {
  test('ends in the same bits and the same summary whoever answers what, when and how often', () => {
    const expected = reference.trial.summary();
    fc.assert(
      fc.property(fc.array(behaviour, { minLength: 1, maxLength: 12 }), (behaviours) => {
        expect(runTrial(behaviours).trial.summary()).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  test('changes its weights in every step', () => {
    const trial = newTrial();
    const seen = new Set([weightsSha256(trial.currentWeights)]);
    let round = roundIn(trial.start());
    for (let step = 0; step < plan.stepsPerEpoch; step++) {
      if (round?.kind !== 'step') throw new Error('a step was expected');
      const [part] = partsOf(round, []);
      round = roundIn(part?.(trial).effects ?? []);
      seen.add(weightsSha256(trial.currentWeights));
    }
    expect(seen.size).toBe(1 + plan.stepsPerEpoch);
  });

  test('goes through its epochs step by step, validates after each and tests at the end', () => {
    const rounds = reference.effects.flatMap((effect) =>
      effect.type === 'compute'
        ? [
            effect.round.kind === 'step'
              ? `${effect.round.epoch}.${effect.round.stepInEpoch}`
              : effect.round.split,
          ]
        : [],
    );
    expect(rounds).toEqual([
      '0.0',
      '0.1',
      '0.2',
      '0.3',
      'validation',
      '1.0',
      '1.1',
      '1.2',
      '1.3',
      'validation',
      'test',
    ]);
    expect(reference.effects.at(-1)).toEqual({ type: 'finished' });
  });

  test('counts every training row once an epoch', () => {
    const { epochs } = reference.trial.summary();
    expect(epochs.map(({ epoch, rows }) => [epoch, rows])).toEqual([
      [1, TRAINING_ROWS],
      [2, TRAINING_ROWS],
    ]);
  });

  test('records the mean loss and accuracy over the rows of an epoch', () => {
    const steps = reference.effects
      .flatMap((effect) => (effect.type === 'compute' ? [effect.round] : []))
      .filter((round) => round.kind === 'step' && round.epoch === 1) as (Round & { kind: 'step' })[];
    const sums = steps.flatMap((round) =>
      Array.from({ length: SHARDS }, (_, shard) => shardSum(round, shard)),
    );
    const record = reference.trial.summary().epochs[1];
    expect(record?.loss).toBeCloseTo(sums.reduce((sum, s) => sum + s.lossSum, 0) / TRAINING_ROWS, 10);
    expect(record?.accuracy).toBe(sums.reduce((sum, s) => sum + s.correct, 0) / TRAINING_ROWS);
  });

  test('combines the chunks of an evaluation in their order', () => {
    const round = reference.effects
      .flatMap((effect) => (effect.type === 'compute' ? [effect.round] : []))
      .find((r) => r.kind === 'evaluate' && r.split === 'test') as Round & { kind: 'evaluate' };
    const chunks = Array.from({ length: round.units }, (_, chunk) => chunkResult(round, chunk));
    const cell = (truth: number, guess: number): number =>
      chunks.reduce((sum, { confusion }) => sum + (confusion[truth * CLASSES + guess] ?? 0), 0);
    const confusion = [0, 1, 2].map((truth) => [0, 1, 2].map((guess) => cell(truth, guess)));
    expect(reference.trial.summary().test).toEqual({
      rows: TEST_ROWS,
      loss: chunks.reduce((sum, { lossSum }) => sum + lossSum, 0) / TEST_ROWS,
      accuracy: (cell(0, 0) + cell(1, 1) + cell(2, 2)) / TEST_ROWS,
      confusion,
    });
  });

  test('without validation rows goes on without validation', () => {
    const { trial } = runTrial([ORDERLY], newTrial(new Adam(model.layout.trainable), 0));
    const { validation, epochs } = trial.summary();
    expect({ validation, valLoss: epochs.map(({ valLoss }) => valLoss) }).toEqual({
      validation: null,
      valLoss: [null, null],
    });
  });
});

describe('an answer that cannot be right', () => {
  const good = { rows: 4, lossSum: 1, correct: 1, values: new Float32Array(model.layout.size) };

  test.each([
    ['of too many rows', 0, { start: 0, count: 2 }, { ...good, rows: 5 }],
    ['of too few rows', 0, { start: 0, count: 2 }, { ...good, rows: 3 }],
    ['of no rows', 0, { start: 0, count: 2 }, { ...good, rows: 0, values: null }],
    ['of more correct than rows', 0, { start: 0, count: 2 }, { ...good, correct: 5 }],
    ['of a range that is not a node', 0, { start: 1, count: 2 }, good],
    ['of shards there are not', 0, { start: 6, count: 2 }, good],
    ['of a round that was never asked for', 1, { start: 0, count: 2 }, good],
  ])('%s changes nothing', (_name, round, node, sum) => {
    const trial = newTrial();
    trial.start();
    expect(
      trial.receivePartial(
        round,
        node,
        sum,
        node.start < SHARDS
          ? firstDigests(node)
          : [
              [0, 0],
              [0, 0],
            ],
      ),
    ).toEqual({ verdict: 'invalid', effects: [] });
    expect(
      trial.receivePartial(0, { start: 0, count: 2 }, good, firstDigests({ start: 0, count: 2 })).verdict,
    ).toBe('used');
  });

  test('is a chunk while a step is under way', () => {
    const trial = newTrial();
    trial.start();
    const chunk = { rows: 10, lossSum: 0, confusion: new Uint32Array(CLASSES ** 2) };
    expect(trial.receiveChunk(1, 0, chunk)).toEqual({ verdict: 'invalid', effects: [] });
  });

  describe('about an evaluation', () => {
    const inValidation = (): { trial: Trial; round: Round & { kind: 'evaluate' } } => {
      const trial = newTrial();
      let round = roundIn(trial.start());
      while (round?.kind === 'step') round = roundIn(partsOf(round, [])[0]?.(trial).effects ?? []);
      // One part may be several nodes: six shards are one node.
      if (round === undefined) throw new Error('an evaluation was expected');
      return { trial, round };
    };
    const counts = (...cells: number[]): Uint32Array =>
      Uint32Array.from({ length: 9 }, (_, i) => cells[i] ?? 0);

    test.each([
      ['of too many rows', 0, { rows: 11, lossSum: 0, confusion: counts(11) }],
      ['of a full chunk where the last is shorter', 2, { rows: 10, lossSum: 0, confusion: counts(10) }],
      ['whose confusion matrix counts other rows', 0, { rows: 10, lossSum: 0, confusion: counts(9) }],
      ['whose confusion matrix has another size', 0, { rows: 10, lossSum: 0, confusion: Uint32Array.of(10) }],
      ['of a chunk there is not', 3, { rows: 10, lossSum: 0, confusion: counts(10) }],
    ])('%s changes nothing', (_name, chunk, result) => {
      const { trial, round } = inValidation();
      expect(trial.receiveChunk(round.round, chunk, result)).toEqual({ verdict: 'invalid', effects: [] });
    });
  });
});

describe('a gradient that is not finite', () => {
  class Untouched implements Optimizer {
    update(): void {
      throw new Error('the optimizer was called');
    }
    snapshot(): OptimizerState {
      return { arrays: {}, numbers: {} };
    }
    restore(): void {
      throw new Error('the optimizer was called');
    }
  }

  test.each([
    ['NaN', { values: Number.NaN, lossSum: 1 }],
    ['infinite', { values: Infinity, lossSum: 1 }],
    ['of a loss that is not finite', { values: 0, lossSum: Number.NaN }],
  ])('(%s) fails the trial before the optimizer has touched the weights', (_name, { values, lossSum }) => {
    const trial = newTrial(new Untouched());
    trial.start();
    const sum = { rows: 12, lossSum, correct: 0, values: new Float32Array(model.layout.size) };
    sum.values[model.layout.size - 1] = values;
    const { verdict, effects } = trial.receivePartial(0, ALL, sum, firstDigests(ALL));
    expect(verdict).toBe('used');
    expect(effects).toMatchObject([{ type: 'failed', error: { code: 'run-failed' } }]);
    expect(trial.currentWeights).toEqual(initial());
  });

  test('is named with its epoch and step', () => {
    const trial = newTrial();
    trial.start();
    const values = new Float32Array(model.layout.size).fill(Number.NaN);
    const { effects } = trial.receivePartial(
      0,
      ALL,
      { rows: 12, lossSum: 0, correct: 0, values },
      firstDigests(ALL),
    );
    const message = effects.map((effect) => (effect.type === 'failed' ? effect.error.message : '')).join('');
    expect(message).toMatch(/^epoch 1, step 1: .*not finite/);
  });

  test('ends the trial: later answers are late', () => {
    const trial = newTrial();
    trial.start();
    const values = new Float32Array(model.layout.size).fill(Number.NaN);
    const sum = { rows: 12, lossSum: 0, correct: 0, values };
    trial.receivePartial(0, ALL, sum, firstDigests(ALL));
    expect(trial.receivePartial(0, ALL, sum, firstDigests(ALL))).toEqual({
      verdict: 'late',
      effects: [],
    });
  });
});

/** A step or evaluation answered in an orderly way, by one answer for each shard or chunk; `limit` of them. */
function answerSome(trial: Trial, round: Round, limit = Infinity): TrialEffect[] {
  const parts = partsOf(round, ORDERLY.cuts);
  return parts.slice(0, limit).flatMap((part) => part(trial).effects);
}

describe('a trial that goes on from a snapshot', () => {
  /** A state as it comes back from a file. */
  const saved = ({ arrays, ...rest }: TrialState): TrialState => ({
    ...(JSON.parse(JSON.stringify(rest)) as Omit<TrialState, 'arrays'>),
    arrays: Object.fromEntries(Object.entries(arrays).map(([name, values]) => [name, values.slice()])),
  });
  const TOTAL_ROUNDS = 2 * (plan.stepsPerEpoch + 1) + 1;

  /** Goes through `rounds` rounds, then answers `parts` of the next one. */
  function stopped(rounds: number, parts: number): Trial {
    const trial = newTrial();
    let round = roundIn(trial.start());
    for (let n = 0; n < rounds && round !== undefined; n++) round = roundIn(answerSome(trial, round));
    if (round !== undefined) answerSome(trial, round, parts);
    return trial;
  }

  /** Answers are made up from the number of the round, which begins at 0 again: they are shifted back. */
  function resume(state: TrialState, roundsBefore: number): Trial {
    const trial = newTrial(undefined, undefined, state);
    let round = roundIn(trial.start());
    for (let n = roundsBefore; round !== undefined; n++) {
      const { round: number } = round;
      const asBefore = { ...round, round: n };
      const parts: Part[] =
        round.kind === 'step'
          ? Array.from({ length: SHARDS }, (_, start) => ({ start, count: 1 })).map(
              (node) => (t: Trial) =>
                t.receivePartial(
                  number,
                  node,
                  nodeSum(asBefore as Round & { kind: 'step' }, node),
                  digestsOf(asBefore as Round & { kind: 'step' }, node),
                ),
            )
          : Array.from(
              { length: round.units },
              (_, chunk) => (t: Trial) =>
                t.receiveChunk(number, chunk, chunkResult(asBefore as Round & { kind: 'evaluate' }, chunk)),
            );
      const effects = parts.flatMap((part) => part(trial).effects);
      round = roundIn(effects);
    }
    return trial;
  }

  test('at any round, with any part of it answered, ends in the same bits and the same summary', () => {
    const expected = reference.trial.summary();
    fc.assert(
      fc.property(fc.nat(TOTAL_ROUNDS), fc.nat(SHARDS - 1), (rounds, parts) => {
        const trial = stopped(rounds, parts);
        // An evaluation may be over with its parts: the round that follows has nothing of it.
        const { roundsDone } = trial;
        expect(resume(saved(trial.snapshot()), roundsDone).summary()).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });

  test('twice in a row does, too', () => {
    const first = stopped(3, 2);
    const second = newTrial(undefined, undefined, saved(first.snapshot()));
    second.start();
    expect(resume(saved(second.snapshot()), 3).summary()).toEqual(reference.trial.summary());
  });

  test('knows how far it is', () => {
    for (let rounds = 0; rounds <= TOTAL_ROUNDS; rounds++) {
      const trial = newTrial(undefined, undefined, saved(stopped(rounds, 0).snapshot()));
      expect([trial.roundsDone, trial.remainingRounds]).toEqual([rounds, TOTAL_ROUNDS - rounds]);
    }
  });

  test('has a snapshot that training does not change', () => {
    const trial = stopped(2, 0);
    const state = trial.snapshot();
    const copy = saved(state);
    const round = { kind: 'step', trial: 0, round: 2, units: SHARDS, epoch: 0, stepInEpoch: 2 } as const;
    answerSome(trial, round);
    expect(trial.roundsDone).toBe(3);
    expect(state).toEqual(copy);
  });

  test('that is over asks for nothing', () => {
    const trial = newTrial(undefined, undefined, saved(reference.trial.snapshot()));
    expect({ effects: trial.start(), isOver: trial.isOver }).toEqual({ effects: [], isOver: true });
  });
});

describe('an answer about other rows', () => {
  const sum = { rows: 4, lossSum: 1, correct: 1, values: new Float32Array(model.layout.size) };
  const node = { start: 0, count: 2 };
  const right = firstDigests(node);

  test.each([
    ['of the next step', digestsOf({ epoch: 0, stepInEpoch: 1 }, node)],
    ['of the shards exchanged', right.toReversed()],
    ['of fewer shards', right.slice(1)],
    ['of more shards', [...right, ...right]],
    ['without any', []],
  ])('(%s) changes nothing', (_name, digests) => {
    const trial = newTrial();
    trial.start();
    expect(trial.receivePartial(0, node, sum, digests)).toEqual({ verdict: 'invalid', effects: [] });
    expect(trial.receivePartial(0, node, sum, right).verdict).toBe('used');
  });
});
