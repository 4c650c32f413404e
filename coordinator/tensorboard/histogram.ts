/** What TensorBoard draws of many values. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly count: number;
  readonly sum: number;
  readonly sumOfSquares: number;
  /** Upper ends of the buckets; the first begins at `min`. */
  readonly limits: readonly number[];
  readonly counts: readonly number[];
}

/** As many as `tf.summary.histogram` has. */
export const HISTOGRAM_BUCKETS = 30;

/** Buckets of equal width from the smallest to the largest value; values that are not finite are left out. */
export function histogramOf(values: Float32Array): Histogram {
  let min = Infinity;
  let max = -Infinity;
  let count = 0;
  let sum = 0;
  let sumOfSquares = 0;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
    sumOfSquares += value * value;
    count++;
  }
  if (count === 0) return { min: 0, max: 0, count, sum, sumOfSquares, limits: [0], counts: [0] };
  const width = (max - min) / HISTOGRAM_BUCKETS;
  if (width === 0) return { min, max, count, sum, sumOfSquares, limits: [max], counts: [count] };
  const counts = new Array<number>(HISTOGRAM_BUCKETS).fill(0);
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    const bucket = Math.min(HISTOGRAM_BUCKETS - 1, Math.floor((value - min) / width));
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  }
  const limits = counts.map((_, i) => (i === HISTOGRAM_BUCKETS - 1 ? max : min + width * (i + 1)));
  return { min, max, count, sum, sumOfSquares, limits, counts };
}
