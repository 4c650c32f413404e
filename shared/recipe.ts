import { z } from 'zod';
import { Augmentation, AugmentationName } from './augmentation.js';

/** How the learning rate goes: see coordinator/optimizer/schedule.ts. */
export const ScheduleName = z.enum(['constant', 'cosine', 'one-cycle']);
export type ScheduleName = z.infer<typeof ScheduleName>;

/** The figure of an epoch's validation by which it is better or worse than another. */
export const Monitor = z.enum(['val-loss', 'val-accuracy']);
export type Monitor = z.infer<typeof Monitor>;

/** A parameter of the augmentation: null leaves it as `augment` has it. */
const augmentParameter = (key: keyof Augmentation, description: string): z.ZodType<number | null> =>
  Augmentation.shape[key].nullable().default(null).describe(`${description} (default: as --augment has it)`);

/** The settings of a recipe: what is done to examples, and how gradients become weights. */
export const RECIPE_FIELDS = {
  optimizer: z
    .enum(['adam', 'adamw', 'sgd'])
    .default('adam')
    .describe('adam, adamw with --weight-decay, or sgd with --momentum'),
  learningRate: z
    .number()
    .positive()
    .max(1_000)
    .default(0.001)
    .describe('step size of the optimizer: the highest of its --schedule'),
  schedule: ScheduleName.default('constant').describe(
    'how the learning rate goes: constant, cosine (down to 0), one-cycle (up for 30 % of the steps, then down)',
  ),
  warmupEpochs: z
    .number()
    .min(0)
    .max(100_000)
    .default(0)
    .describe('epochs in which the learning rate rises from 0, before constant or cosine'),
  momentum: z.number().min(0).lt(1).default(0.9).describe('momentum of sgd'),
  weightDecay: z
    .number()
    .min(0)
    .max(1_000)
    .default(0.01)
    .describe('decoupled decay of the kernels with adamw, times the learning rate'),
  clipNorm: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe('scale longer gradients down to this Euclidean norm (default: no clipping)'),
  labelSmoothing: z
    .number()
    .min(0)
    .lt(1)
    .default(0)
    .describe('part of the label shared out over all classes while training'),
  augment: AugmentationName.default('none').describe(
    'what training rows go through: none, study (8 degrees, 8 % shift, 0.3 degrees shear, 8 % zoom), strong',
  ),
  augmentRotationDegrees: augmentParameter('rotationDegrees', 'largest rotation either way'),
  augmentShift: augmentParameter('shift', 'largest shift either way, as a fraction of height and width'),
  augmentShearDegrees: augmentParameter('shearDegrees', "largest shear angle either way, Keras' shear_range"),
  augmentZoom: augmentParameter('zoom', 'height and width scaled by 1 - zoom to 1 + zoom'),
  augmentFlip: augmentParameter('flip', 'probability of a horizontal flip'),
  augmentErase: augmentParameter('erase', 'probability that a rectangle is set to zero'),
  emaDecay: z
    .number()
    .min(0)
    .lt(1)
    .nullable()
    .default(null)
    .describe('evaluate and keep a moving average of the weights with this decay, such as 0.999'),
  monitor: Monitor.default('val-loss').describe('what --patience and --select go by: val-loss, val-accuracy'),
  patience: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('stop early when so many epochs in a row were no better than the best before'),
  select: z
    .enum(['last', 'best'])
    .default('last')
    .describe("whose weights are the result: the last epoch's, or those of the best by --monitor"),
} as const;

export type Recipe = z.infer<z.ZodObject<typeof RECIPE_FIELDS>>;

/** What is wrong with settings that are right one by one; null when nothing is. */
export function recipeProblem(recipe: Recipe, epochs: number, hasValidation: boolean): string | null {
  const { schedule, warmupEpochs, patience, select } = recipe;
  if (schedule === 'one-cycle' && warmupEpochs > 0) {
    return '--warmup-epochs does not go with --schedule one-cycle, which rises by itself';
  }
  if (warmupEpochs > epochs) return `--warmup-epochs ${warmupEpochs} is more than --epochs ${epochs}`;
  if (!hasValidation && (patience !== null || select === 'best')) {
    return `${patience !== null ? '--patience' : '--select best'} needs validation: use --validation-rows or --folds`;
  }
  return null;
}

/** What workers do to examples while training; evaluation takes them as they are. */
export const ExampleRecipe = z.strictObject({
  augmentation: Augmentation.nullable(),
  /** Of each label, this part is shared out over all classes (Szegedy et al. 2016, section 7). */
  labelSmoothing: z.number().min(0).lt(1),
  /** Pixels are divided by this, in training and in evaluation: 255, or 1 for the study's unscaled ones. */
  pixelMax: z.number().positive(),
});
export type ExampleRecipe = z.infer<typeof ExampleRecipe>;
