import { z } from 'zod';
import { Evaluation, EpochRecord } from '../shared/summary.js';
import { AtelierError } from '../shared/errors.js';
import { RowDigest } from '../shared/row-digest.js';
import type { TrialState } from './trial.js';

/*
 * A checkpoint file: the whole state of one trial.
 *
 *   [8 bytes "ATELIERC"][u32 version][u32 header length][header: JSON][zeros to a multiple of 8][arrays][SHA-256]
 *
 * The header names the arrays and their lengths in the order in which they follow, as little-endian float32. The
 * last 32 bytes are the SHA-256 of everything before them.
 */

const MAGIC = Buffer.from('ATELIERC', 'latin1');
const VERSION = 1;
const PREFIX_BYTES = MAGIC.byteLength + 8;
const HASH_BYTES = 32;
const ALIGNMENT = 8;
/** A header with the records of 100,000 epochs fits. */
const MAX_HEADER_BYTES = 64 * 1024 * 1024;

const count = z.int().min(0);

const Header = z.strictObject({
  trial: count,
  /** What may not change between a run and its resumption. */
  identity: z.string(),
  position: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('step'), epoch: count, stepInEpoch: count }),
    z.strictObject({ kind: z.literal('evaluate'), epoch: count, split: z.enum(['validation', 'test']) }),
    z.strictObject({ kind: z.literal('over') }),
  ]),
  epochTotals: z.strictObject({ rows: count, lossSum: z.number(), correct: count, seconds: z.number() }),
  records: z.array(EpochRecord),
  validation: Evaluation.nullable(),
  test: Evaluation.nullable(),
  ledger: z.strictObject({ epochs: count, digests: z.array(RowDigest) }),
  optimizer: z.record(z.string(), z.number()),
  arrays: z.array(z.strictObject({ name: z.string(), length: count })),
});

export interface Checkpoint {
  readonly trial: number;
  /** Hash of everything that decides the weights: a checkpoint fits a run with the same one alone. */
  readonly identity: string;
  readonly state: TrialState;
}

/** A checkpoint as bytes, without the hash that ends the file. */
export function encodeCheckpoint({ trial, identity, state }: Checkpoint): Buffer {
  const { arrays, ...rest } = state;
  const names = Object.keys(arrays).sort();
  const parts = names.map((name) => arrays[name] as Float32Array);
  const header = {
    trial,
    identity,
    ...rest,
    arrays: names.map((name, i) => ({ name, length: (parts[i] as Float32Array).length })),
  };
  const json = Buffer.from(JSON.stringify(header));
  const start = align(PREFIX_BYTES + json.byteLength);
  const bytes = Buffer.alloc(start + parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
  MAGIC.copy(bytes);
  bytes.writeUInt32LE(VERSION, MAGIC.byteLength);
  bytes.writeUInt32LE(json.byteLength, MAGIC.byteLength + 4);
  json.copy(bytes, PREFIX_BYTES);
  let offset = start;
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), offset);
    offset += part.byteLength;
  }
  return bytes;
}

/** SHA-256, computed off this thread. */
export async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}

/**
 * Reads a checkpoint file.
 * @throws AtelierError `data` when it is not a whole, unaltered checkpoint of this version
 */
export async function decodeCheckpoint(file: Uint8Array<ArrayBuffer>): Promise<Checkpoint> {
  if (file.byteLength < PREFIX_BYTES + HASH_BYTES) throw damaged('it is cut off');
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength - HASH_BYTES);
  if (!bytes.subarray(0, MAGIC.byteLength).equals(MAGIC)) throw damaged('it is no checkpoint');
  const hash = await sha256Of(file.subarray(0, file.byteLength - HASH_BYTES));
  if (!Buffer.from(hash).equals(file.subarray(file.byteLength - HASH_BYTES))) {
    throw damaged('its SHA-256 is wrong');
  }
  const version = bytes.readUInt32LE(MAGIC.byteLength);
  if (version !== VERSION) throw damaged(`it has version ${version}, this program reads ${VERSION}`);
  const headerBytes = bytes.readUInt32LE(MAGIC.byteLength + 4);
  if (headerBytes > MAX_HEADER_BYTES || PREFIX_BYTES + headerBytes > bytes.byteLength) {
    throw damaged('its header is cut off');
  }
  const header = Header.safeParse(parseJson(bytes.subarray(PREFIX_BYTES, PREFIX_BYTES + headerBytes)));
  if (!header.success) throw damaged(z.prettifyError(header.error));
  const { trial, identity, arrays: specs, ...rest } = header.data;
  const arrays: Record<string, Float32Array> = {};
  let offset = align(PREFIX_BYTES + headerBytes);
  for (const { name, length } of specs) {
    const end = offset + length * Float32Array.BYTES_PER_ELEMENT;
    if (end > bytes.byteLength) throw damaged('an array is cut off');
    arrays[name] = new Float32Array(Uint8Array.from(bytes.subarray(offset, end)).buffer);
    offset = end;
  }
  return { trial, identity, state: { ...rest, arrays } };
}

/** Undefined, which no header is, when it is no JSON. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}

const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

const damaged = (why: string): AtelierError => new AtelierError('data', `damaged checkpoint: ${why}`);
