import { Chart } from './chart.js';
import type { EChartsCoreOption } from './echarts.js';
import { loss, percent } from './format.js';
import { MAX_CURVE_POINTS, type History, type Point } from './history.js';
import { trialName, type EpochFigures, type RunState, type TrialState } from './state.js';
import type { Theme } from './theme.js';

/** How often the curve of the epoch in work grows. */
const LIVE_INTERVAL_MS = 2_000;
const LEAST_EPOCHS = 5;
const ROOM = 1.3;
/** Few epochs are marked, for a line of one point is no line. */
const MAX_MARKED_EPOCHS = 25;

interface Kind {
  readonly title: string;
  readonly training: (epoch: EpochFigures) => number;
  readonly validation: (epoch: EpochFigures) => number | null;
  readonly format: (value: number) => string;
}

const LOSS: Kind = {
  title: 'Loss',
  training: (epoch) => epoch.loss,
  validation: (epoch) => epoch.valLoss,
  format: loss,
};
const ACCURACY: Kind = {
  title: 'Accuracy',
  training: (epoch) => epoch.accuracy,
  validation: (epoch) => epoch.valAccuracy,
  format: percent,
};

export interface CurvesInput {
  readonly run: RunState;
  readonly history: History;
  readonly hidden: ReadonlySet<number>;
  readonly theme: Theme;
}

/** Loss and accuracy of every trial, by epoch. */
export class Curves {
  private readonly loss: Chart;
  private readonly accuracy: Chart;
  private drawnEpochs = '';
  private drawnAt = 0;

  constructor(lossHost: HTMLElement, accuracyHost: HTMLElement) {
    this.loss = new Chart(lossHost);
    this.accuracy = new Chart(accuracyHost);
  }

  /** @param now milliseconds */
  draw(input: CurvesInput, now: number): void {
    const { run, history, hidden } = input;
    const shown = run.trials.filter(({ trial }) => !hidden.has(trial));
    // Epochs change rarely; drawing them costs most of what the page costs.
    const epochs = JSON.stringify([
      run.name,
      input.theme,
      shown.map((each) => [each.trial, each.epochsDone.length]),
    ]);
    const isNew = epochs !== this.drawnEpochs;
    if (!isNew && now - this.drawnAt < LIVE_INTERVAL_MS) return;
    this.drawnAt = now;
    const live = shown.map((trial) =>
      thin(history.losses.get(trial.trial)?.points ?? [], trial, input.theme),
    );
    this.loss.show(optionOf(LOSS, shown, input, live), describe(LOSS, shown, run));
    if (!isNew) return;
    this.drawnEpochs = epochs;
    this.accuracy.show(optionOf(ACCURACY, shown, input, []), describe(ACCURACY, shown, run));
  }
}

const colourOf = ({ trial }: TrialState, { series }: Theme): string => series[trial % series.length] ?? '';

function thin(points: readonly Point[], trial: TrialState, theme: Theme): object {
  return {
    id: `live-${trial.trial}`,
    type: 'line',
    data: points,
    showSymbol: false,
    silent: true,
    tooltip: { show: false },
    lineStyle: { width: 1, opacity: 0.65, color: colourOf(trial, theme) },
    itemStyle: { color: colourOf(trial, theme) },
  };
}

function optionOf(
  kind: Kind,
  shown: readonly TrialState[],
  { run, theme }: CurvesInput,
  live: readonly object[],
): EChartsCoreOption {
  const series = shown.flatMap((trial) => {
    const name = trialName(trial, run.trials.length);
    const color = colourOf(trial, theme);
    // Evenly thinned out: what is drawn stays bounded however long a run is.
    const every = Math.ceil(trial.epochsDone.length / MAX_CURVE_POINTS);
    const epochs = trial.epochsDone.filter((_, index, all) => (all.length - 1 - index) % every === 0);
    const common = {
      type: 'line',
      showSymbol: epochs.length <= MAX_MARKED_EPOCHS,
      symbol: 'circle',
      symbolSize: 5,
      itemStyle: { color },
    };
    return [
      {
        ...{ ...common, id: `training-${trial.trial}`, name: `${name} training` },
        lineStyle: { width: 2.5, color },
        data: epochs.map((epoch) => [epoch.epoch, kind.training(epoch)]),
      },
      {
        ...{ ...common, id: `validation-${trial.trial}`, name: `${name} validation`, symbol: 'emptyCircle' },
        lineStyle: { width: 1.75, type: [5, 4], color },
        data: epochs.flatMap((epoch) => {
          const value = kind.validation(epoch);
          return value === null ? [] : [[epoch.epoch, value]];
        }),
      },
    ];
  });
  const label = { color: theme.quiet };
  return {
    grid: { left: 8, right: 14, top: 14, bottom: 26, containLabel: true },
    xAxis: {
      type: 'value',
      name: 'epoch',
      nameLocation: 'middle',
      nameGap: 24,
      nameTextStyle: label,
      min: 0,
      max: shownEpochs(run.trials),
      minInterval: 1,
      axisLabel: label,
      axisLine: { lineStyle: { color: theme.line } },
      splitLine: { show: false },
    },
    yAxis: {
      type: 'value',
      scale: true,
      axisLabel: {
        ...label,
        formatter: kind === ACCURACY ? (value: number) => `${Math.round(value * 1000) / 10} %` : undefined,
      },
      splitLine: { lineStyle: { color: theme.line } },
    },
    tooltip: {
      trigger: 'axis',
      // On the canvas: the policy of the page lets no HTML with styles in.
      renderMode: 'richText',
      confine: true,
      backgroundColor: theme.page,
      borderColor: theme.line,
      textStyle: { color: theme.ink, fontSize: 12 },
      axisPointer: { type: 'line', lineStyle: { color: theme.quiet } },
      formatter: (items: unknown) => tooltipOf(kind, items),
    },
    series: [...live, ...series],
  };
}

/** What has been, and some room: long runs are not squeezed into the left edge while they are young. */
function shownEpochs(trials: readonly TrialState[]): number {
  const begun = Math.max(1, ...trials.map(({ epoch }) => epoch));
  const wanted = Math.max(1, ...trials.map(({ epochs }) => epochs));
  return Math.min(wanted, Math.max(LEAST_EPOCHS, Math.ceil(begun * ROOM)));
}

interface TooltipItem {
  readonly seriesName?: string;
  readonly value?: unknown;
}

function tooltipOf(kind: Kind, items: unknown): string {
  const named = (items as readonly TooltipItem[]).filter(({ seriesName, value }) => {
    return /training|validation/.test(seriesName ?? '') && Array.isArray(value);
  });
  const lines = named.map(({ seriesName, value }) => {
    const [epoch, figure] = value as [number, number];
    return { epoch, text: `${seriesName ?? ''}: ${kind.format(figure)}` };
  });
  const [first] = lines;
  if (first === undefined) return '';
  return [
    `Epoch ${first.epoch}`,
    ...lines.filter(({ epoch }) => epoch === first.epoch).map(({ text }) => text),
  ].join('\n');
}

function describe(kind: Kind, shown: readonly TrialState[], run: RunState): string {
  const parts = shown.map((trial) => {
    const name = trialName(trial, run.trials.length);
    const last = trial.epochsDone.at(-1);
    if (last === undefined) return `${name}: no epoch done yet`;
    const validation = kind.validation(last);
    return (
      `${name}, epoch ${last.epoch}: training ${kind.format(kind.training(last))}` +
      (validation === null ? '' : `, validation ${kind.format(validation)}`)
    );
  });
  return `${kind.title} by epoch. ${parts.join('; ')}. The figures are in the table below.`;
}
