import type { ImageShape } from '../../shared/models/presets.js';
import { sineCosine } from '../../shared/sine-cosine.js';

/** One row's draw. Angles in degrees, shifts in pixels; the identity is 0, 0, 0, 0, 1, 1, false. */
export interface AffineDraw {
  readonly rotationDegrees: number;
  readonly shiftRows: number;
  readonly shiftColumns: number;
  readonly shearDegrees: number;
  readonly zoomRows: number;
  readonly zoomColumns: number;
  readonly flip: boolean;
}

/** Where in the source image a pixel of the result is read: y = yy * row + yx * column + y0, and x alike. */
export interface Affine {
  readonly yy: number;
  readonly yx: number;
  readonly y0: number;
  readonly xy: number;
  readonly xx: number;
  readonly x0: number;
}

/** The numbers of a map as they stand in memory. */
export const MAP_ORDER = ['yy', 'yx', 'y0', 'xy', 'xx', 'x0'] as const satisfies readonly (keyof Affine)[];

const RADIANS = Math.PI / 180;

/**
 * The map of Keras' `ImageDataGenerator`: about the image's centre, on (row, column), rotation * shift * shear * zoom
 * with shear = [[1, -sin], [0, cos]], the flip after them all (keras-preprocessing, `apply_affine_transform` and
 * `apply_transform`). As there it maps the result's pixels to the source's: a zoom of 0.9 enlarges.
 */
export function affineOf(draw: AffineDraw, [height, width]: ImageShape): Affine {
  const { sine, cosine } = sineCosine(draw.rotationDegrees * RADIANS);
  const shear = sineCosine(draw.shearDegrees * RADIANS);
  const mirror = draw.flip ? -1 : 1;
  const yy = cosine * draw.zoomRows;
  const yx = (-cosine * shear.sine - sine * shear.cosine) * draw.zoomColumns * mirror;
  const xy = sine * draw.zoomRows;
  const xx = (cosine * shear.cosine - sine * shear.sine) * draw.zoomColumns * mirror;
  const centreY = (height - 1) / 2;
  const centreX = (width - 1) / 2;
  const shiftY = cosine * draw.shiftRows - sine * draw.shiftColumns;
  const shiftX = sine * draw.shiftRows + cosine * draw.shiftColumns;
  return {
    yy,
    yx,
    y0: centreY + shiftY - yy * centreY - yx * centreX,
    xy,
    xx,
    x0: centreX + shiftX - xy * centreY - xx * centreX,
  };
}

const f = Math.fround;

/**
 * Reads `target` out of `source` through `affine`: bilinear, and beyond the edge the nearest pixel of the edge (Keras'
 * `fill_mode='nearest'`). Every operation is rounded to float32, in this order: the same bits on every engine and
 * processor, and those of the vector kernel (warp-kernel.ts).
 * @param source height x width x channels bytes
 * @param target as many floats, 0 to 255
 */
export function warp(
  source: Uint8Array,
  target: Float32Array,
  [height, width, channels]: ImageShape,
  affine: Affine,
): void {
  const [yy, yx, y0, xy, xx, x0] = MAP_ORDER.map((key) => f(affine[key])) as [
    ...[number, number, number],
    ...[number, number, number],
  ];
  const lastRow = height - 1;
  const lastColumn = width - 1;
  const stride = width * channels;
  let pixel = 0;
  for (let row = 0; row < height; row++) {
    const rowY = f(f(yy * row) + y0);
    const rowX = f(f(xy * row) + x0);
    for (let column = 0; column < width; column++) {
      let y = f(f(yx * column) + rowY);
      let x = f(f(xx * column) + rowX);
      y = y < 0 ? 0 : y > lastRow ? lastRow : y;
      x = x < 0 ? 0 : x > lastColumn ? lastColumn : x;
      const top = y | 0;
      const left = x | 0;
      const down = f(y - top);
      const along = f(x - left);
      const a = top * stride + left * channels;
      const b = left < lastColumn ? a + channels : a;
      const below = top < lastRow ? stride : 0;
      for (let channel = 0; channel < channels; channel++) {
        const upperLeft = source[a + channel] as number;
        const lowerLeft = source[a + below + channel] as number;
        const upper = f(upperLeft + f(along * ((source[b + channel] as number) - upperLeft)));
        const lower = f(lowerLeft + f(along * ((source[b + below + channel] as number) - lowerLeft)));
        target[pixel++] = f(upper + f(down * f(lower - upper)));
      }
    }
  }
}
