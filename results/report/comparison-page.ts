import type { Summary } from '../../shared/summary.js';
import { ATELIER_VERSION } from '../../shared/version.js';
import type { RunFiles } from '../run-files.js';
import { boxFigure, linesFigure, type Line } from './chart.js';
import { confusionFigure } from './confusion.js';
import { reproducingFlags } from './facts.js';
import { count, duration, html, type Html, percent, table } from './html.js';
import { renderPage } from './page.js';

/** More runs than this do not fit into one chart. */
export const MAX_COMPARED_RUNS = 20;

/** Several runs side by side. */
export function comparisonPage(runs: readonly RunFiles[]): string {
  return renderPage({
    title: `${runs.length} runs compared`,
    subtitle: runs.map(({ name }) => name).join(', '),
    top: html``,
    sections: [
      { id: 'results', title: 'Results', body: results(runs) },
      { id: 'learning', title: 'Learning', body: curves(runs) },
      { id: 'settings', title: 'Settings that differ', body: differences(runs) },
      { id: 'classes', title: 'Recall by class', body: recall(runs) },
      { id: 'confusion', title: 'Confusion on the test images', body: confusion(runs) },
      {
        id: 'reproduce',
        title: 'How to reproduce',
        body: html`<pre>
${runs.map(({ summary }) => `npx atelier train ${reproducingFlags(summary.config).join(' ')}`).join('\n')}</pre>`,
      },
    ],
    footer: `Made by Atelier ${ATELIER_VERSION}.`,
  });
}

/** Mean test accuracy over the trials. */
function testAccuracy({ trials }: Summary): number | null {
  const values = trials.flatMap(({ test }) => (test === null ? [] : [test.accuracy]));
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function results(runs: readonly RunFiles[]): Html {
  return table(
    [
      'run',
      'network',
      'parameters',
      'test accuracy',
      'validation',
      'epochs',
      'time',
      'images/s',
      'status',
      'weights',
    ],
    runs.map(({ name, manifest, summary }) => {
      const accuracy = testAccuracy(summary);
      const validation = summary.folds?.mean ?? summary.trials[0]?.validation?.accuracy;
      return [
        name,
        manifest.model.name,
        count(manifest.model.parameters),
        accuracy === null ? '-' : percent(accuracy),
        validation === undefined ? '-' : percent(validation),
        summary.trials[0]?.epochs.length ?? 0,
        duration(summary.durationSeconds),
        count(summary.throughput.imagesPerSecond),
        summary.status,
        html`<code title="${summary.weightsSha256}">${summary.weightsSha256.slice(0, 12)}</code>`,
      ];
    }),
  );
}

function curves(runs: readonly RunFiles[]): Html {
  const lines = (field: 'valLoss' | 'valAccuracy' | 'loss'): Line[] =>
    runs.map(({ name, summary: { trials } }) => ({
      name,
      values: (trials[0]?.epochs ?? []).map((epoch) => epoch[field]),
    }));
  const folded = runs.filter(({ summary }) => summary.folds !== null);
  const boxes =
    folded.length === 0
      ? ''
      : boxFigure(
          'Validation accuracy of the folds',
          folded.map(({ name, summary }) => ({
            name,
            values: summary.trials.flatMap(({ validation }) =>
              validation === null ? [] : [validation.accuracy],
            ),
          })),
          'Box: quartiles and median; whiskers: smallest and largest; dots: folds.',
        );
  const note = folded.length === 0 ? '' : 'Of a k-fold run: its first fold.';
  return html`<div class="charts">
    ${linesFigure('Validation accuracy', lines('valAccuracy'), note)}
    ${linesFigure('Validation loss', lines('valLoss'))} ${linesFigure('Training loss', lines('loss'))}
    ${boxes}
  </div>`;
}

function differences(runs: readonly RunFiles[]): Html {
  const keys = [...new Set(runs.flatMap(({ summary }) => Object.keys(summary.config)))];
  const valueOf = ({ summary }: RunFiles, key: string): string =>
    JSON.stringify((summary.config as Readonly<Record<string, unknown>>)[key] ?? null);
  const rows = keys
    .map((key) => ({ key, values: runs.map((run) => valueOf(run, key)) }))
    .filter(({ values }) => new Set(values).size > 1);
  if (rows.length === 0) return html`<p>None.</p>`;
  return table(
    ['setting', ...runs.map(({ name }) => name)],
    rows.map(({ key, values }) => [key, ...values.map((value) => value.replace(/^"(.*)"$/, '$1'))]),
  );
}

function recall(runs: readonly RunFiles[]): Html {
  const names = runs[0]?.manifest.dataset.classNames ?? [];
  const same = runs.every(({ manifest }) => manifest.dataset.sha256 === runs[0]?.manifest.dataset.sha256);
  if (!same)
    return html`<p>The runs were trained on different datasets: their classes cannot be compared.</p>`;
  return table(
    ['class', ...runs.map(({ name }) => name)],
    names.map((className, truth) => [
      className,
      ...runs.map(({ summary }) => {
        const row = summary.trials[0]?.test?.confusion[truth];
        const total = row?.reduce((sum, n) => sum + n, 0) ?? 0;
        return row === undefined || total === 0 ? '-' : ((row[truth] ?? 0) / total).toFixed(3);
      }),
    ]),
  );
}

function confusion(runs: readonly RunFiles[]): Html {
  return html`<div class="charts">
    ${runs.flatMap(({ name, manifest, summary }) => {
      const test = summary.trials[0]?.test ?? null;
      return test === null ? [] : [confusionFigure(name, test, manifest.dataset.classNames)];
    })}
  </div>`;
}
