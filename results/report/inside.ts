import type { Kernel, LayerOutput } from '../../shared/models/trained-model.js';
import { reliabilityFigure, barsFigure } from './chart.js';
import { CALIBRATION_BINS, type Calibration } from './calibration.js';
import { count, html, type Html, percent, table } from './html.js';
import type { AugmentedSample, Look, Mistake } from './look.js';
import { imagePng, mosaicPng, normalised, pictureTag, type Tile } from './picture.js';

/** Tiles shown of one layer, and pixels of all pictures of one kind: the report stays small. */
const MAX_TILES = 256;
const MAX_PIXELS = 700_000;
/** Largest mosaic on the screen, and the most that a pixel of it is enlarged. */
const MOSAIC_WIDTH = 900;
const MOSAIC_HEIGHT = 420;
const MAX_ZOOM = 10;

interface Tiles {
  readonly tiles: readonly Tile[];
  readonly width: number;
  readonly height: number;
  readonly columns: number;
}

function mosaic({ tiles, width, height, columns }: Tiles, alt: string): Html {
  const wide = columns * (width + 1) - 1;
  const high = Math.ceil(tiles.length / columns) * (height + 1) - 1;
  const fitting = Math.floor(Math.min(MOSAIC_WIDTH / wide, MOSAIC_HEIGHT / high));
  const zoom = Math.max(1, Math.min(MAX_ZOOM, fitting));
  return html`<div class="mosaic">
    ${pictureTag(mosaicPng({ tiles, width, height, columns }), alt, wide * zoom)}
  </div>`;
}

/** As many of a layer's tiles as the budget allows. */
function within(tiles: readonly Tile[], spent: { pixels: number }): readonly Tile[] {
  const size = tiles[0]?.length ?? 1;
  const room = Math.max(1, Math.floor((MAX_PIXELS - spent.pixels) / size));
  const shown = tiles.slice(0, Math.min(MAX_TILES, room));
  spent.pixels += shown.length * size;
  return shown;
}

const shownOf = (shown: number, all: number): string =>
  shown === all ? '' : `; the first ${shown} of ${count(all)}`;

/** Near a square on the screen, in a line when there are few. */
const squareColumns = (tiles: number): number => (tiles <= 8 ? tiles : Math.ceil(Math.sqrt(tiles * 2)));

/** The filters of each convolution: one line for each filter when it sees several channels. Normalised as the study does. */
export function kernelSection(kernels: readonly Kernel[]): Html {
  const spent = { pixels: 0 };
  return html`<p>
      Each convolution's kernels, all of a layer scaled together so that the smallest value is black and the
      largest white. A line of tiles is one filter, a tile of it one of the channels it looks at.
    </p>
    ${kernels.map(({ layer, shape: [height, width, inputs, filters], values }) => {
      const scaled = normalised(values);
      // Row-major height x width x inputs x filters.
      const tile = (filter: number, input: number): Tile =>
        Float32Array.from(
          { length: height * width },
          (_, at) => scaled[(at * inputs + input) * filters + filter] ?? 0,
        );
      const all = Array.from({ length: filters * inputs }, (_, i) =>
        tile(Math.floor(i / inputs), i % inputs),
      );
      const shown = within(all, spent);
      const columns = inputs === 1 ? squareColumns(filters) : Math.min(inputs, shown.length);
      return html`<h3>${layer}</h3>
        <p class="quiet">
          ${filters} filters of ${height} x ${width} over ${inputs}
          channel${inputs === 1 ? '' : 's'}${shownOf(shown.length, all.length)}
        </p>
        ${mosaic({ tiles: shown, width, height, columns }, `Kernels of ${layer}`)}`;
    })}`;
}

/** What each layer makes of one image. */
export function mapsSection({ image, maps, imageShape }: Look, classNames: readonly string[]): Html {
  const spent = { pixels: 0 };
  const name = (index: number): string => classNames[index] ?? String(index);
  const verdict = image.guess === image.truth ? 'recognised' : `taken for ${name(image.guess)}`;
  return html`<p>Test image ${image.row}, ${name(image.truth)}, ${verdict}. Each map is scaled by itself.</p>
    ${pictureTag(imagePng(image.pixels, imageShape), `Test image ${image.row}: ${name(image.truth)}`, 168)}
    ${maps.map((output) => mapsOf(output, spent))}`;
}

function mapsOf({ layer, type, shape, values }: LayerOutput, spent: { pixels: number }): Html {
  const [height, width, channels] =
    shape.length === 3 ? (shape as [number, number, number]) : [1, 1, values.length];
  const isPoint = height * width === 1;
  const whole = isPoint ? normalised(values) : values;
  const all = Array.from({ length: channels }, (_, channel) => {
    const tile = Float32Array.from(
      { length: height * width },
      (__, at) => whole[at * channels + channel] ?? 0,
    );
    return isPoint ? tile : normalised(tile);
  });
  const flat = isPoint ? 0 : all.filter((tile) => tile.every((value) => value === 0)).length;
  const shown = within(all, spent);
  const dead = flat === 0 ? '' : `; ${flat} are the same everywhere`;
  const what = isPoint
    ? `${channels} values, scaled together`
    : `${channels} maps of ${height} x ${width}${shownOf(shown.length, channels)}${dead}`;
  return html`<h3>${layer}</h3>
    <p class="quiet">${type}: ${what}</p>
    ${mosaic({ tiles: shown, width, height, columns: squareColumns(shown.length) }, `Feature maps of ${layer}`)}`;
}

export function mistakesSection(
  mistakes: readonly Mistake[],
  imageShape: Look['imageShape'],
  classNames: readonly string[],
): Html {
  if (mistakes.length === 0) return html`<p>None: every test image was recognised.</p>`;
  const name = (index: number): string => classNames[index] ?? String(index);
  return html`<p>Test images that were taken for something else, the surest first.</p>
    <div class="tiles">
      ${mistakes.map(
        ({ row, image, truth, guess, confidence }) =>
          html`<figure>
            ${pictureTag(imagePng(image, imageShape), `Test image ${row}`, 112)}
            <figcaption>
              <strong>${name(guess)}</strong> ${percent(confidence, 1)}<br />is ${name(truth)} (${row})
            </figcaption>
          </figure>`,
      )}
    </div>`;
}

export function calibrationSection({ bins, ece, meanConfidence, accuracy }: Calibration, test: number): Html {
  const caption =
    `On the line the network is as often right as it says. Expected calibration error (${CALIBRATION_BINS} bins) ` +
    `${ece.toFixed(4)}; mean confidence ${percent(meanConfidence)}, accuracy ${percent(accuracy)}: ` +
    (meanConfidence > accuracy ? 'too sure of itself.' : 'too modest.');
  return html`<div class="charts">
      ${reliabilityFigure(bins, caption)}
      ${barsFigure(
        'How sure it is',
        bins.map(({ to, rows }) => ({ name: to.toFixed(2), value: rows })),
        'confidence, up to',
        `${count(test)} test images by the probability of the class that the network names.`,
      )}
    </div>
    <details>
      <summary>Bins</summary>
      ${table(
        ['confidence', 'images', 'accuracy', 'mean confidence'],
        bins
          .filter(({ rows }) => rows > 0)
          .map((bin) => [
            `${bin.from.toFixed(3)} to ${bin.to.toFixed(3)}`,
            count(bin.rows),
            bin.accuracy.toFixed(4),
            bin.confidence.toFixed(4),
          ]),
      )}
    </details>`;
}

export function augmentedSection(samples: readonly AugmentedSample[], imageShape: Look['imageShape']): Html {
  return html`<p>Training images as they are, and as this run's augmentation changes them.</p>
    <div class="tiles">
      ${samples.flatMap(({ row, original, augmented }) => [
        html`<figure>
          ${pictureTag(imagePng(original, imageShape), `Training image ${row}`, 112)}
          <figcaption>${row}, as it is</figcaption>
        </figure>`,
        ...augmented.map(
          (image, i) =>
            html`<figure>
              ${pictureTag(imagePng(image, imageShape), `Training image ${row}, augmented`, 112)}
              <figcaption>${row}, augmented ${i + 1}</figcaption>
            </figure>`,
        ),
      ])}
    </div>`;
}
