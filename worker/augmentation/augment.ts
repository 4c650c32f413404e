import type { Augmentation } from '../../shared/augmentation.js';
import type { ImageShape } from '../../shared/models/presets.js';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { affineOf, type AffineDraw } from './affine.js';
import { Warper } from './warper.js';

/** Where a micro-batch stands in a run: with the seed, the address of everything drawn for it. */
export interface Place {
  readonly seed: number;
  readonly trial: number;
  readonly epoch: number;
  readonly shard: number;
  /** Position of its first row in the shard's order of this epoch. */
  readonly position: number;
}

/** Twelve words a row, used or not: row i of the shard always starts at the same block of the stream. */
const BLOCKS_PER_ROW = 3;
const WORD = 2 ** 32;

/** Sides of an erased rectangle, as fractions of the image's: from 1/8 to 1/2, so 2 to 25 % of its area. */
const SMALLEST_SIDE = 1 / 8;
const LARGEST_SIDE = 1 / 2;

/** Pixels set to zero; half-open. */
interface Rectangle {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** What is done to one row. */
export interface RowDraw {
  readonly affine: AffineDraw;
  readonly erased: Rectangle | null;
}

function* drawing(
  augmentation: Augmentation,
  [height, width]: ImageShape,
  { seed, trial, epoch, shard, position }: Place,
): Generator<RowDraw, never> {
  const address = { seed, purpose: Purpose.augmentation, trial, epoch, shard };
  const stream = new RandomStream(address, position * BLOCKS_PER_ROW);
  /** In [0, 1). */
  const unit = (): number => stream.uint32() / WORD;
  const within = (range: number): number => (2 * unit() - 1) * range;
  const side = (length: number): number => {
    const smallest = Math.max(1, Math.round(length * SMALLEST_SIDE));
    const largest = Math.max(smallest, Math.floor(length * LARGEST_SIDE));
    return smallest + Math.floor(unit() * (largest - smallest + 1));
  };
  for (;;) {
    const affine: AffineDraw = {
      rotationDegrees: within(augmentation.rotationDegrees),
      shiftRows: within(augmentation.shift) * height,
      shiftColumns: within(augmentation.shift) * width,
      shearDegrees: within(augmentation.shearDegrees),
      zoomRows: 1 + within(augmentation.zoom),
      zoomColumns: 1 + within(augmentation.zoom),
      flip: unit() < augmentation.flip,
    };
    const isErased = unit() < augmentation.erase;
    const rows = side(height);
    const columns = side(width);
    const top = Math.floor(unit() * (height - rows + 1));
    const left = Math.floor(unit() * (width - columns + 1));
    yield { affine, erased: isErased ? { top, bottom: top + rows, left, right: left + columns } : null };
  }
}

/** What is done to `rows` rows from `place` on. */
export function drawRows(
  augmentation: Augmentation,
  shape: ImageShape,
  place: Place,
  rows: number,
): RowDraw[] {
  const draws = drawing(augmentation, shape, place);
  return Array.from({ length: rows }, () => draws.next().value);
}

/**
 * A micro-batch with each row warped by one affine map, then erased in part (after Zhong et al., "Random erasing data
 * augmentation", AAAI 2020, with zeros). A pure function of its arguments, whoever computes it.
 * @param images rows x height x width x channels bytes
 * @returns as many floats, 0 to 255; in the memory of `warper` until it is used again
 */
export function augment(
  images: Uint8Array,
  augmentation: Augmentation,
  shape: ImageShape,
  place: Place,
  warper: Warper = new Warper(),
): Float32Array {
  const [height, width, channels] = shape;
  const size = height * width * channels;
  const draws = drawRows(augmentation, shape, place, images.length / size);
  const maps = draws.map(({ affine }) => affineOf(affine, shape));
  const result = warper.warp(images, shape, maps);
  draws.forEach(({ erased }, row) => {
    if (erased === null) return;
    const target = result.subarray(row * size, (row + 1) * size);
    for (let y = erased.top; y < erased.bottom; y++) {
      target.fill(0, (y * width + erased.left) * channels, (y * width + erased.right) * channels);
    }
  });
  return result;
}
