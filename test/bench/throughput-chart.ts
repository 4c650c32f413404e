import { BarChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

use([BarChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

const WIDTH = 820;
const HEIGHT = 320;
const COLOURS = ['#2563eb', '#93b4f5', '#ea7317', '#c9a227'];

export interface ThroughputCell {
  /** Such as `lenet 64`. */
  readonly name: string;
  /** Images/s of each contestant, in the order of their names. */
  readonly rates: readonly number[];
  readonly roofline: number;
}

/** Bars for each cell, as parts of its roofline: an SVG that needs nothing else and is readable on light and dark. */
export function throughputChart(contestants: readonly string[], cells: readonly ThroughputCell[]): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT });
  const text = { color: '#333' };
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    color: COLOURS,
    title: {
      text: 'Images/s of whole training, as a part of the roofline',
      left: 16,
      top: 8,
      textStyle: { fontSize: 14, ...text },
    },
    legend: { top: 34, left: 16, textStyle: text },
    grid: { left: 56, right: 16, top: 76, bottom: 32 },
    xAxis: { type: 'category', data: cells.map(({ name }) => name), axisLabel: text },
    yAxis: { type: 'value', min: 0, max: 1.1, interval: 0.25, axisLabel: text },
    series: contestants.map((name, index) => ({
      name,
      type: 'bar',
      barGap: '10%',
      data: cells.map(({ rates, roofline }) => Number(((rates[index] ?? Number.NaN) / roofline).toFixed(3))),
      label: {
        show: true,
        position: 'top',
        fontSize: 9,
        color: '#333',
        formatter: ({ value }: { value: unknown }) => Number(value).toFixed(2),
      },
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}
