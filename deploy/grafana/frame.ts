import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  VariableHide,
  VariableRefresh,
  VariableSort,
  type AnnotationQuery,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { RUN } from './queries.js';
import type { DashboardSpec, VariableName } from './spec.js';

/** Any Prometheus: the reader chooses. */
export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' } as const;

/** All dashboards of Atelier have it; they link to each other by it. */
const TAG = 'atelier';

interface Variable {
  readonly label: string;
  readonly query: string;
  readonly sort: VariableSort;
}

const VARIABLES: Readonly<Record<VariableName, Variable>> = {
  // Names begin with the time: the newest first.
  run: {
    label: 'Run',
    query: 'label_values(atelier_run_status, run)',
    sort: VariableSort.AlphabeticalDesc,
  },
  trial: {
    label: 'Trial',
    query: 'label_values(atelier_trial_status{run=~"$run"}, trial)',
    sort: VariableSort.NumericalAsc,
  },
  worker: {
    label: 'Worker',
    query: 'label_values(atelier_worker_heartbeat_age_seconds, worker)',
    sort: VariableSort.NaturalAsc,
  },
};

interface Note {
  readonly name: string;
  readonly color: string;
  readonly expr: string;
  readonly title: string;
  readonly text: string;
  readonly shown: boolean;
}

/** What happened, as lines across every panel. `run` matches the chosen runs, where there is a choice. */
const notes = (run: string): readonly Note[] => [
  {
    name: 'Runs that ended',
    color: 'blue',
    expr:
      `max by (run, status) (atelier_run_status{status=~"done|failed|stopped",${run}}) == 1 unless ` +
      `max by (run, status) (atelier_run_status{status=~"done|failed|stopped",${run}} offset 1m) == 1`,
    title: 'Run {{status}}',
    text: '{{run}}',
    shown: true,
  },
  {
    name: 'Workers that left',
    color: 'red',
    expr: 'sum by (reason) (increase(atelier_worker_leaves_total[1m])) > 0',
    title: 'Worker left',
    text: '{{reason}}',
    shown: true,
  },
  {
    name: 'Workers that joined',
    color: 'green',
    expr: 'sum(increase(atelier_worker_joins_total[1m])) > 0',
    title: 'Worker joined',
    text: '',
    shown: true,
  },
  {
    name: 'Checkpoints',
    color: 'purple',
    expr: `sum by (run, trial) (increase(atelier_checkpoints_total{${run}}[1m])) > 0`,
    title: 'Checkpoint',
    text: 'trial {{trial}} of {{run}}',
    shown: false,
  },
];

/** A dashboard without its panels: variables, links to the others, notes of events. */
export function frame(spec: DashboardSpec): DashboardBuilder {
  const builder = new DashboardBuilder(spec.title)
    .uid(spec.uid)
    .description(spec.description)
    .tags([TAG])
    .timezone('browser')
    .time({ from: 'now-30m', to: 'now' })
    .refresh('10s')
    .tooltip(DashboardCursorSync.Crosshair)
    .readonly()
    .link(
      new DashboardLinkBuilder('Atelier')
        .type(DashboardLinkType.Dashboards)
        .tags([TAG])
        .asDropdown(false)
        .includeVars(true)
        .keepTime(true),
    )
    .withVariable(
      new DatasourceVariableBuilder('datasource')
        .label('Prometheus')
        .type('prometheus')
        .hide(VariableHide.DontHide),
    );
  for (const name of spec.variables)
    builder.withVariable(variable(name, name === 'run' && spec.oneRun === true));
  for (const note of notes(spec.variables.includes('run') ? RUN : '')) builder.annotation(annotation(note));
  return builder;
}

/** @param one whether exactly one value is chosen: the newest, until the reader chooses another */
function variable(name: VariableName, one: boolean): QueryVariableBuilder {
  const { label, query, sort } = VARIABLES[name];
  const builder = new QueryVariableBuilder(name)
    .label(label)
    .datasource(DATASOURCE)
    .query({ query, refId: name })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(sort);
  if (one) return builder.multi(false).includeAll(false);
  return builder
    .multi(true)
    .includeAll(true)
    .allValue('.*')
    .current({ selected: true, text: ['All'], value: ['$__all'] });
}

/** `titleFormat`, `textFormat` and `step` are Prometheus' own fields, which the SDK's type lacks. */
function annotation({ name, color, expr, title, text, shown }: Note): Builder<AnnotationQuery> {
  const common = new AnnotationQueryBuilder()
    .name(name)
    .datasource(DATASOURCE)
    .enable(shown)
    .iconColor(color)
    .expr(expr)
    .build();
  const whole = { ...common, titleFormat: title, textFormat: text, step: '10s' };
  return { build: () => whole };
}
