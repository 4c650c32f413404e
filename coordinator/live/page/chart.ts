import * as echarts from './echarts.js';
import type { EChartsCoreOption } from './echarts.js';

/** An ECharts canvas that follows the size of its element. */
export class Chart {
  private readonly chart: echarts.ECharts;

  constructor(private readonly host: HTMLElement) {
    this.chart = echarts.init(host, null, { renderer: 'canvas' });
    new ResizeObserver(() => {
      if (host.clientWidth > 0) this.chart.resize();
    }).observe(host);
  }

  /** @param description the same in words, for those who do not see it */
  show(option: EChartsCoreOption, description: string): void {
    if (this.host.getAttribute('aria-label') !== description) {
      this.host.setAttribute('aria-label', description);
    }
    if (this.host.clientWidth === 0) return;
    this.chart.setOption({ animation: false, ...option }, { replaceMerge: ['series'], silent: true });
  }
}
