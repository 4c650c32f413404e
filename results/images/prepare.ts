import type { Raster } from './decode.js';

/** `auto`: when the border is light, as on a photograph of a thing on a table. */
export type Invert = 'auto' | 'yes' | 'no';

export interface PreparedImage {
  /** height x width x channels of the model, unsigned bytes. */
  readonly pixels: Uint8Array;
  /** What was done to it, for whoever gave it. */
  readonly notes: readonly string[];
}

/** A border lighter than this (of 255) is a light background. */
const LIGHT_BORDER = 127;
const OPAQUE = 255;
/** Luma of ITU-R BT.601. */
const LUMA = [0.299, 0.587, 0.114] as const;

/**
 * Makes of any image what a model takes: colours turned into grey (or grey into colours), transparency put on the
 * background, inverted to light things on a dark ground, scaled to fit and centred.
 */
export function prepareImage(
  image: Raster,
  [height, width, channels]: readonly [height: number, width: number, channels: number],
  invert: Invert,
): PreparedImage {
  const notes: string[] = [];
  const { planes, opacity } = toPlanes(image, channels);
  const border = borderMedian(planes, opacity, image);
  const inverted = invert === 'yes' || (invert === 'auto' && border > LIGHT_BORDER);
  if (inverted) {
    notes.push(
      invert === 'auto' ? 'inverted: its border is light, and the model expects a dark ground' : 'inverted',
    );
  }
  const onBlack = planes.map((plane) =>
    plane.map((value, i) => (inverted ? OPAQUE - value : value) * ((opacity?.[i] ?? OPAQUE) / OPAQUE)),
  );
  const scale = Math.min(width / image.width, height / image.height);
  const size = {
    width: Math.max(1, Math.round(image.width * scale)),
    height: Math.max(1, Math.round(image.height * scale)),
  };
  if (image.width !== width || image.height !== height) {
    const centred =
      size.width === width && size.height === height ? '' : ` and centred on ${width} x ${height}`;
    notes.push(`resized from ${image.width} x ${image.height} to ${size.width} x ${size.height}${centred}`);
  }
  const ground = inverted ? OPAQUE - border : border;
  const fill = opacity === null ? ground : 0;
  const pixels = new Uint8Array(height * width * channels).fill(fill);
  const left = Math.floor((width - size.width) / 2);
  const top = Math.floor((height - size.height) / 2);
  onBlack.forEach((plane, channel) => {
    const scaled = resize(plane, image, size);
    for (let y = 0; y < size.height; y++) {
      for (let x = 0; x < size.width; x++) {
        const value = scaled[y * size.width + x] ?? 0;
        pixels[((top + y) * width + left + x) * channels + channel] = Math.round(value);
      }
    }
  });
  return { pixels, notes };
}

interface Planes {
  /** One plane for each channel of the model; 0 to 255. */
  readonly planes: readonly Float32Array[];
  /** 0 to 255; null when nothing is transparent. */
  readonly opacity: Float32Array | null;
}

function toPlanes({ width, height, channels, values }: Raster, wanted: number): Planes {
  const size = width * height;
  const plane = (read: (pixel: number) => number): Float32Array =>
    Float32Array.from({ length: size }, (_, i) => read(i * channels));
  const colour = (channel: number): Float32Array =>
    plane((at) => values[at + (channels === 1 ? 0 : Math.min(channel, 2))] ?? 0);
  const grey = (): Float32Array =>
    channels === 1
      ? colour(0)
      : plane((at) => LUMA.reduce((sum, weight, c) => sum + weight * (values[at + c] ?? 0), 0));
  const planes = wanted === 1 ? [grey()] : Array.from({ length: wanted }, (_, c) => colour(c));
  const opacity = channels === 4 ? plane((at) => values[at + 3] ?? OPAQUE) : null;
  return { planes, opacity: opacity?.some((value) => value < OPAQUE) === true ? opacity : null };
}

/** The median of the outermost pixels of the first plane; those one cannot see do not count. */
function borderMedian(
  planes: readonly Float32Array[],
  opacity: Float32Array | null,
  { width, height }: Raster,
): number {
  const values: number[] = [];
  for (let y = 0; y < height; y++) {
    const step = y === 0 || y === height - 1 ? 1 : width - 1;
    for (let x = 0; x < width; x += step) {
      const i = y * width + x;
      if ((opacity?.[i] ?? OPAQUE) === OPAQUE) values.push(planes[0]?.[i] ?? 0);
    }
  }
  values.sort((a, b) => a - b);
  return values[Math.floor(values.length / 2)] ?? 0;
}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** Mean over the area that a pixel comes to cover when it shrinks, linear between pixels when it grows. */
export function resize(plane: Float32Array, from: Size, to: Size): Float32Array {
  const rows = resizeLines(plane, from.height, from.width, to.width);
  const turned = transpose(rows, from.height, to.width);
  const columns = resizeLines(turned, to.width, from.height, to.height);
  return transpose(columns, to.width, to.height);
}

function transpose(values: Float32Array, height: number, width: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) turned[x * height + y] = values[y * width + x] ?? 0;
  }
  return turned;
}

/** Resizes each of `lines` lines of `length` values to `wanted` values. */
function resizeLines(values: Float32Array, lines: number, length: number, wanted: number): Float32Array {
  if (length === wanted) return values;
  const scale = length / wanted;
  const result = new Float32Array(lines * wanted);
  for (let i = 0; i < wanted; i++) {
    const taps =
      scale > 1 ? areaTaps(i * scale, (i + 1) * scale, length) : linearTaps((i + 0.5) * scale - 0.5, length);
    for (let line = 0; line < lines; line++) {
      let sum = 0;
      for (const [at, weight] of taps) sum += weight * (values[line * length + at] ?? 0);
      result[line * wanted + i] = sum;
    }
  }
  return result;
}

type Tap = readonly [at: number, weight: number];

function areaTaps(start: number, end: number, length: number): Tap[] {
  const taps: Tap[] = [];
  for (let at = Math.floor(start); at < Math.min(length, Math.ceil(end)); at++) {
    taps.push([at, (Math.min(end, at + 1) - Math.max(start, at)) / (end - start)]);
  }
  return taps;
}

function linearTaps(centre: number, length: number): Tap[] {
  const low = Math.floor(centre);
  const clamp = (at: number): number => Math.min(length - 1, Math.max(0, at));
  return [
    [clamp(low), low + 1 - centre],
    [clamp(low + 1), centre - low],
  ];
}
