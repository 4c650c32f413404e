import { z } from 'zod';
import { augmentationOf } from './augmentation.js';
import { AtelierError } from './errors.js';
import { PresetName, withPreset } from './presets.js';
import { RECIPE_FIELDS, recipeProblem, type ExampleRecipe } from './recipe.js';
import { WireFormat } from './wire.js';

/** The largest seed: what a double holds exactly. */
const MAX_SEED = Number.MAX_SAFE_INTEGER;

/** The most trials of one run. */
export const MAX_TRIALS = 4_096;

/** How workers run a step: as one compiled graph, op by op, or compiled where the model allows it. */
export const StepMode = z.enum(['auto', 'compiled', 'eager']);
export type StepMode = z.infer<typeof StepMode>;

/**
 * What decides the weights. Two runs with the same values, data and platform end in the same bits, whatever
 * the cluster. The descriptions are the help texts of the flags.
 */
export const TrainingConfig = z.strictObject({
  preset: PresetName.default('none').describe(
    'settings to start from: none; best: the most accurate, less than 15 minutes on two cores',
  ),
  model: z
    .string()
    .min(1)
    .default('cnn')
    .describe('lenet, cnn, dense, resnet, or the path of a Keras/tfjs topology (.json)'),
  dataset: z
    .string()
    .min(1)
    .default('fashion-mnist')
    .describe('fashion-mnist, or a folder with four IDX files of the same names'),
  epochs: z.int().min(1).max(100_000).default(5).describe('passes over the training rows'),
  batchSize: z
    .int()
    .min(1)
    .max(1_048_576)
    .default(256)
    .describe('rows of one step, over all workers; a multiple of --shards'),
  shards: z
    .int()
    .min(1)
    .max(4_096)
    .default(8)
    .describe('fixed parts of the training rows: the most slots that can work on one step'),
  ...RECIPE_FIELDS,
  l2: z
    .number()
    .min(0)
    .max(1_000)
    .nullable()
    .default(null)
    .describe('L2 strength on dense kernels (default: as the model says; presets 0.0001)'),
  step: StepMode.default('auto').describe('compiled, eager, or auto: compiled where the model allows it'),
  wire: WireFormat.default('float32').describe(
    'how steps round and send parameters and gradients: float32, or bf16: half the bytes, 8 bits of mantissa',
  ),
  validationRows: z
    .int()
    .min(0)
    .default(5_000)
    .describe('the first rows of the training set, kept for validation after each epoch'),
  folds: z
    .int()
    .min(2)
    .max(1_000)
    .nullable()
    .default(null)
    .describe('k-fold cross-validation: as many trials, each validated on the rows it does not train on'),
  repeats: z.int().min(1).max(100).default(1).describe('with --folds: cross-validations, each cut anew'),
  stratified: z.boolean().default(true).describe('with --folds: every fold has the same mix of classes'),
  finalFit: z
    .boolean()
    .default(false)
    .describe('with --folds: also train on all rows, and test that model once'),
  studyFaults: z
    .boolean()
    .default(false)
    .describe(
      "with --folds: the study's faults: each fold goes on with the weights of the one before, pixels are not scaled",
    ),
  seed: z.int().min(0).max(MAX_SEED).default(1).describe('seed of every random number'),
});
export type TrainingConfig = z.infer<typeof TrainingConfig>;

/** Where and how it runs. None of it changes the weights. */
export const ClusterConfig = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'letters, digits, dot, dash and underscore, at most 64')
    .nullable()
    .default(null)
    .describe('name of the run (default: the model)'),
  workers: z
    .union([z.int().min(0).max(256), z.literal('auto')])
    .default(2)
    .describe('local worker processes; auto: one a core; 0: only remote ones'),
  slots: z
    .int()
    .min(1)
    .max(256)
    .nullable()
    .default(null)
    .describe('compute threads of each local worker (default: the cores, shared out)'),
  minWorkers: z
    .int()
    .min(1)
    .max(1_024)
    .nullable()
    .default(null)
    .describe(
      'start, and go on, with at least so many workers (default: start with the local ones, go on with 1)',
    ),
  waitSeconds: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(600)
    .describe('how long to wait for --min-workers, at the start and when workers are lost'),
  checkpointSteps: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('write a checkpoint every so many steps too, not only after each epoch'),
  keepCheckpoints: z.int().min(1).max(10_000).default(3).describe('checkpoints of a trial that are kept'),
  allowMixedNumerics: z
    .boolean()
    .default(false)
    .describe('let workers in whose gradients differ in bits: the run is then not exactly repeatable'),
  foldConcurrency: z
    .int()
    .min(1)
    .max(4_096)
    .nullable()
    .default(null)
    .describe('with --folds: trials at the same time (default: all)'),
  listen: z
    .string()
    .default('127.0.0.1:0')
    .describe('host:port for workers to join; port 0 picks a free one'),
  sharedMemory: z
    .boolean()
    .default(true)
    .describe('pass parameters and gradients of workers on this machine through memory, not the socket'),
  dataDir: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('folder of the files of a named dataset (default: cache, Debian package)'),
});
export type ClusterConfig = z.infer<typeof ClusterConfig>;

/** The frozen, complete config of a run: `config.json`. */
export const RunConfig = z.strictObject({ ...TrainingConfig.shape, ...ClusterConfig.shape });
export type RunConfig = z.infer<typeof RunConfig>;

/** What workers do to examples while training, as the settings have it. */
export const exampleRecipe = (config: TrainingConfig): ExampleRecipe => ({
  augmentation: augmentationOf(config),
  labelSmoothing: config.labelSmoothing,
  pixelMax: config.studyFaults ? 1 : 255,
});

/** `batchSize` as a flag. */
export const flagOf = (key: string): string => `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
/** `batchSize` as an environment variable. */
export const envOf = (key: string): string => `ATELIER_${key.replace(/[A-Z]/g, '_$&').toUpperCase()}`;

/**
 * Checks a config and fills in the defaults.
 * @throws AtelierError `usage`, naming every flag that is wrong
 */
export function parseRunConfig(values: Readonly<Record<string, unknown>>): RunConfig {
  const parsed = RunConfig.safeParse(withPreset(values));
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => describeIssue(issue, values));
    throw new AtelierError('usage', problems.join('\n'));
  }
  const config = parsed.data;
  if (config.batchSize % config.shards !== 0) {
    const below = config.batchSize - (config.batchSize % config.shards);
    const near = [below, below + config.shards].filter((size) => size > 0).join(' or ');
    throw new AtelierError(
      'usage',
      `--batch-size ${config.batchSize} is not divisible by --shards ${config.shards}: use ${near}`,
    );
  }
  const { epochs, folds, repeats, finalFit, validationRows } = config;
  const problem = recipeProblem(config, epochs, folds !== null || validationRows > 0);
  if (problem !== null) throw new AtelierError('usage', problem);
  if (folds === null && (repeats > 1 || finalFit)) {
    throw new AtelierError('usage', `${repeats > 1 ? '--repeats' : '--final-fit'} needs --folds`);
  }
  if (folds !== null && folds * repeats >= MAX_TRIALS) {
    throw new AtelierError('usage', `--folds times --repeats is over ${MAX_TRIALS - 1}`);
  }
  return config;
}

/** The training part of a config: what decides the weights. */
export const trainingPart = (config: RunConfig): TrainingConfig =>
  TrainingConfig.parse(
    Object.fromEntries(Object.entries(config).filter(([key]) => key in TrainingConfig.shape)),
  );

function describeIssue(issue: z.core.$ZodIssue, values: Readonly<Record<string, unknown>>): string {
  if (issue.code === 'unrecognized_keys') {
    return `unknown setting ${issue.keys.join(', ')}: known are ${Object.keys(RunConfig.shape).join(', ')}`;
  }
  const key = String(issue.path[0]);
  return `${flagOf(key)} ${JSON.stringify(values[key])}: ${issue.message}`;
}
