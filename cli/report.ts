import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { augmentationOf } from '../shared/augmentation.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import type { TrialSummary } from '../shared/summary.js';
import { comparisonPage, MAX_COMPARED_RUNS } from '../results/report/comparison-page.js';
import { lookInside, type AugmentedSample, type Look, type LookOptions } from '../results/report/look.js';
import { runPage } from '../results/report/run-page.js';
import { chooseTrial, modelFolder, readRun, type RunFiles } from '../results/run-files.js';
import { augment } from '../worker/augmentation/augment.js';
import { parseCount } from './numbers.js';
import { datasetOf, openModel, parseFold } from './trained.js';

const REPORT_FILE = 'report.html';
const COMPARISON_FILE = 'comparison.html';
const MAX_IMAGE_NUMBER = 1_000_000_000;
/** Training rows shown with what augmentation makes of them, and how often. */
const AUGMENTED_ROWS = 6;
const AUGMENTED_DRAWS = 3;

export interface ReportOptions extends LookOptions {
  /** Which trial of a k-fold run is looked into (default: the first). */
  readonly fold?: number | null;
  /** The run's dataset when it is in memory already; else it is read from the disk. */
  readonly dataset?: Dataset;
  /** Folder of the dataset's files, when they are elsewhere than the run says. */
  readonly dataDir?: string | null;
  /** Where the report goes (default: `report.html` in the run directory). */
  readonly out?: string;
}

interface ReportFlags {
  readonly out?: string;
  readonly image?: string;
  readonly layer: readonly string[];
  readonly fold?: string;
  readonly dataDir?: string;
}

export function addReportCommand(program: Command): void {
  program
    .command('report')
    .description("build a finished run's report.html anew, or compare several runs")
    .argument('<runs...>', 'run directories')
    .option(
      '--out <file>',
      `where to write it (default: RUN/${REPORT_FILE}; of several runs ./${COMPARISON_FILE})`,
    )
    .option('--image <n>', 'number of the test image whose feature maps are shown (default: 1510)')
    .option(
      '--layer <name>',
      'layer whose feature maps are shown (repeatable; default: all that have maps)',
      (value, all: readonly string[]) => [...all, value],
      [] as readonly string[],
    )
    .option('--fold <n>', 'which network of a k-fold run is looked into (default: the first)')
    .option('--data-dir <folder>', "folder of the dataset's files, when they are elsewhere now")
    .action(async (runs: string[], flags: ReportFlags) => {
      const path = await report(runs, flags, process.env);
      process.stdout.write(`${path}\n`);
    });
}

async function report(runs: readonly string[], flags: ReportFlags, env: NodeJS.ProcessEnv): Promise<string> {
  const [first] = runs;
  if (runs.length > 1 || first === undefined) return compare(runs, flags.out ?? COMPARISON_FILE);
  return writeReport(
    first,
    {
      fold: parseFold(flags.fold),
      dataDir: flags.dataDir ?? env['ATELIER_DATA_DIR'] ?? null,
      ...(flags.out === undefined ? {} : { out: flags.out }),
      ...(flags.image === undefined
        ? {}
        : { image: parseCount('--image', flags.image, 0, MAX_IMAGE_NUMBER) }),
      ...(flags.layer.length === 0 ? {} : { layers: flags.layer }),
    },
    env,
  );
}

/**
 * Writes the report of a finished run: `summary.json`, `manifest.json` and the model are there. Loads native
 * TensorFlow into this process. What cannot be shown (no model after a failure, no dataset on this disk) is said in
 * the report.
 * @returns the file's path
 * @throws AtelierError `usage` (no run directory; an image, a layer, a fold that is not there), `data` (damaged files)
 */
export async function writeReport(
  runDirectory: string,
  options: ReportOptions,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const run = readRun(runDirectory);
  const trial = run.summary.trials.length === 0 ? null : chooseTrial(run, options.fold ?? null);
  const { look, missing } = await tryToLook(run, trial, options, env);
  return write(options.out ?? join(run.path, REPORT_FILE), runPage(run, trial, look, missing));
}

interface Looked {
  readonly look: Look | null;
  /** Why there is none. */
  readonly missing: string | null;
}

async function tryToLook(
  run: RunFiles,
  trial: TrialSummary | null,
  options: ReportOptions,
  env: NodeJS.ProcessEnv,
): Promise<Looked> {
  const folder = trial === null ? '' : modelFolder(run, trial);
  if (trial === null || !existsSync(join(folder, 'model.json'))) {
    return { look: null, missing: 'There is no trained network: this report has no pictures of its inside.' };
  }
  let dataset: Dataset;
  try {
    dataset = options.dataset ?? datasetOf(run, options.dataDir ?? null, env);
  } catch (error) {
    if (!(error instanceof AtelierError)) throw error;
    return { look: null, missing: `No pictures of the network's inside: ${error.message}` };
  }
  const model = await openModel(folder);
  try {
    const augmented = options.augmented ?? augmentedSamples(run, dataset);
    return { look: lookInside(run, trial, model, dataset, { ...options, augmented }), missing: null };
  } finally {
    model.dispose();
  }
}

/** Some training rows, and what the run's augmentation makes of each in different epochs. */
function augmentedSamples({ summary: { config } }: RunFiles, { images, info }: Dataset): AugmentedSample[] {
  const augmentation = augmentationOf(config);
  if (augmentation === null) return [];
  const size = info.imageShape.reduce((product, d) => product * d, 1);
  const rows = Math.min(AUGMENTED_ROWS, info.trainRows);
  return Array.from({ length: rows }, (_, row) => {
    const original = images.slice(row * size, (row + 1) * size);
    const augmented = Array.from({ length: AUGMENTED_DRAWS }, (__, epoch) => {
      const place = { seed: config.seed, trial: 0, epoch, shard: 0, position: row };
      return Uint8Array.from(augment(original, augmentation, info.imageShape, place), Math.round);
    });
    return { row, original, augmented };
  });
}

function compare(directories: readonly string[], out: string): string {
  if (directories.length > MAX_COMPARED_RUNS) {
    throw new AtelierError(
      'usage',
      `${directories.length} runs: at most ${MAX_COMPARED_RUNS} are compared at once`,
    );
  }
  return write(out, comparisonPage(directories.map(readRun)));
}

function write(path: string, page: string): string {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    writeFileSync(temporary, page);
    renameSync(temporary, path);
  } catch (cause) {
    throw new AtelierError(
      'usage',
      `cannot write ${path}: ${messageOf(cause)}: name another file with --out`,
      {
        cause,
      },
    );
  }
  return path;
}
