import { readFileSync, statSync } from 'node:fs';
import jpeg from 'jpeg-js';
import { PNG } from 'pngjs';
import { parseIdx } from '../../shared/dataset/idx.js';
import { AtelierError, messageOf } from '../../shared/errors.js';

/** The largest image file, the most pixels of one image (checked before it is unpacked), the fewest on a side. */
export const MAX_IMAGE_FILE_BYTES = 32 * 1024 * 1024;
export const MAX_IMAGE_PIXELS = 25_000_000;
export const MIN_IMAGE_SIDE = 4;
/** The largest IDX file and the most rows of it. */
const MAX_IDX_FILE_BYTES = 1024 * 1024 * 1024;
const MAX_IDX_ROWS = 100_000;
/** Decoding a JPEG takes several times its pixels. */
const MAX_JPEG_MEMORY_MB = 512;

/** An image of unsigned bytes. */
export interface Raster {
  readonly width: number;
  readonly height: number;
  /** 1: grey; 3: RGB; 4: RGB and opacity. */
  readonly channels: number;
  /** height x width x channels */
  readonly values: Uint8Array;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const isPng = (bytes: Buffer): boolean => bytes.subarray(0, 8).equals(PNG_SIGNATURE);
const isJpeg = (bytes: Buffer): boolean => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
const isIdx = (bytes: Buffer): boolean =>
  bytes.length > 4 && bytes.readUInt16BE(0) === 0 && bytes[2] === 0x08;

/**
 * The images in a file: one of a PNG or JPEG, all rows of an IDX file.
 * @throws AtelierError `data` when it is none of these, is damaged, or beyond a limit
 */
export function decodeImages(path: string): Raster[] {
  const bytes = readBounded(path);
  if (isIdx(bytes)) return decodeIdx(path, bytes);
  const kind = isPng(bytes) ? 'PNG' : isJpeg(bytes) ? 'JPEG' : null;
  if (kind === null) {
    throw new AtelierError('data', `${path} is not an image: give PNG, JPEG, or IDX of unsigned bytes`);
  }
  if (bytes.length > MAX_IMAGE_FILE_BYTES) throw tooLarge(path, bytes.length, MAX_IMAGE_FILE_BYTES);
  const size = kind === 'PNG' ? pngSize(bytes) : jpegSize(bytes);
  if (size === undefined) throw damaged(path, kind, 'its header is cut off');
  checkSize(path, size);
  try {
    const { width, height, data } =
      kind === 'PNG'
        ? PNG.sync.read(bytes)
        : jpeg.decode(bytes, {
            useTArray: true,
            formatAsRGBA: true,
            maxResolutionInMP: MAX_IMAGE_PIXELS / 1_000_000,
            maxMemoryUsageInMB: MAX_JPEG_MEMORY_MB,
          });
    return [{ width, height, channels: 4, values: data }];
  } catch (cause) {
    throw damaged(path, kind, messageOf(cause), cause);
  }
}

function readBounded(path: string): Buffer {
  try {
    const { size } = statSync(path);
    if (size > MAX_IDX_FILE_BYTES) throw tooLarge(path, size, MAX_IDX_FILE_BYTES);
    return readFileSync(path);
  } catch (cause) {
    if (cause instanceof AtelierError) throw cause;
    throw new AtelierError('usage', `cannot read ${path}: ${messageOf(cause)}`, { cause });
  }
}

function decodeIdx(path: string, bytes: Buffer): Raster[] {
  const { dims, values } = parseIdx(bytes, path);
  const [rows = 0, height = 0, width = 0, channels = 1] = dims;
  if (dims.length < 3 || dims.length > 4 || (channels !== 1 && channels !== 3)) {
    throw new AtelierError(
      'data',
      `${path} has the dimensions [${dims.join(', ')}]: images have rows, height, width and perhaps 1 or 3 channels`,
    );
  }
  if (rows === 0 || rows > MAX_IDX_ROWS) {
    throw new AtelierError('data', `${path} has ${rows} rows: expected 1 to ${MAX_IDX_ROWS}`);
  }
  checkSize(path, { width, height });
  const size = height * width * channels;
  return Array.from({ length: rows }, (_, row) => ({
    width,
    height,
    channels,
    values: values.subarray(row * size, (row + 1) * size),
  }));
}

function checkSize(path: string, { width, height }: Size): void {
  if (width < MIN_IMAGE_SIDE || height < MIN_IMAGE_SIDE) {
    throw new AtelierError(
      'data',
      `${path} is ${width} x ${height} pixels: an image has at least ${MIN_IMAGE_SIDE} on each side`,
    );
  }
  if (width * height > MAX_IMAGE_PIXELS) {
    throw new AtelierError(
      'data',
      `${path} is ${width} x ${height} pixels, more than the ${MAX_IMAGE_PIXELS / 1_000_000} million that are read: make it smaller`,
    );
  }
}

/** The first chunk of a PNG is IHDR, which starts with width and height (RFC 2083, 4.1.1). */
function pngSize(bytes: Buffer): Size | undefined {
  if (bytes.length < 24 || bytes.toString('latin1', 12, 16) !== 'IHDR') return undefined;
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}

/** Walks a JPEG's segments to its start of frame (ITU T.81, B.2.2). */
function jpegSize(bytes: Buffer): Size | undefined {
  for (let at = 2; at + 9 < bytes.length;) {
    if (bytes[at] !== 0xff) return undefined;
    const marker = bytes[at + 1] ?? 0;
    if (marker === 0xff) {
      at++;
      continue;
    }
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return { height: bytes.readUInt16BE(at + 5), width: bytes.readUInt16BE(at + 7) };
    at += 2 + bytes.readUInt16BE(at + 2);
  }
  return undefined;
}

const tooLarge = (path: string, size: number, limit: number): AtelierError =>
  new AtelierError(
    'data',
    `${path} has ${size} bytes, more than the ${limit} that are read: make it smaller`,
  );

const damaged = (path: string, kind: string, why: string, cause?: unknown): AtelierError =>
  new AtelierError('data', `${path} is a damaged ${kind}: ${why}`, { cause });
