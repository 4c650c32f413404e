/** What a dashboard is, before Grafana's own words: what each panel asks, in which unit, and why one looks at it. */
export interface DashboardSpec {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables: readonly VariableName[];
  /** It shows one run at a time. */
  readonly oneRun?: boolean;
  readonly rows: readonly RowSpec[];
}

export type VariableName = 'run' | 'trial' | 'worker';

export interface RowSpec {
  readonly title: string;
  readonly panels: readonly PanelSpec[];
}

export interface QuerySpec {
  /** PromQL. Every series is aggregated by labels that it names: a coordinator may come back at another address. */
  readonly expr: string;
  /** What the legend says of a series; for a table the title of the column. */
  readonly legend: string;
  /** Of a table's column, where it is not the panel's. */
  readonly unit?: Unit;
  /** Of a table's column: words for numbers. */
  readonly states?: States;
}

/** What numbers stand for, and the colour of the word. */
export type States = Readonly<Record<number, { readonly text: string; readonly color: string }>>;

/** Grafana's names (https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit). */
export type Unit =
  | 'none'
  | 'short'
  | 'percentunit'
  | 's'
  | 'bytes'
  | 'Bps'
  | 'ops'
  | 'dateTimeFromNow'
  | 'images/s'
  | 'rows/s'
  | 'steps/s';

interface Common {
  readonly title: string;
  /** What it shows, and what to do about it. */
  readonly description: string;
  readonly unit: Unit;
  readonly queries: readonly QuerySpec[];
  /** Of 24 columns. */
  readonly width: number;
  /** In rows of 30 px. */
  readonly height: number;
  readonly thresholds?: readonly Threshold[];
  /** One panel for each value of the variable, side by side. */
  readonly repeat?: VariableName;
}

export interface Threshold {
  /** Null: from the lowest value on. */
  readonly from: number | null;
  readonly color: 'green' | 'orange' | 'red' | 'blue' | 'text';
}

export interface TimeseriesSpec extends Common {
  readonly kind: 'timeseries';
  readonly stacked?: boolean;
  readonly min?: number;
  readonly max?: number;
}
export interface StatSpec extends Common {
  readonly kind: 'stat';
}
export interface BarGaugeSpec extends Common {
  readonly kind: 'bargauge';
  readonly max: number;
}
export interface StatesSpec extends Common {
  readonly kind: 'states';
  readonly states: States;
}
export interface TableSpec extends Common {
  readonly kind: 'table';
}
export interface HeatmapSpec extends Common {
  readonly kind: 'heatmap';
}

export type PanelSpec = TimeseriesSpec | StatSpec | BarGaugeSpec | StatesSpec | TableSpec | HeatmapSpec;

type Options<Spec extends Common> = Omit<Spec, 'kind' | 'width' | 'height'> &
  Partial<Pick<Spec, 'width' | 'height'>>;

const TALL = 8;

export const timeseries = (options: Options<TimeseriesSpec>): TimeseriesSpec => ({
  ...{ kind: 'timeseries', width: 12, height: TALL },
  ...options,
});
export const stat = (options: Options<StatSpec>): StatSpec => ({
  ...{ kind: 'stat', width: 4, height: 4 },
  ...options,
});
export const barGauge = (options: Options<BarGaugeSpec>): BarGaugeSpec => ({
  ...{ kind: 'bargauge', width: 12, height: TALL },
  ...options,
});
export const states = (options: Options<StatesSpec>): StatesSpec => ({
  ...{ kind: 'states', width: 12, height: TALL },
  ...options,
});
export const table = (options: Options<TableSpec>): TableSpec => ({
  ...{ kind: 'table', width: 24, height: TALL },
  ...options,
});
export const heatmap = (options: Options<HeatmapSpec>): HeatmapSpec => ({
  ...{ kind: 'heatmap', width: 12, height: TALL },
  ...options,
});
