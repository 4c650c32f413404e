import { flagOf, TrainingConfig } from '../../shared/config.js';
import type { Summary } from '../../shared/summary.js';
import type { RunFiles } from '../run-files.js';
import { barsFigure } from './chart.js';
import { count, duration, html, type Html, percent, table } from './html.js';

/** Lines of the event log that are shown: the newest. */
const MAX_EVENTS = 200;

/** A value of a config or an event, for a person. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

export function configSection({ summary: { config }, manifest }: RunFiles): Html {
  const { versions, host, dataset, model } = manifest;
  return html`${table(
      [],
      [
        ['network', `${model.name}, ${count(model.parameters)} parameters`],
        [
          'dataset',
          `${dataset.name}, ${count(dataset.trainRows)} training and ${count(dataset.testRows)} test images`,
        ],
        ['images', `${dataset.imageShape.join(' x ')}, ${dataset.classNames.length} classes`],
        ['started', manifest.startedAt],
        [
          'versions',
          Object.entries(versions)
            .map(([name, version]) => `${name} ${shown(version)}`)
            .join(', '),
        ],
        ['host', Object.values(host).map(shown).join(', ')],
      ],
    )}
    <details>
      <summary>Every setting</summary>
      ${table(
        ['setting', 'value'],
        Object.entries(config).map(([key, value]) => [key, shown(value)]),
      )}
    </details>`;
}

export function timingSection({ throughput, trials, durationSeconds }: Summary): Html {
  const epochs = trials.flatMap(({ fold, epochs: records }) =>
    records.map(({ epoch, seconds }) => ({
      name: fold === null ? String(epoch) : `${fold}.${epoch}`,
      value: seconds,
    })),
  );
  const isFolds = trials.some(({ fold }) => fold !== null);
  return html`${table(
    [],
    [
      ['in all', duration(durationSeconds)],
      ['training images a second', count(throughput.imagesPerSecond)],
      ['step, median', `${throughput.stepMsP50.toFixed(1)} ms`],
      ['step, 95th percentile', `${throughput.stepMsP95.toFixed(1)} ms`],
      ['slots at work', percent(throughput.slotUtilization, 1)],
    ],
  )}
  ${
    epochs.length === 0
      ? ''
      : html`<div class="charts">
          ${barsFigure('Seconds an epoch', epochs, isFolds ? 'fold.epoch' : 'epoch', 'Training and validation.')}
        </div>`
  }`;
}

export function workersSection({ workers }: Summary): Html {
  const all = workers.reduce((sum, { examples }) => sum + examples, 0);
  return table(
    ['worker', 'host', 'slots', 'TensorFlow', 'Node', 'examples', 'share'],
    workers.map(({ name, host, slots, tensorflow, node, examples }) => [
      name,
      host,
      slots,
      tensorflow,
      node,
      count(examples),
      all === 0 ? '-' : percent(examples / all, 1),
    ]),
  );
}

/** Events too many to list. */
const UNLISTED: ReadonlySet<string> = new Set(['lease', 'checkpoint']);

/** What went wrong and was dealt with: said first, then the log. */
export function faultsSection({ summary: { elasticity, retries }, events }: RunFiles): Html {
  const faults: readonly (readonly [number, string])[] = [
    [elasticity.workersLost, 'workers lost'],
    [elasticity.reconnects, 'connections taken up again'],
    [retries, 'shards or chunks computed again'],
    [elasticity.speculated, 'leased a second time, because their holder was slow'],
    [elasticity.late, 'answers too late to be used'],
    [elasticity.resumes, 'resumptions from a checkpoint'],
    [events.filter(({ type }) => type === 'warning').length, 'warnings'],
  ];
  const seen = faults.filter(([times]) => times > 0);
  const listed = events.filter(({ type }) => !UNLISTED.has(type)).slice(-MAX_EVENTS);
  return html`${
      seen.length === 0
        ? html`<p>None: no worker was lost, nothing was computed twice, nothing gave warning.</p>`
        : html`<p>The result does not depend on them.</p>
            ${table(
              [],
              seen.map(([times, what]) => [count(times), what]),
            )}`
    }
    <details>
      <summary>Event log</summary>
      ${table(
        ['time', 'event', ''],
        listed.map(({ time, type, ...fields }) => [
          time.replace('T', ' ').replace(/\.\d+Z$/, ''),
          type,
          Object.entries(fields)
            .filter(([, value]) => value !== null)
            .map(([key, value]) => `${key} ${shown(value)}`)
            .join(', '),
        ]),
      )}
    </details>`;
}

/** A value as a word of a shell's command line. */
const quoted = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** The flags that decide the weights and are not at their defaults; the most telling ones always. */
export function reproducingFlags(config: Readonly<Record<string, unknown>>): string[] {
  const always = new Set(['model', 'dataset', 'epochs', 'seed']);
  const defaults: Readonly<Record<string, unknown>> = TrainingConfig.parse({});
  return Object.keys(TrainingConfig.shape).flatMap((key) => {
    const value = config[key];
    if (value === null || value === undefined) return [];
    if (!always.has(key) && JSON.stringify(value) === JSON.stringify(defaults[key])) return [];
    if (typeof value === 'object') return [];
    if (typeof value === 'boolean') return [value ? flagOf(key) : `--no-${flagOf(key).slice(2)}`];
    return [flagOf(key), quoted(shown(value))];
  });
}

export function reproduceSection({ summary, manifest }: RunFiles): Html {
  const checkout = manifest.gitCommit === null ? [] : [`git checkout ${manifest.gitCommit}`];
  const commands = [
    ...checkout,
    'npm run setup',
    `npx atelier train ${reproducingFlags(summary.config).join(' ')}`,
  ];
  return html`<p>The same bits come out on any number of workers (x86-64 with the same TensorFlow):</p>
    <pre>${commands.join('\n')}</pre>
    ${table(
      [],
      [
        ['weights SHA-256', html`<code>${summary.weightsSha256}</code>`],
        ['dataset SHA-256', html`<code>${manifest.dataset.sha256}</code>`],
        ['as it was started', html`<code>atelier ${manifest.argv.map(quoted).join(' ')}</code>`],
      ],
    )}`;
}
