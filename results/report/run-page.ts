import type { Evaluation, Summary, TrialSummary } from '../../shared/summary.js';
import { ATELIER_VERSION } from '../../shared/version.js';
import type { RunFiles } from '../run-files.js';
import { boxFigure, linesFigure, type Line } from './chart.js';
import { confusionFigure } from './confusion.js';
import { configSection, faultsSection, reproduceSection, timingSection, workersSection } from './facts.js';
import { count, duration, EMPTY, html, type Html, percent, table } from './html.js';
import {
  augmentedSection,
  calibrationSection,
  kernelSection,
  mapsSection,
  mistakesSection,
} from './inside.js';
import type { Look } from './look.js';
import { renderPage, type Section } from './page.js';

/** Confusion matrices of single trials that are shown. */
const MAX_MATRICES = 12;

/**
 * The report of one run.
 * @param trial the one that `look` looked into
 * @param look null when there was nothing to look into; `missing` says why
 */
export function runPage(
  run: RunFiles,
  trial: TrialSummary | null,
  look: Look | null,
  missing: string | null,
): string {
  const { summary, manifest } = run;
  const { classNames } = manifest.dataset;
  const of = trial === null || trial.fold === null ? '' : ` of fold ${trial.fold}`;
  const sections: (Section | null)[] = [
    { id: 'run', title: 'What was run', body: configSection(run) },
    summary.trials.some(({ epochs }) => epochs.length > 0)
      ? { id: 'curves', title: 'Learning', body: curves(summary) }
      : null,
    summary.folds === null ? null : { id: 'folds', title: 'Folds', body: folds(summary, summary.folds) },
    { id: 'confusion', title: 'Confusion', body: confusion(run, trial, look) },
    look === null
      ? null
      : {
          id: 'calibration',
          title: `Calibration${of}`,
          body: calibrationSection(look.calibration, look.test.rows),
        },
    look === null
      ? null
      : {
          id: 'mistakes',
          title: `Most confident mistakes${of}`,
          body: mistakesSection(look.mistakes, look.imageShape, classNames),
        },
    look === null || look.kernels.length === 0
      ? null
      : { id: 'filters', title: `Filters${of}`, body: kernelSection(look.kernels) },
    look === null ? null : { id: 'maps', title: `Feature maps${of}`, body: mapsSection(look, classNames) },
    look === null || look.augmented.length === 0
      ? null
      : {
          id: 'augmented',
          title: 'Augmented images',
          body: augmentedSection(look.augmented, look.imageShape),
        },
    look === null ? null : { id: 'layers', title: 'Layers', body: layers(look) },
    { id: 'timing', title: 'Timing', body: timingSection(summary) },
    { id: 'workers', title: 'Workers', body: workersSection(summary) },
    { id: 'faults', title: 'Faults survived', body: faultsSection(run) },
    { id: 'reproduce', title: 'How to reproduce', body: reproduceSection(run) },
  ];
  return renderPage({
    title: run.name,
    subtitle: `${manifest.model.name} on ${manifest.dataset.name}, ${manifest.startedAt.slice(0, 16).replace('T', ' ')} UTC`,
    top: html`${ending(summary)}${missing === null ? EMPTY : html`<p class="note">${missing}</p>`}${figures(run)}`,
    sections: sections.filter((section) => section !== null),
    footer: `Made by Atelier ${ATELIER_VERSION} from ${run.name}.`,
  });
}

function ending({ status, reason }: Summary): Html {
  if (status === 'done') return EMPTY;
  return html`<p class="note">
    This run ${status === 'stopped' ? 'was stopped' : 'failed'}: ${reason ?? 'no reason is known'}
  </p>`;
}

function figures({ summary, manifest }: RunFiles): Html {
  const { folds: k, trials, throughput, durationSeconds } = summary;
  const whole = trials.find(({ fold }) => fold === null);
  const numbers: [string, string, string][] = [];
  if (k !== null) {
    const spread = `± ${percent(k.ci95)} (95 %), sd ${percent(k.sd)}`;
    numbers.push([`accuracy, mean of ${k.n} folds`, percent(k.mean), spread]);
  }
  for (const split of ['test', 'validation'] as const) {
    const evaluation = whole?.[split];
    if (!evaluation) continue;
    const { accuracy, loss, rows } = evaluation;
    numbers.push([`${split} accuracy`, percent(accuracy), `loss ${loss.toFixed(4)} on ${count(rows)}`]);
  }
  const epochs = trials.reduce((most, trial) => Math.max(most, trial.epochs.length), 0);
  numbers.push(['epochs', String(epochs), trials.length === 1 ? '' : `in each of ${trials.length} trials`]);
  numbers.push(['parameters', count(manifest.model.parameters), manifest.model.name]);
  numbers.push([
    'images a second',
    count(throughput.imagesPerSecond),
    `on ${summary.workers.length} workers`,
  ]);
  numbers.push(['time', duration(durationSeconds), '']);
  return html`<dl class="numbers">
    ${numbers.map(
      ([name, value, more]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}<small>${more}</small></dd>
        </div>`,
    )}
  </dl>`;
}

function curves({ trials }: Summary): Html {
  const single = trials.length === 1;
  const lines = (train: 'loss' | 'accuracy', validation: 'valLoss' | 'valAccuracy'): Line[] =>
    trials.flatMap(({ fold, epochs }, i) => {
      const held: Line = {
        name: single ? 'validation' : fold === null ? 'final fit' : `fold ${fold}`,
        values: epochs.map((epoch) => epoch[validation]),
        colour: single ? 1 : i,
      };
      return single
        ? [{ name: 'training', values: epochs.map((epoch) => epoch[train]), colour: 0 }, held]
        : [held];
    });
  const what = single ? '' : ', validation rows of each fold';
  const note =
    'Training figures are means over the epoch while the weights change; validation comes at its end. ' +
    'Losses are without regularization terms.';
  return html`<div class="charts">
      ${linesFigure(`Loss${what}`, lines('loss', 'valLoss'), note)}
      ${linesFigure(`Accuracy${what}`, lines('accuracy', 'valAccuracy'))}
    </div>
    <details>
      <summary>Every epoch</summary>
      ${table(
        [
          ...(single ? [] : ['fold']),
          'epoch',
          'loss',
          'accuracy',
          'validation loss',
          'validation accuracy',
          'seconds',
        ],
        trials.flatMap(({ fold, epochs }) =>
          epochs.map((epoch) => [
            ...(single ? [] : [fold ?? '-']),
            epoch.epoch,
            epoch.loss.toFixed(4),
            epoch.accuracy.toFixed(4),
            epoch.valLoss?.toFixed(4) ?? '-',
            epoch.valAccuracy?.toFixed(4) ?? '-',
            epoch.seconds.toFixed(1),
          ]),
        ),
      )}
    </details>`;
}

function folds({ trials }: Summary, { mean, sd, ci95, n }: NonNullable<Summary['folds']>): Html {
  const cuts = trials.filter(({ fold }) => fold !== null);
  const groups = (['validation', 'test'] as const)
    .map((split) => ({
      name: split,
      values: cuts.flatMap((trial) => (trial[split] === null ? [] : [trial[split].accuracy])),
    }))
    .filter(({ values }) => values.length > 1);
  return html`<div class="charts">
    ${
      groups.length === 0
        ? ''
        : boxFigure(
            `Accuracy of ${n} folds`,
            groups,
            'Box: quartiles and median; whiskers: smallest and largest; dots: folds. Each fold began with weights of its own ' +
              'and never saw its validation rows.',
          )
    }
    <div>
      <h3>Fold by fold</h3>
      ${table(
        ['fold', 'ended', 'validation accuracy', 'validation loss', 'rows', 'weights'],
        cuts.map(({ fold, status, validation, weightsSha256 }) => [
          fold ?? '-',
          status,
          validation?.accuracy.toFixed(4) ?? '-',
          validation?.loss.toFixed(4) ?? '-',
          validation === null ? '-' : count(validation.rows),
          html`<code title="${weightsSha256}">${weightsSha256.slice(0, 12)}</code>`,
        ]),
      )}
      <p>Mean ${mean.toFixed(4)}, standard deviation ${sd.toFixed(4)}, 95 % interval ± ${ci95.toFixed(4)}.</p>
      <p class="quiet">
        Folds share training rows, so the interval is the corrected one of Nadeau and Bengio (2003).
      </p>
    </div>
  </div>`;
}

function confusion(
  { summary: { trials }, manifest }: RunFiles,
  trial: TrialSummary | null,
  look: Look | null,
): Html {
  const { classNames } = manifest.dataset;
  const held = trials.flatMap(({ fold, validation }) =>
    fold === null || validation === null ? [] : [validation],
  );
  const pooled = held.length < 2 ? [] : [confusionFigure('Validation, all folds', sumOf(held), classNames)];
  const matrices = trials.flatMap(({ fold, validation, test }) => {
    const of = fold === null ? '' : `, fold ${fold}`;
    return [
      ...(test === null ? [] : [confusionFigure(`Test${of}`, test, classNames)]),
      ...(validation === null ? [] : [confusionFigure(`Validation${of}`, validation, classNames)]),
    ];
  });
  const of = trial === null || trial.fold === null ? '' : ` of fold ${trial.fold}`;
  const looked =
    look === null
      ? []
      : [
          ...(trial?.test === null
            ? [confusionFigure(`Test, with the network${of}`, look.test, classNames)]
            : []),
          ...(look.train === null
            ? []
            : [
                confusionFigure(
                  `Training${of}, first ${count(look.train.rows)} rows`,
                  look.train,
                  classNames,
                ),
              ]),
        ];
  const all = [...pooled, ...looked, ...matrices.slice(0, MAX_MATRICES)];
  if (all.length === 0) return html`<p>The run ended before it was evaluated.</p>`;
  return html`<div class="charts">${all}</div>`;
}

/** The evaluations of several networks as one: every row counts once. */
function sumOf(evaluations: readonly Evaluation[]): Evaluation {
  const total = (read: (evaluation: Evaluation) => number): number =>
    evaluations.reduce((sum, evaluation) => sum + read(evaluation), 0);
  const rows = total((evaluation) => evaluation.rows);
  const classes = evaluations[0]?.confusion ?? [];
  return {
    rows,
    loss: total((evaluation) => evaluation.loss * evaluation.rows) / rows,
    accuracy: total((evaluation) => evaluation.accuracy * evaluation.rows) / rows,
    confusion: classes.map((row, truth) =>
      row.map((_, guess) => total(({ confusion: c }) => c[truth]?.[guess] ?? 0)),
    ),
  };
}

function layers({ layers: rows }: Look): Html {
  return table(
    ['layer', 'type', 'output shape', 'parameters'],
    rows.map(({ name, type, outputShape, parameters }) => [
      name,
      type,
      outputShape.join(' x '),
      count(parameters),
    ]),
  );
}
