import { z } from 'zod';

/*
 * What the coordinator's HTTP API says and takes: the server checks and documents its answers with these schemas, the
 * commands of the client read them.
 */

/** The largest request body: a config and the longest topology. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
/** The most runs that a list names: the newest. */
export const MAX_LISTED_RUNS = 200;

/** Name of a run: of its folder, which it cannot leave. */
export const RunName = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'letters, digits, dot, dash and underscore, at most 128')
  .describe('name of the run: of its folder in the runs folder');

export const RunStatus = z.enum(['queued', 'waiting', 'running', 'done', 'failed', 'stopped']);
export type RunStatus = z.infer<typeof RunStatus>;

const EpochState = z.object({
  epoch: z.int(),
  loss: z.number(),
  accuracy: z.number(),
  valLoss: z.number().nullable(),
  valAccuracy: z.number().nullable(),
  /** Of the last step of the epoch. */
  learningRate: z.number(),
  seconds: z.number(),
});

export const TrialState = z.object({
  trial: z.int(),
  fold: z.int().nullable(),
  status: RunStatus,
  /** Counts from 1; `epochs` when the trial is over. */
  epoch: z.int(),
  epochs: z.int(),
  /** Steps done of this epoch. */
  step: z.int(),
  /** Steps of an epoch. */
  steps: z.int(),
  /** Mean over the rows of the epoch so far. */
  loss: z.number().nullable(),
  epochsDone: z.array(EpochState),
});
export type TrialState = z.infer<typeof TrialState>;

export const WorkerStatus = z.object({
  worker: z.int(),
  name: z.string(),
  host: z.string(),
  state: z.enum(['joining', 'ready', 'leaving', 'lost']),
  slots: z.int(),
  busySlots: z.int(),
  heartbeatAgeSeconds: z.number(),
  leases: z.int(),
  /** Training rows, of all runs. */
  rowsPerSecond: z.number(),
});
export type WorkerStatus = z.infer<typeof WorkerStatus>;

export const RunState = z.object({
  name: RunName,
  status: RunStatus,
  /** Why it did not end as `done`. */
  reason: z.string().nullable(),
  /** Null for a run that waits in the queue. */
  startedAt: z.iso.datetime().nullable(),
  /** 0 to 1: steps and evaluations done. */
  progress: z.number().min(0).max(1),
  etaSeconds: z.number().nullable(),
  imagesPerSecond: z.number(),
  /** Of the result; null while there is none. */
  weightsSha256: z.string().nullable(),
  trials: z.array(TrialState),
  workers: z.array(WorkerStatus),
  /** What the cluster lived through, as in summary.json. */
  counts: z.object({
    workersLost: z.int(),
    reconnects: z.int(),
    speculated: z.int(),
    late: z.int(),
    resumes: z.int(),
    retries: z.int(),
  }),
});
export type RunState = z.infer<typeof RunState>;

export const RunListItem = RunState.pick({ name: true, status: true, startedAt: true, progress: true });
export type RunListItem = z.infer<typeof RunListItem>;

/** `POST /api/v1/runs`. */
export const Submission = z.strictObject({
  config: z
    .record(z.string(), z.unknown())
    .describe('settings as in config.json; what is left out has the value of its preset, or its default'),
  /** The network itself, when `config.model` is not a preset: a Keras or tfjs topology. */
  topology: z.record(z.string(), z.unknown()).nullable().default(null),
});
export type Submission = z.infer<typeof Submission>;

export const Submitted = z.object({
  name: RunName,
  status: RunStatus,
  /** Runs that come before it. */
  ahead: z.int().min(0),
});

/** Every answer that is not what was asked for. */
export const Problem = z.object({ error: z.string().describe('what is wrong, and what to do') });
