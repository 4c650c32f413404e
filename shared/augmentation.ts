import { z } from 'zod';

/** What training rows go through before they are learned from. All ranges are symmetric, drawn evenly for each row. */
export const Augmentation = z.strictObject({
  /** Largest rotation either way, degrees. */
  rotationDegrees: z.number().min(0).max(180),
  /** Largest shift either way, in both directions: fraction of the height and of the width. */
  shift: z.number().min(0).max(1),
  /** Largest shear angle either way, degrees. */
  shearDegrees: z.number().min(0).lt(90),
  /** Height and width are scaled by factors between 1 - zoom and 1 + zoom, each drawn by itself. */
  zoom: z.number().min(0).lt(1),
  /** Probability of a horizontal flip. */
  flip: z.number().min(0).max(1),
  /** Probability that a rectangle is set to zero. */
  erase: z.number().min(0).max(1),
});
export type Augmentation = z.infer<typeof Augmentation>;

const NONE: Augmentation = { rotationDegrees: 0, shift: 0, shearDegrees: 0, zoom: 0, flip: 0, erase: 0 };

/**
 * What `--augment` names. `study` is the study's `ImageDataGenerator(rotation_range=8, width_shift_range=0.08,
 * shear_range=0.3, height_shift_range=0.08, zoom_range=0.08)`, taken at its word: Keras' `shear_range` is in degrees,
 * so its shear of "30 %" was one of 0.3 degrees, which moves no pixel of a 28 x 28 image by more than 0.08.
 */
export const AUGMENTATIONS = {
  none: NONE,
  study: { ...NONE, rotationDegrees: 8, shift: 0.08, shearDegrees: 0.3, zoom: 0.08 },
  strong: { rotationDegrees: 10, shift: 0.1, shearDegrees: 5, zoom: 0.1, flip: 0.5, erase: 0.25 },
} as const satisfies Record<string, Augmentation>;

export const AugmentationName = z.enum(
  Object.keys(AUGMENTATIONS) as [keyof typeof AUGMENTATIONS, ...(keyof typeof AUGMENTATIONS)[]],
);
export type AugmentationName = z.infer<typeof AugmentationName>;

/** The settings that decide it; null: as `augment` has it. */
export interface AugmentationSettings {
  readonly augment: AugmentationName;
  readonly augmentRotationDegrees: number | null;
  readonly augmentShift: number | null;
  readonly augmentShearDegrees: number | null;
  readonly augmentZoom: number | null;
  readonly augmentFlip: number | null;
  readonly augmentErase: number | null;
}

/** What the settings come to; null when rows stay as they are. */
export function augmentationOf(settings: AugmentationSettings): Augmentation | null {
  const named = AUGMENTATIONS[settings.augment];
  const augmentation: Augmentation = {
    rotationDegrees: settings.augmentRotationDegrees ?? named.rotationDegrees,
    shift: settings.augmentShift ?? named.shift,
    shearDegrees: settings.augmentShearDegrees ?? named.shearDegrees,
    zoom: settings.augmentZoom ?? named.zoom,
    flip: settings.augmentFlip ?? named.flip,
    erase: settings.augmentErase ?? named.erase,
  };
  return Object.values(augmentation).every((value) => value === 0) ? null : augmentation;
}
