import { z } from 'zod';
import { RunConfig } from './config.js';

/** The version of `summary.json`; it changes when a field changes its meaning or goes. */
export const SUMMARY_SCHEMA_VERSION = 1;

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** Loss: mean softmax cross-entropy of an example, without regularization terms. */
export const EpochRecord = z.strictObject({
  epoch: z.int().min(1),
  loss: z.number(),
  accuracy: z.number().min(0).max(1),
  valLoss: z.number().nullable(),
  valAccuracy: z.number().min(0).max(1).nullable(),
  rows: z.int().min(0),
  seconds: z.number().min(0),
  weightsSha256: sha256,
});
export type EpochRecord = z.infer<typeof EpochRecord>;

export const Evaluation = z.strictObject({
  rows: z.int().min(1),
  loss: z.number(),
  accuracy: z.number().min(0).max(1),
  /** classes x classes counts; row: true class, column: predicted class. */
  confusion: z.array(z.array(z.int().min(0))),
});
export type Evaluation = z.infer<typeof Evaluation>;

const rowDigest = z.string().regex(/^[0-9a-f]{16}$/);

/** Which rows a trial used (coordinator/row-ledger.ts). */
export const LedgerSummary = z.strictObject({
  /** Epochs in which every training row was used exactly once. */
  epochs: z.int().min(0),
  rowsPerEpoch: z.int().min(0),
  /** Over the trial's training rows (shared/row-digest.ts). */
  rowsDigest: rowDigest,
  shards: z.array(z.strictObject({ rows: z.int().min(0), digest: rowDigest })),
});
export type LedgerSummary = z.infer<typeof LedgerSummary>;

export const TrialSummary = z.strictObject({
  /** Number of the fold in a k-fold run (of all repeats); null for a plain trial and the final fit. */
  fold: z.int().min(0).nullable(),
  status: z.enum(['done', 'failed', 'stopped']),
  /** Why it did not end as `done`. */
  reason: z.string().nullable(),
  weightsSha256: sha256,
  epochs: z.array(EpochRecord),
  validation: Evaluation.nullable(),
  test: Evaluation.nullable(),
  ledger: LedgerSummary,
});
export type TrialSummary = z.infer<typeof TrialSummary>;

/** `summary.json`. */
export const Summary = z.strictObject({
  schemaVersion: z.literal(SUMMARY_SCHEMA_VERSION),
  status: z.enum(['done', 'failed', 'stopped']),
  /** Why it did not end as `done`. */
  reason: z.string().nullable(),
  config: RunConfig,
  weightsSha256: sha256,
  trials: z.array(TrialSummary),
  folds: z.strictObject({ mean: z.number(), sd: z.number(), ci95: z.number(), n: z.int() }).nullable(),
  throughput: z.strictObject({
    /** Training rows over the time of training steps. */
    imagesPerSecond: z.number().min(0),
    stepMsP50: z.number().min(0),
    stepMsP95: z.number().min(0),
    /** Compute time of slots over slots x time of training steps. */
    slotUtilization: z.number().min(0),
  }),
  workers: z.array(
    z.strictObject({
      name: z.string(),
      host: z.string(),
      slots: z.int(),
      tensorflow: z.string(),
      node: z.string(),
      /** Training examples it computed. */
      examples: z.int().min(0),
    }),
  ),
  /** Units (shards of a step, chunks of an evaluation) that were computed again because what held them was lost. */
  retries: z.int().min(0),
  /** What the cluster lived through. */
  elasticity: z.strictObject({
    workersLost: z.int().min(0),
    reconnects: z.int().min(0),
    /** Units leased a second time because their holder was slow. */
    speculated: z.int().min(0),
    /** Answers that came after another's, or after their round: dropped. */
    late: z.int().min(0),
    /** How often the run was resumed from a checkpoint. */
    resumes: z.int().min(0),
  }),
  durationSeconds: z.number().min(0),
});
export type Summary = z.infer<typeof Summary>;
