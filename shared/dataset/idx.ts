import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { AtelierError, messageOf } from '../errors.js';

/*
 * The IDX format of the MNIST family (http://yann.lecun.com/exdb/mnist/): two zero bytes, a type byte (8:
 * unsigned byte), the number of dimensions, each dimension as a big-endian u32, then the values.
 */

const UNSIGNED_BYTE = 0x08;
/** The largest file unpacked: guards against a gzip bomb. */
const MAX_IDX_BYTES = 2 ** 32 - 1;

export interface IdxArray {
  readonly dims: readonly number[];
  readonly values: Uint8Array;
}

/** The path of an IDX file in `folder`, plain or `.gz`; undefined when neither is there. */
export function findIdxFile(folder: string, name: string): string | undefined {
  return [join(folder, name), join(folder, `${name}.gz`)].find((path) => existsSync(path));
}

/**
 * Reads a file, unpacked when its name ends in `.gz`.
 * @throws AtelierError `data`
 */
export function readMaybeGzipped(path: string): Buffer {
  try {
    const bytes = readFileSync(path);
    return path.endsWith('.gz') ? gunzipSync(bytes, { maxOutputLength: MAX_IDX_BYTES }) : bytes;
  } catch (cause) {
    throw new AtelierError('data', `cannot read ${path}: ${messageOf(cause)}. Fetch the file again.`, {
      cause,
    });
  }
}

/**
 * Takes the contents of an IDX file apart, without a copy.
 * @param path named in errors
 * @throws AtelierError `data` when it is not IDX of unsigned bytes, or is cut off or too long
 */
export function parseIdx(bytes: Uint8Array, path: string): IdxArray {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < 4 || view.getUint16(0) !== 0 || view.getUint8(2) !== UNSIGNED_BYTE) {
    throw new AtelierError('data', `${path} is not an IDX file of unsigned bytes`);
  }
  const rank = view.getUint8(3);
  const headerBytes = 4 + 4 * rank;
  if (rank === 0 || bytes.byteLength < headerBytes) {
    throw new AtelierError('data', `${path} is cut off in its header`);
  }
  const dims = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const expected = headerBytes + dims.reduce((size, d) => size * d, 1);
  if (bytes.byteLength !== expected) {
    throw new AtelierError(
      'data',
      `${path} has ${bytes.byteLength} bytes where its header [${dims.join(', ')}] says ${expected}: ` +
        `it is ${bytes.byteLength < expected ? 'truncated' : 'damaged'}. Fetch the file again.`,
    );
  }
  return { dims, values: bytes.subarray(headerBytes) };
}
