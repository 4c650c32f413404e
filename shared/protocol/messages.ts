import { z } from 'zod';
import { AtelierError } from '../errors.js';
import { StepMode } from '../config.js';
import { TensorLayout } from '../layout.js';
import { decodeFrame, encodeFrame } from './frame.js';

/*
 * The two unions of atelier.v1, one schema a message. A payload, where a message has one, is described beside
 * its schema; the receiver checks its length against what it knows (the layout, the row shape).
 */

const count = z.int().min(0).max(0xffff_ffff);
const shortText = z.string().max(4_096);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** A float that may be non-finite: divergence is reported by the trial, not by the decoder. */
const anyFloat = z.custom<number>((value) => typeof value === 'number', 'expected a number');

/** `count` units (shards or evaluation chunks) from `start`, leased to `worker`. */
export const Lease = z.strictObject({ worker: count, start: count, count: z.int().min(1) });
export type Lease = z.infer<typeof Lease>;

export const Split = z.enum(['validation', 'test']);
export type Split = z.infer<typeof Split>;

export const DatasetInfo = z.strictObject({
  name: z.string().min(1).max(256),
  /** Over the SHA-256 of the four files. */
  sha256,
  trainRows: count,
  testRows: count,
  /** Height, width, channels. */
  imageShape: z.tuple([z.int().min(1), z.int().min(1), z.int().min(1)]),
  classNames: z.array(shortText).min(2).max(256),
});
export type DatasetInfo = z.infer<typeof DatasetInfo>;

/** What every worker needs to know of a run before its first step. */
export const RunSpec = z.strictObject({
  seed: z.int().min(0),
  batchSize: z.int().min(1),
  shards: z.int().min(1),
  evaluationRows: z.int().min(1),
  step: StepMode,
  dataset: DatasetInfo,
  layout: TensorLayout,
  /** Keras topology whose output is logits, without initializers or regularizers. */
  topology: z.record(z.string(), z.unknown()),
});
export type RunSpec = z.infer<typeof RunSpec>;

const Versions = z.strictObject({
  atelier: z.string().max(64),
  node: z.string().max(64),
  tensorflow: z.string().max(64),
});

/** First message of a worker. */
const Hello = z.strictObject({
  type: z.literal('hello'),
  protocolVersion: count,
  name: z.string().min(1).max(128),
  host: z.string().max(256),
  pid: count,
  slots: z.int().min(1).max(1_024),
  versions: Versions,
});
/** Asks for rows. Payload: bitmap over all rows of the dataset, training rows first. */
const NeedRows = z.strictObject({ type: z.literal('need-rows') });
/**
 * The sum of the gradients of one tree node, `start`/`count` in shards. Payload: `layout.size` float32 (gradient
 * sums, then changes of the state times rows), or nothing when `rows` is 0.
 */
const Partial = z.strictObject({
  type: z.literal('partial'),
  trial: count,
  round: count,
  start: count,
  count: z.int().min(1),
  rows: count,
  lossSum: anyFloat,
  correct: count,
  computeMs: z.number().min(0),
});
/** One evaluation chunk. Payload: confusion matrix, classes x classes uint32, row = true class. */
const Evaluated = z.strictObject({
  type: z.literal('evaluated'),
  trial: count,
  round: count,
  chunk: count,
  rows: count,
  lossSum: anyFloat,
  computeMs: z.number().min(0),
});
/** Something people should know; nothing fails by it. */
const Warning = z.strictObject({ type: z.literal('warning'), message: shortText });
const Heartbeat = z.strictObject({ type: z.literal('heartbeat') });
/** The worker could not do its part; the message is for people. */
const Failed = z.strictObject({ type: z.literal('failed'), message: shortText });

export const WorkerToCoordinator = z.discriminatedUnion('type', [
  Hello,
  NeedRows,
  Partial,
  Evaluated,
  Warning,
  Heartbeat,
  Failed,
]);
export type WorkerToCoordinator = z.infer<typeof WorkerToCoordinator>;

/** The worker is in; `worker` is its number in lease tables. */
const Welcome = z.strictObject({
  type: z.literal('welcome'),
  worker: count,
  heartbeatIntervalMs: z.int().min(1),
  heartbeatTimeoutMs: z.int().min(1),
});
const Run = z.strictObject({ type: z.literal('run'), spec: RunSpec });
/** A trial's rows. Payload: bitmap of its training rows, then bitmap of its validation rows. */
const Trial = z.strictObject({ type: z.literal('trial'), trial: count });
/** Rows asked for. Payload: `count` u32 row numbers, then their images, then their labels (one byte each). */
const Rows = z.strictObject({ type: z.literal('rows'), count: z.int().min(1) });
/** One step. Payload: `layout.size` float32 parameters and state. The same frame goes to every worker. */
const Step = z.strictObject({
  type: z.literal('step'),
  trial: count,
  round: count,
  /** From 0. */
  epoch: count,
  /** From 0 in each epoch. */
  stepInEpoch: count,
  leases: z.array(Lease).max(65_536),
});
/** One evaluation; leases are in chunks of `evaluationRows` rows. Payload as in `step`. */
const Evaluate = z.strictObject({
  type: z.literal('evaluate'),
  trial: count,
  round: count,
  split: Split,
  leases: z.array(Lease).max(65_536),
});
/** Nothing more to do: the worker leaves. */
const Finished = z.strictObject({ type: z.literal('finished'), reason: shortText });

export const CoordinatorToWorker = z.discriminatedUnion('type', [
  Welcome,
  Run,
  Trial,
  Rows,
  Step,
  Evaluate,
  Heartbeat,
  Finished,
]);
export type CoordinatorToWorker = z.infer<typeof CoordinatorToWorker>;

/** A checked message and its payload. */
export interface Received<Message> {
  readonly message: Message;
  readonly payload: Uint8Array;
}

function decoder<Message>(
  schema: z.ZodType<Message>,
  takesPayload: ReadonlySet<string>,
): (frame: Buffer) => Received<Message> {
  return (frame) => {
    const { header, payload } = decodeFrame(frame);
    const parsed = schema.safeParse(header);
    if (!parsed.success) {
      throw new AtelierError('protocol', `bad message: ${z.prettifyError(parsed.error)}`);
    }
    const type = (header as { type: string }).type;
    if (payload.byteLength > 0 && !takesPayload.has(type)) {
      throw new AtelierError('protocol', `bad message: ${type} has no payload`);
    }
    return { message: parsed.data, payload };
  };
}

/** @throws AtelierError `protocol` */
export const decodeFromWorker = decoder(
  WorkerToCoordinator,
  new Set<WorkerToCoordinator['type']>(['need-rows', 'partial', 'evaluated']),
);
/** @throws AtelierError `protocol` */
export const decodeFromCoordinator = decoder(
  CoordinatorToWorker,
  new Set<CoordinatorToWorker['type']>(['trial', 'rows', 'step', 'evaluate']),
);

export const encodeToCoordinator = (message: WorkerToCoordinator, ...payload: Uint8Array[]): Buffer =>
  encodeFrame(message, ...payload);
export const encodeToWorker = (message: CoordinatorToWorker, ...payload: Uint8Array[]): Buffer =>
  encodeFrame(message, ...payload);
