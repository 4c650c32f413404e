import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadDataset, type Dataset } from '../shared/dataset/load.js';
import { AtelierError } from '../shared/errors.js';
import { readExportedModel } from '../shared/models/exported-model.js';
import { chooseTrial, modelFolder, readRun, type RunFiles } from '../results/run-files.js';
import type { TrialSummary } from '../shared/summary.js';
import type { NativeModel } from '../worker/native-model.js';
import { tensorflowSettings } from '../worker/tensorflow-settings.js';
import { parseCount } from './numbers.js';

const MAX_FOLDS = 1_000;

/** `--fold` as it is given. */
export const parseFold = (text: string | undefined): number | null =>
  text === undefined ? null : parseCount('--fold', text, 0, MAX_FOLDS);

/** A finished run and the trial of it that is looked at. */
export interface ChosenTrial {
  readonly run: RunFiles;
  readonly trial: TrialSummary;
  readonly folder: string;
}

/** @throws AtelierError `usage`, `data` when it is no run, is incomplete, or has no such fold */
export function openTrial(directory: string, fold: number | null): ChosenTrial {
  const run = readRun(directory);
  const trial = chooseTrial(run, fold);
  const folder = modelFolder(run, trial);
  if (!existsSync(join(folder, 'model.json'))) {
    throw new AtelierError(
      'data',
      `${directory} has no trained model: the run ended as "${run.summary.status}"`,
    );
  }
  return { run, trial, folder };
}

/**
 * Loads native TensorFlow into this process and a model into it, with the workers' settings: the bits of a prediction are theirs.
 * @throws AtelierError `model`
 */
export async function openModel(folder: string): Promise<NativeModel> {
  const exported = readExportedModel(folder);
  Object.assign(process.env, tensorflowSettings(1, process.env));
  const { NativeModel } = await import('../worker/native-model.js');
  return NativeModel.create(exported);
}

/**
 * The dataset a run was trained on.
 * @param dataDir where its files are now, when that is elsewhere
 * @throws AtelierError `data` when it is not the one of the run
 */
export function datasetOf(
  { summary: { config }, manifest }: RunFiles,
  dataDir: string | null,
  env: NodeJS.ProcessEnv,
): Dataset {
  const named = config.dataset === manifest.dataset.name;
  const dataset = loadDataset({
    dataset: named || dataDir === null ? config.dataset : dataDir,
    dataDir: dataDir ?? config.dataDir,
    env,
  });
  if (dataset.info.sha256 !== manifest.dataset.sha256) {
    throw new AtelierError(
      'data',
      `the files in ${dataset.folder} are not those of the run (SHA-256 ${dataset.info.sha256}, the run's ` +
        `${manifest.dataset.sha256}): name the right folder with --data-dir`,
    );
  }
  return dataset;
}
