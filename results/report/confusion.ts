import type { Evaluation } from '../../shared/summary.js';
import { count, html, type Html, percent } from './html.js';

const WIDTH = 440;
/** Room for the names of the classes on the left and the recall on the right. */
const LEFT = 100;
const RIGHT = 44;
const TOP = 20;
/** With more classes than this, counts no longer fit into their cells. */
const MAX_CLASSES_WITH_COUNTS = 20;
/** The weakest and the strongest tint of a cell that is not empty. */
const TINT = { least: 0.06, most: 0.85 } as const;

/** A confusion matrix; each cell says on hover what it counts. Rows: true class; columns: predicted class. */
export function confusionFigure(
  title: string,
  { confusion, accuracy, rows }: Evaluation,
  names: readonly string[],
): Html {
  const classes = confusion.length;
  const cell = (WIDTH - LEFT - RIGHT) / classes;
  const height = TOP + cell * classes + 4;
  const fontSize = Math.min(12, Math.max(5, cell * 0.36));
  const nameOf = (index: number): string => names[index] ?? String(index);
  const middle = (index: number): number => TOP + (index + 0.5) * cell + fontSize * 0.35;
  const lines = confusion.map((row, truth) => {
    const total = row.reduce((sum, n) => sum + n, 0);
    const recall = total === 0 ? '-' : ((row[truth] ?? 0) / total).toFixed(3);
    const cells = row.map((n, guess) => {
      const share = total === 0 ? 0 : n / total;
      const opacity = n === 0 ? 0 : TINT.least + (TINT.most - TINT.least) * Math.sqrt(share);
      const said = guess === truth ? 'recognised' : `taken for ${nameOf(guess)}`;
      const x = LEFT + guess * cell;
      const number =
        n > 0 && classes <= MAX_CLASSES_WITH_COUNTS
          ? html`<text x="${round(x + cell / 2)}" y="${round(middle(truth))}" text-anchor="middle"
              >${n}</text
            >`
          : '';
      return html`<g>
        <title>${nameOf(truth)}: ${count(n)} of ${count(total)} ${said} (${percent(share, 1)})</title>
        <rect
          x="${round(x)}"
          y="${round(TOP + truth * cell)}"
          width="${round(cell - 1)}"
          height="${round(cell - 1)}"
          fill="var(--${guess === truth ? 'hit' : 'miss'})"
          fill-opacity="${round(opacity)}"
        />
        ${number}
      </g>`;
    });
    const label = `${truth} ${nameOf(truth)}`;
    return html`<text x="0" y="${round(middle(truth))}"
        >${label.length > 16 ? `${label.slice(0, 15)}…` : label}</text
      >
      ${cells}
      <text class="q" x="${WIDTH}" y="${round(middle(truth))}" text-anchor="end">${recall}</text>`;
  });
  const heads = confusion.map(
    (_, guess) =>
      html`<text class="q" x="${round(LEFT + (guess + 0.5) * cell)}" y="${TOP - 7}" text-anchor="middle"
        >${guess}</text
      >`,
  );
  return html`<figure>
    <h3>${title}</h3>
    <svg
      viewBox="0 0 ${WIDTH} ${round(height)}"
      role="img"
      aria-label="Confusion matrix, ${title}: accuracy ${percent(accuracy)}"
      font-size="${round(fontSize)}"
      fill="var(--ink)"
    >
      <text class="q" x="0" y="${TOP - 7}">true \\ said</text>
      ${heads}
      <text class="q" x="${WIDTH}" y="${TOP - 7}" text-anchor="end">recall</text>
      ${lines}
    </svg>
    <figcaption>
      ${percent(accuracy)} of ${count(rows)} images. Rows: what it is; columns: what the network said.
    </figcaption>
  </figure>`;
}

const round = (value: number): number => Math.round(value * 100) / 100;
