// Without the native reader of strings that 'msgpackr' brings: for headers it is slower, and it would read what strangers send.
import { Packr } from 'msgpackr/pack';
import { AtelierError } from '../errors.js';
import { MAX_HEADER_BYTES } from './limits.js';

/*
 * A frame is [u32 header length, little-endian][msgpack header][zero padding to a multiple of 8][payload].
 * The header declares the payload's length in `payloadBytes`. The payload is raw little-endian tensor bytes.
 */

const PREFIX_BYTES = 4;
const ALIGNMENT = 8;

/** Headers are packed with `payloadBytes` first: a property after a spread takes V8's slow path, and the object packs three times as slowly. */
const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });

const align = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** A frame as it came off the wire: nothing in `header` has been checked but that it is msgpack. */
export interface RawFrame {
  readonly header: unknown;
  readonly payload: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);

/** Builds a frame from a header and payload parts, which are copied one after the other. */
export function encodeFrame(header: object, ...parts: readonly Uint8Array[]): Buffer {
  const payloadBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const packed = packr.pack({ payloadBytes, ...header });
  const payloadStart = align(PREFIX_BYTES + packed.byteLength);
  const frame = Buffer.allocUnsafe(payloadStart + payloadBytes);
  frame.writeUInt32LE(packed.byteLength, 0);
  frame.set(packed, PREFIX_BYTES);
  frame.fill(0, PREFIX_BYTES + packed.byteLength, payloadStart);
  let offset = payloadStart;
  for (const part of parts) {
    frame.set(part, offset);
    offset += part.byteLength;
  }
  return frame;
}

/** Free bytes before a payload that is to be framed where it lies: for a header of all but the longest messages. */
export const HEAD_ROOM_BYTES = 4_096;

/**
 * Builds a frame around a payload, in the payload's own memory: the header goes into the `HEAD_ROOM_BYTES` before it. A
 * header that does not fit there makes a copy of both, as `encodeFrame` does.
 */
export function encodeFrameAround(header: object, payload: Uint8Array): Buffer {
  const packed = packr.pack({ payloadBytes: payload.byteLength, ...header });
  const head = align(PREFIX_BYTES + packed.byteLength);
  if (head > Math.min(HEAD_ROOM_BYTES, payload.byteOffset)) return encodeFrame(header, payload);
  const frame = Buffer.from(payload.buffer, payload.byteOffset - head, head + payload.byteLength);
  return writeHead(frame, packed, head);
}

/**
 * Puts another header before the payload of a frame that was taken apart without an error, in that frame's own memory. A
 * header that does not fit in the place of the one before makes a copy, as `encodeFrame` does.
 */
export function encodeFrameOver(header: object, frame: Buffer): Buffer {
  const payloadStart = align(PREFIX_BYTES + frame.readUInt32LE(0));
  const payload = frame.subarray(payloadStart);
  const packed = packr.pack({ payloadBytes: payload.byteLength, ...header });
  const head = align(PREFIX_BYTES + packed.byteLength);
  if (head > payloadStart) return encodeFrame(header, payload);
  return writeHead(frame.subarray(payloadStart - head), packed, head);
}

/** @param head bytes before the payload */
function writeHead(frame: Buffer, packed: Buffer, head: number): Buffer {
  frame.writeUInt32LE(packed.byteLength, 0);
  frame.set(packed, PREFIX_BYTES);
  frame.fill(0, PREFIX_BYTES + packed.byteLength, head);
  return frame;
}

/**
 * Takes a frame apart.
 * @throws AtelierError `protocol` when the bytes are not a frame or the lengths do not agree.
 */
export function decodeFrame(frame: Buffer): RawFrame {
  const { header, payloadStart, payloadBytes } = decodeHead(frame);
  // A plain Uint8Array: slice() of a Buffer would not copy.
  const payload =
    payloadStart < frame.byteLength
      ? new Uint8Array(frame.buffer, frame.byteOffset + payloadStart, frame.byteLength - payloadStart)
      : NO_BYTES;
  if (payloadBytes !== payload.byteLength) {
    throw badFrame(`the declared length of the payload is not its length, ${payload.byteLength} bytes`);
  }
  return { header, payload };
}

/** So many bytes tell how long a head is. */
export const MIN_HEAD_BYTES = PREFIX_BYTES;

/** Bytes of a frame before its payload. */
export const frameHeadBytes = (frame: Buffer): number => align(PREFIX_BYTES + frame.readUInt32LE(0));

/**
 * Takes the head of a frame apart, of which more may or may not be there.
 * @throws AtelierError `protocol` when it is not one
 */
export function decodeHead(frame: Buffer): {
  header: Readonly<Record<string, unknown>>;
  payloadStart: number;
  payloadBytes: unknown;
} {
  if (frame.byteLength < PREFIX_BYTES) throw badFrame('shorter than its length prefix');
  const headerBytes = frame.readUInt32LE(0);
  if (headerBytes > MAX_HEADER_BYTES) throw badFrame(`header of ${headerBytes} bytes is over the limit`);
  if (PREFIX_BYTES + headerBytes > frame.byteLength) throw badFrame('header is cut off');
  let header: unknown;
  try {
    // Of these bytes alone: a header that says it is longer does not reach into the payload.
    header = packr.unpack(frame.subarray(PREFIX_BYTES, PREFIX_BYTES + headerBytes));
  } catch (cause) {
    throw badFrame('header is not msgpack', cause);
  }
  if (typeof header !== 'object' || header === null) throw badFrame('header is not a map');
  const { payloadBytes, ...fields } = header as Record<string, unknown>;
  return { header: fields, payloadStart: frameHeadBytes(frame), payloadBytes };
}

function badFrame(what: string, cause?: unknown): AtelierError {
  return new AtelierError('protocol', `bad frame: ${what}`, { cause });
}

/** The bytes of a typed array, without a copy. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** A payload as float32 values: a view where its alignment allows one, else a copy. */
export function float32Of(payload: Uint8Array): Float32Array {
  if (payload.byteOffset % Float32Array.BYTES_PER_ELEMENT === 0) {
    return new Float32Array(payload.buffer, payload.byteOffset, payload.byteLength / 4);
  }
  return new Float32Array(payload.slice().buffer);
}
