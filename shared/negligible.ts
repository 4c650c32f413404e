/*
 * What is too small to matter counts as zero before it becomes denormal, or makes something denormal: an Intel processor computes each product with
 * such a number, or that comes to one, by microcode, a hundred times as slowly. A weight of a pixel that is always black has no gradient; its moments shrink by a
 * tenth or a thousandth each step for ever, and L2's gradient, a small part of the weight, with the weight.
 */

/**
 * A mean gradient below this is zero: 2^-56, so that its square and a thousandth of that are normal. At most 1.4e-17 is lost: with
 * Adam's epsilon of 1e-7 and a learning rate of 1e-3 a parameter moves by less than 1.4e-13 for it.
 */
export const LEAST_GRADIENT = 2 ** -56;

/** A moment, or a velocity, below this is zero: 2^-100, so that its product with a learning rate or a decay is normal. */
export const LEAST_MOMENT = 2 ** -100;

/** Zero for what is nearer to zero than `least`, else the value. */
export const unlessNegligible = (value: number, least: number): number =>
  Math.abs(value) < least ? 0 : value;
