import { PanelBuilder as BarGaugeBuilder } from '@grafana/grafana-foundation-sdk/bargauge';
import type { Builder } from '@grafana/grafana-foundation-sdk/cog';
import {
  BarGaugeDisplayMode,
  BigValueColorMode,
  BigValueGraphMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizOrientation,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  MappingType,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type DataSourceRef,
  type DynamicConfigValue,
  type Panel,
  type ThresholdsConfig,
  type ValueMapping,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { PanelBuilder as HeatmapBuilder, YAxisConfigBuilder } from '@grafana/grafana-foundation-sdk/heatmap';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as StatesBuilder } from '@grafana/grafana-foundation-sdk/statetimeline';
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeseriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';
import { assertNever } from '../../shared/errors.js';
import { DATASOURCE } from './frame.js';
import type { PanelSpec, QuerySpec, States, TableSpec, Threshold, Unit } from './spec.js';

/** What the SDK's builders of panels have in common. */
interface AnyBuilder extends Builder<Panel> {
  id(id: number): this;
  title(title: string): this;
  description(description: string): this;
  datasource(datasource: DataSourceRef): this;
  span(width: number): this;
  height(height: number): this;
  unit(unit: string): this;
  thresholds(thresholds: Builder<ThresholdsConfig>): this;
  repeat(variable: string): this;
  repeatDirection(direction: 'h' | 'v'): this;
  maxPerRow(panels: number): this;
}

const FOLDS_IN_A_ROW = 5;

export function panelBuilder(spec: PanelSpec): AnyBuilder {
  const builder = ofKind(spec)
    .title(spec.title)
    .description(spec.description)
    .datasource(DATASOURCE)
    .span(spec.width)
    .height(spec.height)
    .unit(unitOf(spec.unit))
    .thresholds(thresholdsOf(spec.thresholds ?? [{ from: null, color: 'text' }]));
  if (spec.repeat === undefined) return builder;
  return builder.repeat(spec.repeat).repeatDirection('h').maxPerRow(FOLDS_IN_A_ROW);
}

function ofKind(spec: PanelSpec): AnyBuilder {
  switch (spec.kind) {
    case 'timeseries': {
      const builder = new TimeseriesBuilder()
        .targets(spec.queries.map((query, index) => target(query, index).range()))
        .lineWidth(2)
        .fillOpacity(spec.stacked === true ? 30 : 5)
        .showPoints(VisibilityMode.Never)
        .legend(
          new VizLegendOptionsBuilder()
            .displayMode(LegendDisplayMode.List)
            .placement(LegendPlacement.Bottom)
            .showLegend(true),
        )
        .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
      if (spec.stacked === true) builder.stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
      if (spec.min !== undefined) builder.min(spec.min);
      if (spec.max !== undefined) builder.max(spec.max);
      return builder;
    }
    case 'stat':
      return new StatBuilder()
        .targets(spec.queries.map((query, index) => target(query, index).range()))
        .colorMode(BigValueColorMode.Value)
        .graphMode(BigValueGraphMode.Area)
        .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']));
    case 'bargauge':
      return new BarGaugeBuilder()
        .targets(spec.queries.map((query, index) => target(query, index).range()))
        .min(0)
        .max(spec.max)
        .orientation(VizOrientation.Horizontal)
        .displayMode(BarGaugeDisplayMode.Basic)
        .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']));
    case 'states':
      return new StatesBuilder()
        .targets(spec.queries.map((query, index) => target(query, index).range()))
        .mappings([mappingOf(spec.states)])
        .mergeValues(true)
        .showValue(VisibilityMode.Auto)
        .rowHeight(0.8);
    case 'table':
      return table(spec);
    case 'heatmap':
      return new HeatmapBuilder()
        .targets(
          spec.queries.map((query, index) => target(query, index).range().format(PromQueryFormat.Heatmap)),
        )
        .calculate(false)
        .yAxis(new YAxisConfigBuilder().unit(unitOf(spec.unit)));
    default:
      return assertNever(spec);
  }
}

/** One line for each set of labels, one column for each query. */
function table({ queries }: TableSpec): TableBuilder {
  const column = (index: number): string => (queries.length === 1 ? 'Value' : `Value #${refId(index)}`);
  const builder = new TableBuilder()
    .targets(queries.map((query, index) => target(query, index).instant().format(PromQueryFormat.Table)))
    .transformations([
      { id: 'merge', options: {} },
      {
        id: 'organize',
        options: {
          excludeByName: { Time: true },
          renameByName: Object.fromEntries(queries.map(({ legend }, index) => [column(index), legend])),
        },
      },
    ]);
  for (const { legend, unit, states } of queries) {
    const properties: DynamicConfigValue[] = [];
    if (unit !== undefined) properties.push({ id: 'unit', value: unitOf(unit) });
    if (states !== undefined) {
      properties.push({ id: 'mappings', value: [mappingOf(states)] });
      properties.push({ id: 'custom.cellOptions', value: { type: 'color-text' } });
    }
    if (properties.length > 0) builder.overrideByName(legend, properties);
  }
  return builder;
}

const refId = (index: number): string => String.fromCharCode('A'.charCodeAt(0) + index);

const target = ({ expr, legend }: QuerySpec, index: number): DataqueryBuilder =>
  new DataqueryBuilder().datasource(DATASOURCE).refId(refId(index)).expr(expr).legendFormat(legend);

/** Grafana has no unit for these: the word stands behind the number. */
const unitOf = (unit: Unit): string => (/^[a-z]+\/s$/.test(unit) ? `suffix: ${unit}` : unit);

const thresholdsOf = (steps: readonly Threshold[]): ThresholdsConfigBuilder =>
  new ThresholdsConfigBuilder()
    .mode(ThresholdsMode.Absolute)
    .steps(steps.map(({ from, color }) => ({ value: from, color })));

const mappingOf = (states: States): ValueMapping => ({
  type: MappingType.ValueToText,
  options: Object.fromEntries(
    Object.entries(states).map(([value, { text, color }], index) => [value, { text, color, index }]),
  ),
});
