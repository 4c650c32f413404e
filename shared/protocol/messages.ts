import { z } from 'zod';
import { AtelierError } from '../errors.js';
import { StepMode } from '../config.js';
import { ExchangeOffer } from '../exchange.js';
import { TensorLayout } from '../layout.js';
import { ExampleRecipe } from '../recipe.js';
import { RowDigest } from '../row-digest.js';
import { WireFormat } from '../wire.js';
import { decodeFrame, decodeHead, encodeFrame, encodeFrameAround, encodeFrameOver } from './frame.js';
import { MAX_SLOTS } from './limits.js';

/*
 * The two unions of atelier.v1, one schema a message. A payload, where a message has one, is described beside
 * its schema; the receiver checks its length against what it knows (the layout, the row shape).
 */

const count = z.uint32();
/** A number of bytes, or of anything that outgrows 32 bits. */
const bytes = z.int().min(0);
/** A day. */
const MAX_REPORTED_MS = 86_400_000;
const slots = z.int().min(1).max(MAX_SLOTS);
const shortText = z.string().max(4_096);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
/** A float that may be non-finite: divergence is reported by the trial, not by the decoder. */
const anyFloat = z.custom<number>((value) => typeof value === 'number', 'expected a number');

/** Identifies a worker that comes back after its connection broke. */
export const SessionCredential = z.strictObject({
  worker: count,
  /** Rises with each connection of this worker: an older one is fenced off. */
  epoch: count,
  secret: z.string().regex(/^[0-9a-f]{64}$/),
});
export type SessionCredential = z.infer<typeof SessionCredential>;

/** What a round asks for. `epoch` and `stepInEpoch` count from 0. */
export const Work = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('step'), epoch: count, stepInEpoch: count }),
  z.strictObject({ kind: z.literal('evaluate'), split: z.enum(['validation', 'test']) }),
]);
export type Work = z.infer<typeof Work>;

export type Split = Extract<Work, { kind: 'evaluate' }>['split'];

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
  /** Answers say when their tasks were computed, for a trace. */
  timed: z.literal(true).optional(),
  /** Left out: float32. */
  wire: WireFormat.optional(),
  recipe: ExampleRecipe,
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
  slots,
  versions: Versions,
  /** Of the last welcome, when this is a worker that lost its connection. */
  credential: SessionCredential.nullable(),
});
/** The worker is on the coordinator's host: from now on parameters and gradients may be left in the exchange. */
const Exchange = z.strictObject({ type: z.literal('exchange') });
/** The worker can compute for this run. `fingerprint`: SHA-256 of the gradient of the run's probe batch. */
const Ready = z.strictObject({ type: z.literal('ready'), run: count, fingerprint: sha256 });
/** Asks for rows. Payload: bitmap over all rows of the dataset, training rows first. */
const NeedRows = z.strictObject({ type: z.literal('need-rows'), run: count });
/** When a slot computed a part of an answer. Clocks of hosts differ: as of the sending of the answer. */
const TaskTiming = z.strictObject({
  /** Tells the slots of a worker apart. */
  slot: count,
  computeMs: z.number().min(0).max(MAX_REPORTED_MS),
  endedMsAgo: z.number().min(0).max(MAX_REPORTED_MS),
});
export type TaskTiming = z.infer<typeof TaskTiming>;
/** The number of the lease, by which the logs of both sides tell leases apart; nothing is decided by it. */
const lease = count.optional();
/** In answers for a run that is `timed`; relays leave it out. */
const tasks = z.array(TaskTiming).max(MAX_SLOTS).optional();

/**
 * The sum of the gradients of one tree node, `start`/`count` in shards. Payload: `layout.size` values (gradient
 * sums, then changes of the state times rows) as the run's wire has them (shared/wire.ts), or nothing when `rows` is 0 or they
 * were left in the exchange, as float32.
 */
const Partial = z.strictObject({
  type: z.literal('partial'),
  run: count,
  trial: count,
  round: count,
  start: count,
  count: z.int().min(1),
  rows: count,
  lossSum: anyFloat,
  correct: count,
  /** What the ledger keeps of the rows used: a digest (shared/row-digest.ts) for each shard of the node. */
  rowDigests: z.array(RowDigest).max(65_536),
  /** Where in the exchange the payload lies, in bytes. */
  leftAt: bytes.nullable(),
  lease,
  computeMs: z.number().min(0),
  /** Tasks that were run again because their thread died. */
  retries: count,
  tasks,
});
/** One evaluation chunk. Payload: confusion matrix, classes x classes uint32, row = true class. */
const Evaluated = z.strictObject({
  type: z.literal('evaluated'),
  run: count,
  trial: count,
  round: count,
  chunk: count,
  rows: count,
  lossSum: anyFloat,
  lease,
  computeMs: z.number().min(0),
  retries: count,
  tasks,
});
/** The worker wants to go: it gets no more leases, and `finished` when it owes nothing. */
const Leaving = z.strictObject({ type: z.literal('leaving'), reason: shortText });
/** A relay has more workers now, or fewer. */
const Slots = z.strictObject({ type: z.literal('slots'), slots });
/** Units of a lease that will not be answered, because another round of the trial has come. */
const Returned = z.strictObject({
  type: z.literal('returned'),
  run: count,
  trial: count,
  round: count,
  start: count,
  count: z.int().min(1),
});
/** Something people should know; nothing fails by it. `run`: null when it concerns all that the worker serves. */
const Warning = z.strictObject({ type: z.literal('warning'), run: count.nullable(), message: shortText });
const Heartbeat = z.strictObject({ type: z.literal('heartbeat') });
/** How a worker does, as it says itself. For people: nothing is decided by it. */
export const WorkerReport = z.strictObject({
  /** Tensors that its slots hold, and their bytes as far as tfjs knows them. */
  tensors: count,
  tensorBytes: bytes,
  /** 99th percentile of the latest seconds, of the thread that holds the socket. */
  eventLoopLagMs: z.number().min(0).max(MAX_REPORTED_MS),
  busySlots: count,
  /** Part of the time since the report before that its slots computed. */
  busyRatio: z.number().min(0).max(1),
  /** Training rows since it started, and a second since the report before. */
  rows: bytes,
  rowsPerSecond: z.number().min(0).max(1e12),
  residentBytes: bytes,
  /** Where it serves metrics itself: a port of the address it connects from. */
  metrics: z.strictObject({ port: z.int().min(1).max(65_535), tls: z.boolean() }).nullable(),
});
export type WorkerReport = z.infer<typeof WorkerReport>;

const Report = z.strictObject({ type: z.literal('report'), report: WorkerReport });
/**
 * The worker could not do its part of the run; the message is for people. It sends nothing more of that run, and is told
 * when the run is over for it. `run`: null when it can do nothing any more, and leaves.
 */
const Failed = z.strictObject({ type: z.literal('failed'), run: count.nullable(), message: shortText });

export const WorkerToCoordinator = z.discriminatedUnion('type', [
  Hello,
  Exchange,
  Ready,
  NeedRows,
  Partial,
  Evaluated,
  Leaving,
  Slots,
  Returned,
  Warning,
  Heartbeat,
  Report,
  Failed,
]);
export type WorkerToCoordinator = z.infer<typeof WorkerToCoordinator>;
export type PartialMessage = z.infer<typeof Partial>;

/** The worker is in. */
const Welcome = z.strictObject({
  type: z.literal('welcome'),
  credential: SessionCredential,
  /** Is this the worker of the credential it showed, and not a new one? */
  resumed: z.boolean(),
  heartbeatIntervalMs: z.int().min(1),
  heartbeatTimeoutMs: z.int().min(1),
  /** For a worker of the same host; null when there is none. */
  exchange: ExchangeOffer.nullable(),
});
/** A run to compute for: the worker gets ready. `run` counts from 0 for each coordinator process. */
const Run = z.strictObject({ type: z.literal('run'), run: count, spec: RunSpec });
/** A run is over, or this worker's part in it: the worker forgets it. */
const RunOver = z.strictObject({ type: z.literal('run-over'), run: count });
/** A trial's rows. Payload: bitmap of its training rows, then bitmap of its validation rows. */
const Trial = z.strictObject({ type: z.literal('trial'), run: count, trial: count });
/** Rows asked for. Payload: `count` u32 row numbers, then their images, then their labels (one byte each). */
const Rows = z.strictObject({ type: z.literal('rows'), run: count, count: z.int().min(1) });
/**
 * A round of a trial. Payload: `layout.size` parameters and state, of a step as the run's wire has them, else float32, or nothing
 * when they are left in the exchange, as float32. Encoded once, the same frame goes to every worker that gets a lease of the round.
 */
const Round = z.strictObject({
  type: z.literal('round'),
  run: count,
  trial: count,
  round: count,
  work: Work,
  /** Are the parameters in the exchange? */
  left: z.boolean(),
});
/** The worker is to compute shards (of a step) or chunks (of an evaluation) `start` .. `start + count - 1`. */
const Lease = z.strictObject({
  type: z.literal('lease'),
  run: count,
  trial: count,
  round: count,
  start: count,
  count: z.int().min(1),
  lease,
});
/** Nothing more to do: the worker leaves. */
const Finished = z.strictObject({ type: z.literal('finished'), reason: shortText });

export const CoordinatorToWorker = z.discriminatedUnion('type', [
  Welcome,
  Run,
  RunOver,
  Trial,
  Rows,
  Round,
  Lease,
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
  new Set<CoordinatorToWorker['type']>(['trial', 'rows', 'round']),
);

/**
 * The partial whose payload is still to come, from the head of its frame.
 * @returns null for anything else, be it right or wrong: to be judged when it is all there
 */
export function decodePartialHead(head: Buffer, payloadBytes: number): PartialMessage | null {
  try {
    const { header, payloadBytes: declared } = decodeHead(head);
    const parsed = Partial.safeParse(header);
    return declared === payloadBytes && parsed.success ? parsed.data : null;
  } catch (error) {
    if (error instanceof AtelierError) return null;
    throw error;
  }
}

export const encodeToCoordinator = (message: WorkerToCoordinator, ...payload: Uint8Array[]): Buffer =>
  encodeFrame(message, ...payload);
/** The frame lies in the payload's memory: it may change only when the frame is sent. */
export const encodeToCoordinatorAround = (message: WorkerToCoordinator, payload: Uint8Array): Buffer =>
  encodeFrameAround(message, payload);
export const encodeToWorker = (message: CoordinatorToWorker, ...payload: Uint8Array[]): Buffer =>
  encodeFrame(message, ...payload);
/** The message in place of the one before the payload of a frame that came in; that frame is of no use any more. */
export const encodeToWorkerOver = (message: CoordinatorToWorker, frame: Buffer): Buffer =>
  encodeFrameOver(message, frame);
