import { initialWeights } from '../../coordinator/initial-weights.js';
import { makeUpdateRule } from '../../coordinator/optimizer/update-rule.js';
import { EVALUATION_ROWS, planTrials, type TrialPlan } from '../../coordinator/trial-plan.js';
import { applyUpdate } from '../../coordinator/update.js';
import { parseRunConfig, type RunConfig } from '../../shared/config.js';
import type { Dataset } from '../../shared/dataset/load.js';
import { makeLayout, weightsSha256 } from '../../shared/layout.js';
import type { CompiledModel } from '../../shared/models/compile.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { toyEvaluation, toyGradient, type ToyRows } from './toy.js';

export const IMAGE_BYTES = 4;
export const CLASSES = 3;
const NO_REGULARIZER = { l1: 0, l2: 0 };
const TOPOLOGY = { class_name: 'Sequential', config: { name: 'toy', layers: [] } };

/** 15 parameters and 2 of moving state. */
const MODEL: CompiledModel = {
  topology: TOPOLOGY,
  training: TOPOLOGY,
  layout: makeLayout(
    [
      { name: 'kernel', shape: [IMAGE_BYTES, CLASSES] },
      { name: 'bias', shape: [CLASSES] },
    ],
    [{ name: 'moving', shape: [2] }],
  ),
  recipes: ['RandomNormal', 'Zeros', 'Ones'].map((className) => ({
    initializer: { className, config: {} },
    ...NO_REGULARIZER,
  })),
};

/** What one trial must come to. */
export interface Expected {
  readonly weightsSha256: string;
  readonly epochs: readonly {
    loss: number;
    accuracy: number;
    valLoss: number | null;
    valAccuracy: number | null;
    rows: number;
    weightsSha256: string;
  }[];
  readonly testLoss: number | null;
  /** Loss sum of each step. */
  readonly steps: readonly number[];
}

/** A training to simulate, and its result as a plain loop computes it. */
export interface Scenario {
  readonly config: RunConfig;
  readonly model: CompiledModel;
  readonly dataset: Dataset;
  readonly plans: (now: () => number) => TrialPlan[];
  readonly expected: readonly Expected[];
}

function makeDataset(trainRows: number, testRows: number): Dataset {
  const rows = trainRows + testRows;
  const images = new Uint8Array(new SharedArrayBuffer(rows * IMAGE_BYTES));
  const labels = new Uint8Array(new SharedArrayBuffer(rows));
  images.forEach((_, i) => (images[i] = (i * 37 + (i % 11) * 5) % 256));
  labels.forEach((_, i) => (labels[i] = (i * 7 + (i >> 2)) % CLASSES));
  const classNames = Array.from({ length: CLASSES }, (_, i) => String(i));
  const sha256 = `${trainRows}`.padStart(64, '0');
  const info = {
    name: 'toy',
    sha256,
    trainRows,
    testRows,
    imageShape: [2, 2, 1] as [number, number, number],
    classNames,
  };
  return { info, folder: '', images, labels };
}

function makeScenario(settings: Partial<RunConfig>, dataset: Dataset): Scenario {
  const config = parseRunConfig({ dataset: 'toy', epochs: 2, waitSeconds: 60, ...settings });
  const plans = (now: () => number): TrialPlan[] => planTrials({ config, model: MODEL, dataset, now });
  const expected = plans(() => 0).map((plan) => trainPlainly(plan, config, dataset));
  return { config, model: MODEL, dataset, plans, expected };
}

interface Sum {
  values: Float32Array | null;
  lossSum: number;
  correct: number;
}

/** The nearest value of 8 bits of mantissa, ties to even: what bf16 leaves. */
function halved(value: number): number {
  if (value === 0) return value;
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 7);
  const [below, rest] = [Math.floor(value / unit), value / unit - Math.floor(value / unit)];
  return unit * (rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1);
}

/** Training as a plain loop: no cluster, no state machine, the additions of a step as a recursion. */
function trainPlainly(plan: TrialPlan, config: RunConfig, dataset: Dataset): Expected {
  const { shards, validation, trial } = plan;
  const { seed } = config;
  const data: ToyRows = {
    images: dataset.images,
    labels: dataset.labels,
    imageBytes: IMAGE_BYTES,
    classes: CLASSES,
  };
  const weights = initialWeights(MODEL, seed, trial);
  const rule = makeUpdateRule(config, MODEL.layout, shards.stepsPerEpoch);
  const sent = (values: Float32Array): Float32Array => (config.wire === 'bf16' ? values.map(halved) : values);
  const epochs: Expected['epochs'][number][] = [];
  const steps: number[] = [];

  const leaf = (epoch: number, shard: number, step: number): Sum => {
    const from = step * shards.microBatch;
    const rows = shards.epochOrder(seed, trial, epoch, shard).slice(from, from + shards.microBatch);
    if (rows.length === 0) return { values: null, lossSum: 0, correct: 0 };
    const stream = new RandomStream({ seed, purpose: Purpose.dropout, trial, epoch, shard }, step);
    const words = Int32Array.of(stream.uint32(), stream.uint32());
    const values = new Float32Array(MODEL.layout.size);
    const figures = toyGradient(sent(weights), rows, words, data, values);
    return { values: sent(values), ...figures };
  };
  const node = (epoch: number, step: number, start: number, count: number): Sum => {
    if (count === 1) return leaf(epoch, start, step);
    let half = 1;
    while (half * 2 < count) half *= 2;
    const left = node(epoch, step, start, half);
    const right = node(epoch, step, start + half, count - half);
    const { values: a } = left;
    const { values: b } = right;
    return {
      values: a === null ? b : b === null ? a : sent(a.map((value, i) => value + (b[i] as number))),
      lossSum: left.lossSum + right.lossSum,
      correct: left.correct + right.correct,
    };
  };
  const evaluate = (rows: Uint32Array): { loss: number; accuracy: number } => {
    let loss = 0;
    let right = 0;
    for (let from = 0; from < rows.length; from += EVALUATION_ROWS) {
      const { lossSum, confusion } = toyEvaluation(weights, rows.slice(from, from + EVALUATION_ROWS), data);
      loss += lossSum;
      for (let c = 0; c < CLASSES; c++) right += confusion[c * CLASSES + c] ?? 0;
    }
    return { loss: loss / rows.length, accuracy: right / rows.length };
  };

  for (let epoch = 0; epoch < config.epochs; epoch++) {
    let lossSum = 0;
    let correct = 0;
    for (let step = 0; step < shards.stepsPerEpoch; step++) {
      const sum = node(epoch, step, 0, shards.shards);
      const rows = shards.batchRows(step);
      applyUpdate(weights, { ...sum, rows }, MODEL, rule, epoch * shards.stepsPerEpoch + step);
      steps.push(sum.lossSum);
      lossSum += sum.lossSum;
      correct += sum.correct;
    }
    const { length } = shards.rows;
    const valued = validation.length > 0 ? evaluate(validation) : null;
    epochs.push({
      loss: lossSum / length,
      accuracy: correct / length,
      valLoss: valued?.loss ?? null,
      valAccuracy: valued?.accuracy ?? null,
      rows: length,
      weightsSha256: weightsSha256(weights),
    });
  }
  const { trainRows, testRows } = dataset.info;
  const testing = Uint32Array.from({ length: testRows }, (_, i) => trainRows + i);
  return {
    weightsSha256: weightsSha256(weights),
    epochs,
    testLoss: plan.fold === null ? evaluate(testing).loss : null,
    steps,
  };
}

let made: readonly Scenario[] | undefined;

/** The trainings that seeds choose from. */
export function scenarios(): readonly Scenario[] {
  if (made !== undefined) return made;
  const small = makeDataset(26, 7);
  const large = makeDataset(550, 270);
  const shared = { checkpointSteps: 2, keepCheckpoints: 3 };
  made = [
    makeScenario({ ...shared, shards: 1, batchSize: 5, validationRows: 6 }, small),
    makeScenario({ ...shared, shards: 2, batchSize: 6, validationRows: 0, checkpointSteps: null }, small),
    makeScenario({ ...shared, shards: 3, batchSize: 6, validationRows: 5, checkpointSteps: 1 }, small),
    makeScenario({ ...shared, shards: 5, batchSize: 5, validationRows: 3, optimizer: 'sgd' }, small),
    makeScenario({ ...shared, shards: 8, batchSize: 8, validationRows: 4 }, small),
    makeScenario({ ...shared, shards: 8, batchSize: 8, validationRows: 520 }, large),
    makeScenario({ ...shared, shards: 7, batchSize: 7, validationRows: 4, wire: 'bf16' }, small),
    makeScenario(
      { ...shared, shards: 6, batchSize: 12, validationRows: 2, checkpointSteps: 1, keepCheckpoints: 1 },
      small,
    ),
    makeScenario({ ...shared, shards: 4, batchSize: 8, validationRows: 0, folds: 2 }, small),
    makeScenario(
      { ...shared, shards: 3, batchSize: 6, validationRows: 0, folds: 3, foldConcurrency: 2 },
      small,
    ),
    makeScenario({ ...shared, shards: 5, batchSize: 10, validationRows: 0, folds: 2, finalFit: true }, small),
  ];
  return made;
}
