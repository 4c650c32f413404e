import type { Checkpoint } from '../../coordinator/checkpoint.js';
import type { TrialState } from '../../coordinator/trial.js';

/** A made-up state in mid-epoch, different for each `seed`. */
export const madeUpState = (seed = 1): TrialState => ({
  position: { kind: 'step', epoch: 1, stepInEpoch: seed },
  epochTotals: { rows: 8, lossSum: 0.1 + 0.2 * seed, correct: 3, seconds: 1.5 },
  records: [
    {
      ...{ epoch: 1, loss: 1 / 3, accuracy: 0.5, valLoss: null, valAccuracy: null },
      ...{ rows: 16, seconds: 2, weightsSha256: 'e'.repeat(64) },
    },
  ],
  validation: {
    rows: 4,
    loss: 0.7,
    accuracy: 0.5,
    confusion: [
      [2, 0],
      [2, 0],
    ],
  },
  test: null,
  ledger: {
    epochs: 1,
    digests: [
      [1, 0xffff_ffff],
      [seed, 3],
    ],
  },
  optimizer: { step: 17 + seed },
  arrays: {
    weights: Float32Array.of(seed, -0, 1e-45, 3.4e38, 0.1),
    momentum: Float32Array.of(1, 2, 3),
    variance: Float32Array.of(),
  },
});

export const madeUpCheckpoint = (seed = 1): Checkpoint => ({
  trial: 3,
  identity: 'a config, a model and a dataset',
  state: madeUpState(seed),
});
