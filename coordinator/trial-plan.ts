import { createHash } from 'node:crypto';
import { MAX_TRIALS, trainingPart, type RunConfig } from '../shared/config.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError, invariant } from '../shared/errors.js';
import { cutFolds } from '../shared/folds.js';
import type { CompiledModel } from '../shared/models/compile.js';
import { ShardPlan } from '../shared/shards.js';
import { VectorMemory } from '../shared/vector/memory.js';
import { initialWeights } from './initial-weights.js';
import { makeUpdateRule } from './optimizer/update-rule.js';
import { Trial, type TrialState } from './trial.js';

/** Rows of one evaluation chunk: small enough to share out, large enough to be fast. */
export const EVALUATION_ROWS = 250;

/** The weights and what an optimizer remembers of them, as arrays of their size. */
const STATE_ARRAYS = 3;
/** Where a slot leaves gradients: by turns in two places, in a third while a task that was dropped has not ended. */
const PLACES_PER_SHARD = 3;

/** One trial of a run before it begins. */
export interface TrialPlan {
  readonly trial: number;
  /** Null for a plain trial and for the final fit on all rows. */
  readonly fold: number | null;
  /** Dataset rows, ascending. */
  readonly training: Uint32Array;
  readonly validation: Uint32Array;
  readonly shards: ShardPlan;
  /** Hash of everything that decides the weights: a checkpoint fits a trial with the same one alone. */
  readonly identity: string;
  /** The trial with fresh weights and a fresh optimizer, or as `state` says. */
  /** @param updated see `TrialOptions` */
  make(state?: TrialState, updated?: (round: number) => void): Trial;
}

interface PlanOptions {
  readonly config: RunConfig;
  readonly model: CompiledModel;
  readonly dataset: Dataset;
  /** Milliseconds from anywhere; for durations alone. */
  readonly now: () => number;
}

/** Which rows a trial is trained, validated and tested on. */
interface Split {
  readonly fold: number | null;
  readonly training: Uint32Array;
  readonly validation: Uint32Array;
  readonly test: boolean;
}

/**
 * The trials of a run: one, or with `--folds` one for each fold of each repeat, and the final fit.
 * @throws AtelierError `usage` when the config leaves too few rows
 */
export function planTrials(options: PlanOptions): TrialPlan[] {
  const { config, model, dataset, now } = options;
  const splits = config.folds === null ? [plainSplit(options)] : foldSplits(options, config.folds);
  invariant(splits.length <= MAX_TRIALS, 'the config bounds the number of trials');
  return splits.map(({ fold, training, validation, test }, trial) => {
    const shards = new ShardPlan(training, config.shards, config.batchSize);
    return {
      trial,
      fold,
      training,
      validation,
      shards,
      identity: identityOf(options, trial),
      make: (state, updated) => {
        const places = PLACES_PER_SHARD * config.shards;
        const memory = new VectorMemory(STATE_ARRAYS + config.shards + places, model.layout.size, 'helped');
        const weights = memory.pages(model.layout.size) ?? memory.array(model.layout.size);
        weights.set(initialWeights(model, config.seed, trial));
        return new Trial(
          {
            trial,
            fold,
            model,
            plan: shards,
            seed: config.seed,
            epochs: config.epochs,
            classes: dataset.info.classNames.length,
            validationRows: validation.length,
            testRows: test ? dataset.info.testRows : 0,
            evaluationRows: EVALUATION_ROWS,
            result: config,
            wire: config.wire,
            rule: makeUpdateRule(config, model.layout, shards.stepsPerEpoch, memory),
            weights,
            memory,
            places,
            ...(updated === undefined ? {} : { updated }),
            now,
          },
          state,
        );
      },
    };
  });
}

function plainSplit({ config, dataset }: PlanOptions): Split {
  const { trainRows } = dataset.info;
  const trainable = trainRows - config.validationRows;
  if (trainable < config.shards) {
    throw new AtelierError(
      'usage',
      `--validation-rows ${config.validationRows} leaves ${Math.max(0, trainable)} of ${trainRows} training rows: ` +
        `at least --shards ${config.shards} must be left`,
    );
  }
  return {
    fold: null,
    training: range(config.validationRows, trainable),
    validation: range(0, config.validationRows),
    test: true,
  };
}

function foldSplits({ config, dataset }: PlanOptions, folds: number): Split[] {
  const { trainRows } = dataset.info;
  if (trainRows - Math.ceil(trainRows / folds) < config.shards || trainRows < folds) {
    throw new AtelierError(
      'usage',
      `--folds ${folds} leaves fewer than --shards ${config.shards} rows to train on: the dataset has ${trainRows}`,
    );
  }
  const labels = dataset.labels.subarray(0, trainRows);
  const { seed, stratified } = config;
  const cuts = Array.from({ length: config.repeats }, (_, repeat) =>
    cutFolds(labels, { folds, repeat, seed, stratified }),
  ).flat();
  const splits: Split[] = cuts.map((cut, fold) => ({ ...cut, fold, test: false }));
  if (config.finalFit) {
    splits.push({ fold: null, training: range(0, trainRows), validation: new Uint32Array(0), test: true });
  }
  return splits;
}

/** Everything that decides a trial's weights but the platform. */
function identityOf({ config, model, dataset }: PlanOptions, trial: number): string {
  const { layout, topology } = model;
  const parts = { training: trainingPart(config), dataset: dataset.info.sha256, layout, topology, trial };
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

const range = (start: number, count: number): Uint32Array =>
  Uint32Array.from({ length: count }, (_, i) => start + i);
