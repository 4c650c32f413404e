import { BarChart, BoxplotChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent } from 'echarts/components';
import { init, use, type EChartsCoreOption } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { EMPTY, escapeHtml, html, Html } from './html.js';

use([BarChart, BoxplotChart, LineChart, ScatterChart, GridComponent, LegendComponent, SVGRenderer]);

/** Charts are drawn at the width of a phone, so that their text is readable there, and stretched a little elsewhere. */
const WIDTH = 440;
const HEIGHT = 280;
const COLOURS = 8;
/** More lines than this have no legend: their names would cover the chart. */
const MAX_LEGEND = 10;

/** The colour of series `i`: a variable of the page, so that it follows the reader's theme. */
export const colour = (i: number): string => `var(--c${(i % COLOURS) + 1})`;

export interface Figure {
  readonly title: string;
  readonly caption?: string;
  /** What it shows, for those who cannot see it. */
  readonly label: string;
  readonly height?: number;
  readonly option: EChartsCoreOption;
}

const TEXT = { color: 'var(--quiet)', fontSize: 12, fontFamily: 'system-ui, "DejaVu Sans", sans-serif' };

/** Common to all axes. */
const axis = (options: object): object => ({
  axisLine: { lineStyle: { color: 'var(--line)' } },
  axisTick: { lineStyle: { color: 'var(--line)' } },
  splitLine: { lineStyle: { color: 'var(--line)', width: 0.5 } },
  axisLabel: TEXT,
  nameTextStyle: TEXT,
  nameLocation: 'middle',
  ...options,
});

/** An ECharts figure, drawn here: the page holds an SVG and no script. */
export function drawFigure({ title, caption, label, height = HEIGHT, option }: Figure): Html {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  try {
    chart.setOption({ animation: false, backgroundColor: 'transparent', textStyle: TEXT, ...option });
    const svg = chart
      .renderToSVGString()
      .replace(/^<svg /, `<svg role="img" aria-label="${escapeHtml(label)}" `)
      // Fixed sizes would win over the page's.
      .replace(/^(<svg [^>]*?) width="\d+" height="\d+"/, '$1');
    return html`<figure>
      <h3>${title}</h3>
      ${new Html(svg)}${caption === undefined ? '' : html`<figcaption>${caption}</figcaption>`}
    </figure>`;
  } finally {
    chart.dispose();
  }
}

export interface Line {
  readonly name: string;
  /** By epoch, from 1; null where there is none. */
  readonly values: readonly (number | null)[];
  readonly dashed?: boolean;
  /** Which of the page's colours (default: the next). */
  readonly colour?: number;
}

/** Lines over epochs. */
export function linesFigure(title: string, lines: readonly Line[], caption?: string): Html {
  const epochs = Math.max(...lines.map(({ values }) => values.length));
  const shown = lines.filter(({ values }) => values.some((value) => value !== null));
  if (shown.length === 0) return EMPTY;
  return drawFigure({
    title,
    ...(caption === undefined ? {} : { caption }),
    label: `${title} over ${epochs} epochs: ${shown.map(({ name }) => name).join(', ')}`,
    option: {
      grid: { left: 56, right: 14, top: 34, bottom: 44 },
      legend: {
        show: shown.length <= MAX_LEGEND,
        top: 0,
        left: 'center',
        textStyle: { ...TEXT, color: 'var(--ink)' },
        itemWidth: 22,
        itemHeight: 8,
      },
      xAxis: axis({
        type: 'category',
        data: Array.from({ length: epochs }, (_, i) => i + 1),
        name: 'epoch',
        nameGap: 26,
      }),
      yAxis: axis({ type: 'value', scale: true }),
      series: shown.map(({ name, values, dashed, colour: given }, i) => ({
        type: 'line',
        name,
        data: values,
        showSymbol: epochs <= 30,
        symbol: 'circle',
        symbolSize: 5,
        emphasis: { disabled: true },
        itemStyle: { color: colour(given ?? i) },
        lineStyle: { color: colour(given ?? i), width: 2, type: dashed === true ? 'dashed' : 'solid' },
      })),
    },
  });
}

/** Smallest, lower quartile, median, upper quartile, largest (quartiles by linear interpolation). */
export function fiveNumbers(values: readonly number[]): [number, number, number, number, number] {
  const sorted = values.toSorted((a, b) => a - b);
  const quantile = (q: number): number => {
    const at = q * (sorted.length - 1);
    const low = sorted[Math.floor(at)] ?? Number.NaN;
    const high = sorted[Math.ceil(at)] ?? Number.NaN;
    return low + (high - low) * (at - Math.floor(at));
  };
  return [quantile(0), quantile(0.25), quantile(0.5), quantile(0.75), quantile(1)];
}

/** A box for each group, with its values as dots. */
export function boxFigure(
  title: string,
  groups: readonly { readonly name: string; readonly values: readonly number[] }[],
  caption: string,
): Html {
  return drawFigure({
    title,
    caption,
    label: `${title}: ${groups.map(({ name, values }) => `${name} ${values.map((v) => v.toFixed(4)).join(' ')}`).join('; ')}`,
    option: {
      grid: { left: 62, right: 14, top: 14, bottom: 30 },
      xAxis: axis({ type: 'category', data: groups.map(({ name }) => name) }),
      yAxis: axis({ type: 'value', scale: true }),
      series: [
        {
          type: 'boxplot',
          data: groups.map(({ values }) => fiveNumbers(values)),
          boxWidth: [40, 70],
          emphasis: { disabled: true },
          itemStyle: { color: 'var(--panel)', borderColor: 'var(--c1)', borderWidth: 2 },
        },
        {
          type: 'scatter',
          data: groups.flatMap(({ values }, group) => values.map((value) => [group, value])),
          symbolSize: 9,
          emphasis: { disabled: true },
          itemStyle: { color: 'var(--c2)', opacity: 0.85 },
        },
      ],
    },
  });
}

/** One bar for each name. */
export function barsFigure(
  title: string,
  bars: readonly { readonly name: string; readonly value: number }[],
  axisName: string,
  caption?: string,
): Html {
  return drawFigure({
    title,
    ...(caption === undefined ? {} : { caption }),
    label: `${title}: ${bars.map(({ name, value }) => `${name} ${value.toPrecision(4)}`).join(', ')}`,
    option: {
      grid: { left: 56, right: 14, top: 14, bottom: 44 },
      xAxis: axis({ type: 'category', data: bars.map(({ name }) => name), name: axisName, nameGap: 26 }),
      yAxis: axis({ type: 'value' }),
      series: [
        {
          type: 'bar',
          data: bars.map(({ value }) => value),
          barMaxWidth: 36,
          emphasis: { disabled: true },
          itemStyle: { color: 'var(--c1)' },
        },
      ],
    },
  });
}

/** Reliability: how often the network is right, by how sure it says it is. */
export function reliabilityFigure(
  bins: readonly {
    readonly from: number;
    readonly to: number;
    readonly rows: number;
    readonly accuracy: number;
  }[],
  caption: string,
): Html {
  return drawFigure({
    title: 'Reliability',
    caption,
    label: `Reliability diagram: ${bins
      .filter(({ rows }) => rows > 0)
      .map(
        ({ from, to, accuracy }) =>
          `sure ${from.toFixed(2)} to ${to.toFixed(2)}: right ${accuracy.toFixed(2)}`,
      )
      .join(', ')}`,
    option: {
      grid: { left: 56, right: 14, top: 14, bottom: 44 },
      xAxis: axis({ type: 'value', min: 0, max: 1, name: 'confidence', nameGap: 26 }),
      yAxis: axis({ type: 'value', min: 0, max: 1, name: 'accuracy', nameGap: 36 }),
      series: [
        {
          type: 'line',
          data: [
            [0, 0],
            [1, 1],
          ],
          symbol: 'none',
          lineStyle: { color: 'var(--quiet)', type: 'dashed', width: 1.5 },
        },
        {
          type: 'line',
          data: bins
            .filter(({ rows }) => rows > 0)
            .map(({ from, to, accuracy }) => [(from + to) / 2, accuracy]),
          symbol: 'circle',
          symbolSize: 7,
          emphasis: { disabled: true },
          itemStyle: { color: 'var(--c1)' },
          lineStyle: { color: 'var(--c1)', width: 2 },
        },
      ],
    },
  });
}
