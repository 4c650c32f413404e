import { Chart } from './chart.js';
import type { CustomSeriesRenderItemAPI, CustomSeriesRenderItemParams } from './echarts.js';
import { timeOfDay } from './format.js';
import { TIMELINE_MS, type History, type Stretch } from './history.js';
import type { Theme } from './theme.js';

const ROW_PX = 30;
const AXIS_PX = 34;
const LETTER_PX = 8;
const MOST_LABEL_PX = 160;
/** Of a row's height; the rest is space between rows. */
const BAR = 0.72;

/** How many slots of each worker were at work, over the last two minutes. */
export class Timeline {
  private readonly chart: Chart;

  constructor(host: HTMLElement) {
    this.chart = new Chart(host);
  }

  draw(history: History, theme: Theme, now: number): void {
    const names = [...history.stretches.keys()].sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
    this.chart.height = Math.max(1, names.length) * ROW_PX + AXIS_PX;
    const data = names.flatMap((name, row) =>
      (history.stretches.get(name) ?? []).map((stretch) => ({
        value: [row, stretch.from, stretch.to, stretch.busySlots],
        stretch,
      })),
    );
    const label = { color: theme.quiet };
    const longest = Math.max(1, ...names.map(({ length }) => length));
    const labelPx = Math.min(longest * LETTER_PX, MOST_LABEL_PX, this.chart.width * 0.3);
    const option = {
      grid: { left: labelPx + 8, right: 14, top: 2, bottom: AXIS_PX - 6 },
      tooltip: { show: false },
      xAxis: {
        type: 'time',
        min: now - TIMELINE_MS,
        max: now,
        splitNumber: this.chart.width < 500 ? 2 : 6,
        axisLabel: { ...label, formatter: (time: number) => timeOfDay(time), hideOverlap: true },
        axisLine: { lineStyle: { color: theme.line } },
        splitLine: { show: false },
      },
      yAxis: {
        type: 'category',
        inverse: true,
        data: names,
        axisLabel: { color: theme.ink, width: labelPx, overflow: 'truncate', interval: 0 },
        axisTick: { show: false },
        axisLine: { show: false },
      },
      series: [
        {
          id: 'slots',
          type: 'custom',
          silent: true,
          clip: true,
          encode: { x: [1, 2], y: 0 },
          data,
          renderItem: (params: CustomSeriesRenderItemParams, api: CustomSeriesRenderItemAPI) =>
            bar(api, params, data[params.dataIndex]?.stretch, theme),
        },
      ],
    };
    this.chart.show(option, describe(names, history));
  }
}

interface Area {
  readonly x: number;
  readonly width: number;
}

/** One stretch: its slots as a bed, those at work as a bar that stands in it. */
function bar(
  api: CustomSeriesRenderItemAPI,
  params: CustomSeriesRenderItemParams,
  stretch: Stretch | undefined,
  theme: Theme,
): object | undefined {
  if (stretch === undefined) return undefined;
  const [left = 0, middle = 0] = api.coord([stretch.from, api.value(0)]);
  const [right = 0] = api.coord([stretch.to, api.value(0)]);
  const area = params.coordSys as unknown as Area;
  const x = Math.max(left, area.x);
  const width = Math.max(1, Math.min(right, area.x + area.width) - x);
  const height = ROW_PX * BAR;
  const y = middle - height / 2;
  if (stretch.state === 'lost') {
    const decal = {
      symbol: 'rect',
      dashArrayX: [1, 0],
      dashArrayY: [2, 4],
      rotation: -0.8,
      color: theme.page,
    };
    const shape = { x, y, width, height };
    return { type: 'rect', shape, style: { fill: theme.bad, decal } };
  }
  const busy = stretch.slots === 0 ? 0 : Math.min(1, stretch.busySlots / stretch.slots);
  const isReady = stretch.state === 'ready';
  return {
    type: 'group',
    children: [
      { type: 'rect', shape: { x, y, width, height }, style: { fill: isReady ? theme.idle : theme.warn } },
      {
        type: 'rect',
        shape: { x, y: y + height * (1 - busy), width, height: height * busy },
        style: { fill: theme.busy },
      },
    ],
  };
}

function describe(names: readonly string[], history: History): string {
  const parts = names.map((name) => {
    const stretches = history.stretches.get(name) ?? [];
    const last = stretches.at(-1);
    const time = stretches.reduce((sum, { from, to, slots }) => sum + (to - from) * slots, 0);
    const busy = stretches.reduce((sum, { from, to, busySlots }) => sum + (to - from) * busySlots, 0);
    return `${name} is ${last?.state ?? 'unknown'}, its slots were at work for ${Math.round((100 * busy) / Math.max(1, time))} % of the time`;
  });
  return `Slots at work in the last two minutes. ${parts.join('; ')}.`;
}
