import { PNG } from 'pngjs';
import { html, type Html } from './html.js';

/** Grey values of one tile, 0 to 1, row-major. */
export type Tile = Float32Array;

const WHITE = 255;
const GREY_AND_ALPHA = 4;
/** Clear pixels between tiles. */
const GAP = 1;

/** Values moved and scaled to 0..1; all 0 when they are all the same. */
export function normalised(values: Float32Array): Float32Array {
  let min = Infinity;
  let max = -Infinity;
  for (const value of values) {
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  const range = max - min;
  return values.map((value) => (range > 0 ? (value - min) / range : 0));
}

export interface Mosaic {
  readonly tiles: readonly Tile[];
  readonly width: number;
  readonly height: number;
  readonly columns: number;
}

/** Tiles side by side as a PNG of greys; what lies between them is clear. */
export function mosaicPng({ tiles, width, height, columns }: Mosaic): Buffer {
  const lines = Math.ceil(tiles.length / columns);
  const image = new PNG({
    width: columns * (width + GAP) - GAP,
    height: lines * (height + GAP) - GAP,
  });
  image.data.fill(0);
  tiles.forEach((tile, i) => {
    const left = (i % columns) * (width + GAP);
    const top = Math.floor(i / columns) * (height + GAP);
    tile.forEach((value, at) => {
      const x = left + (at % width);
      const y = top + Math.floor(at / width);
      const pixel = 4 * (y * image.width + x);
      image.data.fill(Math.round(value * WHITE), pixel, pixel + 3);
      image.data[pixel + 3] = WHITE;
    });
  });
  return PNG.sync.write(image, { colorType: GREY_AND_ALPHA });
}

/** An image of unsigned bytes (1 or 3 channels) as a PNG. */
export function imagePng(
  pixels: Uint8Array,
  [height, width, channels]: readonly [number, number, number],
): Buffer {
  const image = new PNG({ width, height });
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[i * channels + Math.min(c, channels - 1)] ?? 0;
    image.data[4 * i + 3] = WHITE;
  }
  return PNG.sync.write(image, { colorType: channels === 1 ? 0 : 2 });
}

/** The PNG inside the page. @param shownWidth width on the screen, in CSS pixels, where there is room */
export function pictureTag(png: Buffer, alt: string, shownWidth: number): Html {
  return html`<img
    src="data:image/png;base64,${png.toString('base64')}"
    alt="${alt}"
    title="${alt}"
    width="${shownWidth}"
  />`;
}
