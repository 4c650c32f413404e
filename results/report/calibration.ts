import { argMax } from '../split.js';

export interface ReliabilityBin {
  /** Confidences in (from, to]. */
  readonly from: number;
  readonly to: number;
  readonly rows: number;
  readonly accuracy: number;
  readonly confidence: number;
}

export interface Calibration {
  readonly bins: readonly ReliabilityBin[];
  /** Expected calibration error: mean |accuracy - confidence| of the bins, weighted by rows. 0: perfectly calibrated. */
  readonly ece: number;
  readonly meanConfidence: number;
  readonly accuracy: number;
}

export const CALIBRATION_BINS = 15;

/**
 * Compares how sure a network is with how often it is right (Guo et al. 2017, "On Calibration of Modern Neural
 * Networks", https://arxiv.org/abs/1706.04599, eq. 3): bins of equal width over the largest probability.
 * @param probabilities rows x classes
 */
export function calibrationOf(probabilities: Float32Array, labels: Uint8Array, classes: number): Calibration {
  const sums = Array.from({ length: CALIBRATION_BINS }, () => ({ rows: 0, correct: 0, confidence: 0 }));
  labels.forEach((truth, row) => {
    const guess = argMax(probabilities, row * classes, classes);
    const confidence = probabilities[row * classes + guess] ?? 0;
    const index = Math.min(CALIBRATION_BINS - 1, Math.max(0, Math.ceil(confidence * CALIBRATION_BINS) - 1));
    const bin = sums[index];
    if (bin === undefined) return;
    bin.rows++;
    bin.confidence += confidence;
    if (guess === truth) bin.correct++;
  });
  const rows = Math.max(1, labels.length);
  const bins = sums.map((bin, i) => ({
    from: i / CALIBRATION_BINS,
    to: (i + 1) / CALIBRATION_BINS,
    rows: bin.rows,
    accuracy: bin.rows === 0 ? 0 : bin.correct / bin.rows,
    confidence: bin.rows === 0 ? 0 : bin.confidence / bin.rows,
  }));
  const total = (read: (bin: ReliabilityBin) => number): number =>
    bins.reduce((sum, bin) => sum + (bin.rows / rows) * read(bin), 0);
  return {
    bins,
    ece: total(({ accuracy, confidence }) => Math.abs(accuracy - confidence)),
    meanConfidence: total(({ confidence }) => confidence),
    accuracy: total(({ accuracy }) => accuracy),
  };
}
