import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import { RowBuilder, type Dashboard, type Panel } from '@grafana/grafana-foundation-sdk/dashboard';
import { frame } from './frame.js';
import { panelBuilder } from './panels.js';
import type { DashboardSpec } from './spec.js';

/** The dashboard as Grafana reads it: rows of panels, laid out from left to right, with numbers of their own. */
export function renderDashboard(spec: DashboardSpec): Dashboard {
  const builder = frame(spec);
  let id = 0;
  for (const { title, panels } of spec.rows) {
    builder.withRow(new RowBuilder(title).id(++id));
    for (const panel of panels) {
      const numbered: Builder<Panel> = panelBuilder(panel).id(++id);
      builder.withPanel(numbered);
    }
  }
  return builder.build();
}
