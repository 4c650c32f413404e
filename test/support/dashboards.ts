import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';

/** What Grafana reads, as far as it is looked at in tests. */
export interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly uid: string };
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly targets?: readonly {
    readonly refId: string;
    readonly expr: string;
    readonly datasource?: unknown;
  }[];
  readonly panels?: readonly Panel[];
}
export interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly tags: readonly string[];
  readonly panels: readonly Panel[];
  readonly links: readonly { readonly tags: readonly string[]; readonly includeVars: boolean }[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: unknown }[] };
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] };
}

const FOLDER = join(PROJECT_ROOT, 'deploy', 'grafana', 'dashboards');

/** The committed dashboards, by the names of their files. */
export const dashboards: readonly (readonly [string, Dashboard])[] = readdirSync(FOLDER).map((name) => [
  name,
  JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) as Dashboard,
]);

export const panelsOf = ({ panels }: Dashboard): Panel[] =>
  panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]).filter(({ type }) => type !== 'row');

/**
 * As Grafana would ask, with "All" chosen for every variable.
 * @param interval over which rates are taken, such as `1m`
 */
export const filledIn = (expr: string, interval = '1m'): string =>
  expr.replaceAll('$__rate_interval', interval).replaceAll(/"\$[a-z]+"/g, '".*"');

/** What each panel and each variable of each dashboard asks, ready to be asked. */
export const panelQueries = (interval: string): { panel: string; expr: string }[] =>
  dashboards.flatMap(([file, dashboard]) => [
    ...panelsOf(dashboard).flatMap(({ title, targets = [] }) =>
      targets.map(({ expr }) => ({ panel: `${file}: ${title}`, expr: filledIn(expr, interval) })),
    ),
    ...dashboard.templating.list.flatMap(({ name, query }) => {
      // Grafana's own words, not PromQL: label_values(SELECTOR, LABEL).
      const text = (query as { query?: string }).query ?? '';
      const [, selector, label] = /^label_values\((.+), (\w+)\)$/.exec(text) ?? [];
      if (selector === undefined || label === undefined) return [];
      return [{ panel: `${file}: $${name}`, expr: `count by (${label}) (${filledIn(selector)})` }];
    }),
  ]);
