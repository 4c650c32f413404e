/** Terms of the Taylor series: the first one left out is below 1e-20 for |x| <= pi. */
const TERMS = 15;

/**
 * Sine and cosine by their Taylor series, |x| <= pi. `Math.sin` and `Math.cos` may differ in the last bit from one
 * engine to the next; sums and products of doubles may not. Absolute error below 1e-14.
 */
export function sineCosine(x: number): { sine: number; cosine: number } {
  const square = x * x;
  let sine = 0;
  let cosine = 0;
  // Horner's scheme from the smallest term up: cos = 1 - x^2/2 (1 - x^2/12 (...)).
  for (let k = TERMS; k >= 1; k--) {
    cosine = (1 - cosine) * (square / ((2 * k - 1) * (2 * k)));
    sine = (1 - sine) * (square / (2 * k * (2 * k + 1)));
  }
  return { sine: x * (1 - sine), cosine: 1 - cosine };
}
