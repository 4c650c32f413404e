import { network } from './network.js';
import { overview } from './overview.js';
import { renderDashboard } from './render.js';
import type { DashboardSpec } from './spec.js';
import { training } from './training.js';
import { workers } from './workers.js';

const DASHBOARDS: Readonly<Record<string, DashboardSpec>> = { network, overview, training, workers };

/** What stands in `deploy/grafana/dashboards`: file names and texts. */
export const dashboardFiles = (): Readonly<Record<string, string>> =>
  Object.fromEntries(
    Object.entries(DASHBOARDS).map(([name, spec]) => [
      `${name}.json`,
      `${JSON.stringify(renderDashboard(spec), null, 2)}\n`,
    ]),
  );
