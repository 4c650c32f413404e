import type { Dataset } from '../../shared/dataset/load.js';
import { AtelierError } from '../../shared/errors.js';
import type { Kernel, LayerInfo, LayerOutput, TrainedModel } from '../../shared/models/trained-model.js';
import type { Evaluation, TrialSummary } from '../../shared/summary.js';
import type { RunFiles } from '../run-files.js';
import { argMax, evaluationOf, splitRows, testRows, type Rows } from '../split.js';
import { calibrationOf, type Calibration } from './calibration.js';

/** The study's boot. */
export const STUDY_IMAGE = 1510;
/** Training rows that the report looks at. */
const MAX_TRAIN_ROWS = 5_000;
const MISTAKES = 24;
/** Layers whose maps are shown unless they are named. */
const MAX_LAYERS = 40;

export interface Mistake {
  /** Row of the test set. */
  readonly row: number;
  readonly image: Uint8Array;
  readonly truth: number;
  readonly guess: number;
  readonly confidence: number;
}

/** An image before and after augmentation. */
export interface AugmentedSample {
  /** Row of the training set. */
  readonly row: number;
  readonly original: Uint8Array;
  readonly augmented: readonly Uint8Array[];
}

/** What a trained network shows when it is asked. */
export interface Look {
  readonly layers: readonly LayerInfo[];
  readonly kernels: readonly Kernel[];
  readonly imageShape: readonly [height: number, width: number, channels: number];
  /** The test image whose maps these are. */
  readonly image: {
    readonly row: number;
    readonly pixels: Uint8Array;
    readonly truth: number;
    readonly guess: number;
  };
  readonly maps: readonly LayerOutput[];
  /** On the first of its training rows. */
  readonly train: Evaluation | null;
  readonly test: Evaluation;
  readonly calibration: Calibration;
  readonly mistakes: readonly Mistake[];
  readonly augmented: readonly AugmentedSample[];
}

export interface LookOptions {
  /** Test image of the feature maps (default: the study's 1510, or the last when there are fewer). */
  readonly image?: number;
  /** Layers of the feature maps (default: those that give maps). */
  readonly layers?: readonly string[];
  readonly augmented?: readonly AugmentedSample[];
}

/**
 * Asks a trained network everything that the report shows of it.
 * @throws AtelierError `usage` for a layer or an image that is not there, `model` when the network does not fit
 */
export function lookInside(
  run: RunFiles,
  trial: TrialSummary,
  model: TrainedModel,
  dataset: Dataset,
  options: LookOptions,
): Look {
  const { imageShape, classNames } = dataset.info;
  if (model.imageShape.join() !== imageShape.join() || model.classes !== classNames.length) {
    throw new AtelierError('model', `${run.path}: the network does not fit the run's dataset`);
  }
  const size = imageShape.reduce((product, d) => product * d, 1);
  const test = testRows(dataset);
  const row = options.image ?? Math.min(STUDY_IMAGE, test.labels.length - 1);
  if (row >= test.labels.length) {
    throw new AtelierError(
      'usage',
      `--image ${row}: the test images are numbered 0 to ${test.labels.length - 1}`,
    );
  }
  const pixels = test.images.slice(row * size, (row + 1) * size);
  // Before the long part: a wrong name is told at once.
  const maps = model.layerOutputs(pixels, options.layers ?? layersWithMaps(model.layers));
  const probabilities = model.predict(test.images);
  return {
    layers: model.layers,
    kernels: model.kernels(),
    imageShape,
    image: {
      row,
      pixels,
      truth: test.labels[row] ?? 0,
      guess: argMax(probabilities, row * model.classes, model.classes),
    },
    maps,
    train: trainEvaluation(splitRows(run, trial, dataset, 'train', MAX_TRAIN_ROWS), model),
    test: evaluationOf(probabilities, test.labels, model.classes),
    calibration: calibrationOf(probabilities, test.labels, model.classes),
    mistakes: worstMistakes(probabilities, test, model.classes, size),
    augmented: options.augmented ?? [],
  };
}

/** Those that give an image for each channel, and the last. */
function layersWithMaps(layers: readonly LayerInfo[]): string[] {
  const spatial = layers.filter(({ outputShape, type }) => outputShape.length === 3 && type !== 'InputLayer');
  const last = layers.at(-1);
  const shown = [...spatial, ...(last === undefined || spatial.includes(last) ? [] : [last])];
  return shown.slice(0, MAX_LAYERS).map(({ name }) => name);
}

function trainEvaluation({ images, labels }: Rows, model: TrainedModel): Evaluation | null {
  return labels.length === 0 ? null : evaluationOf(model.predict(images), labels, model.classes);
}

function worstMistakes(
  probabilities: Float32Array,
  { images, labels }: Rows,
  classes: number,
  size: number,
): Mistake[] {
  const mistakes: { row: number; guess: number; confidence: number }[] = [];
  labels.forEach((truth, row) => {
    const guess = argMax(probabilities, row * classes, classes);
    if (guess !== truth) mistakes.push({ row, guess, confidence: probabilities[row * classes + guess] ?? 0 });
  });
  return mistakes
    .sort((a, b) => b.confidence - a.confidence || a.row - b.row)
    .slice(0, MISTAKES)
    .map((mistake) => ({
      ...mistake,
      truth: labels[mistake.row] ?? 0,
      image: images.slice(mistake.row * size, (mistake.row + 1) * size),
    }));
}
