import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { dashboardFiles } from '../../deploy/grafana/dashboards.js';
import { PROJECT_ROOT } from '../../shared/version.js';
import { dashboards, filledIn, panelsOf, type Dashboard } from '../support/dashboards.js';
import { metricNames } from '../support/metric-names.js';

/** Prometheus' own. */
const ALERTS = 'ALERTS';
/** Of every Node process; the dashboards show some. */
const OF_THE_PROCESS = /^atelier_(process|nodejs)_/;
const METRICS = await metricNames();
const GRAFANA = join(PROJECT_ROOT, 'deploy', 'grafana');

const queriesOf = (dashboard: Dashboard): string[] => [
  ...panelsOf(dashboard).flatMap(({ targets }) => (targets ?? []).map(({ expr }) => expr)),
  ...dashboard.annotations.list.map(({ expr }) => expr),
];

/** The names of metrics in a query. */
function metricsOf(expr: string): string[] {
  const names: string[] = [];
  const text = filledIn(expr);
  parser.parse(text).iterate({
    enter: ({ name, from, to, type }) => {
      if (type.isError) throw new Error(`not PromQL at ${from}: ${text}`);
      // The metric's name in front of its matchers; label names are other nodes.
      if (name === 'VectorSelector') names.push(/^[a-zA-Z_:][\w:]*/.exec(text.slice(from, to))?.[0] ?? '');
    },
  });
  return names;
}

test('the dashboards in deploy/grafana are those that the code makes (npm run dashboards)', () => {
  expect(dashboards.map(([name]) => name)).toEqual(Object.keys(dashboardFiles()).sort());
  for (const [name, text] of Object.entries(dashboardFiles())) {
    expect(readFileSync(join(GRAFANA, 'dashboards', name), 'utf8') === text, name).toBe(true);
  }
});

describe.each(dashboards)('%s', (_name, dashboard) => {
  const panels = panelsOf(dashboard);

  test('says of every panel what it shows, in which unit, and asks for it', () => {
    expect(panels.length).toBeGreaterThan(5);
    for (const { title, description, fieldConfig, targets, datasource } of panels) {
      expect({ title, length: title.length > 2 }).toMatchObject({ length: true });
      expect(description ?? '', title).toMatch(/^[A-Z].{20,}\.$/);
      expect(fieldConfig?.defaults.unit ?? '', title).not.toBe('');
      expect(datasource?.uid, title).toBe('${datasource}');
      expect(targets?.map(({ expr }) => expr !== '') ?? [], title).toContain(true);
      const ids = targets?.map(({ refId }) => refId) ?? [];
      expect(new Set(ids).size, title).toBe(ids.length);
    }
  });

  test('has panels that do not overlap, each with its own number', () => {
    const all = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
    const taken = new Set<string>();
    for (const { gridPos, title } of dashboard.panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(taken.has(`${x} ${y}`), `${title} at ${x}, ${y}`).toBe(false);
          taken.add(`${x} ${y}`);
        }
      }
    }
  });

  test('uses the variables that it has, and has those that it uses', () => {
    const had = dashboard.templating.list.map(({ name }) => name);
    const text = JSON.stringify([dashboard.panels, dashboard.annotations, dashboard.templating]);
    const used = [...text.matchAll(/\$\{?([a-z]+)\b/g)].map(([, name]) => name);
    expect([...new Set(used)].sort()).toEqual([...had].sort());
    expect(had[0]).toBe('datasource');
  });

  test('links to the others and takes its choices along', () => {
    expect(dashboard.links).toMatchObject([{ includeVars: true, keepTime: true, tags: ['atelier'] }]);
    expect(dashboard.tags).toContain('atelier');
    expect(dashboard.annotations.list.length).toBeGreaterThan(2);
  });

  test('asks in PromQL for metrics that there are', () => {
    for (const expr of queriesOf(dashboard)) {
      const names = metricsOf(expr);
      expect(names.length, expr).toBeGreaterThan(0);
      for (const name of names) expect([...METRICS, ALERTS], expr).toContain(name);
    }
  });
});

test('every metric is on some panel', () => {
  const shown = new Set(dashboards.flatMap(([, dashboard]) => queriesOf(dashboard)).flatMap(metricsOf));
  expect(METRICS.filter((name) => !shown.has(name) && !OF_THE_PROCESS.test(name))).toEqual([]);
  expect(METRICS.length).toBeGreaterThan(40);
});

test('Kubernetes gets every dashboard and provisioning file there is', () => {
  const { configMapGenerator } = parse(readFileSync(join(GRAFANA, 'kustomization.yaml'), 'utf8')) as {
    configMapGenerator: { files: string[] }[];
  };
  const there = readdirSync(GRAFANA, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /^(dashboards|provisioning)\/.*\.(json|yaml)$/.test(name),
  );
  expect(configMapGenerator.flatMap(({ files }) => files).sort()).toEqual(there.sort());
});
