import { make } from './dom.js';
import { duration, loss, percent } from './format.js';
import { LiveTable } from './live-table.js';
import { trialName, type EpochFigures, type RunState } from './state.js';

/** Of each trial: the newest. The files have all. */
const MAX_EPOCHS = 50;

interface Row extends EpochFigures {
  readonly name: string;
}

/** The curves as figures, filled while it is open. */
export class EpochsTable {
  private readonly table: LiveTable<Row>;

  constructor(
    private readonly details: HTMLDetailsElement,
    host: HTMLElement,
    onOpen: () => void,
  ) {
    this.table = new LiveTable<Row>(host, {
      caption: `Figures of the last ${MAX_EPOCHS} epochs of each trial`,
      key: ({ name, epoch }) => `${name} ${epoch}`,
      columns: [
        { title: 'Trial', value: ({ name }) => name },
        { title: 'Epoch', kind: 'number', value: ({ epoch }) => epoch },
        { title: 'Loss', kind: 'number', value: (row) => loss(row.loss) },
        { title: 'Accuracy', kind: 'number', value: (row) => percent(row.accuracy, 2) },
        { title: 'Validation loss', kind: 'number', value: (row) => loss(row.valLoss) },
        { title: 'Validation accuracy', kind: 'number', value: (row) => percent(row.valAccuracy, 2) },
        { title: 'Learning rate', kind: 'number', value: (row) => row.learningRate.toPrecision(3) },
        { title: 'Time', kind: 'number', value: (row) => duration(row.seconds) },
      ],
    });
    host.append(make('p', { class: 'quiet' }, 'Every epoch: metrics.jsonl, below.'));
    details.addEventListener('toggle', onOpen);
  }

  update(run: RunState, hidden: ReadonlySet<number>): void {
    if (!this.details.open) return;
    const rows = run.trials
      .filter(({ trial }) => !hidden.has(trial))
      .flatMap((trial) => {
        const name = trialName(trial, run.trials.length);
        return trial.epochsDone.slice(-MAX_EPOCHS).map((epoch) => ({ ...epoch, name }));
      });
    this.table.update(rows);
  }
}
