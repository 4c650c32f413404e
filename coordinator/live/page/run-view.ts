import type { Api } from './api.js';
import { Curves } from './curves.js';
import { byId, setText, setTone } from './dom.js';
import { EpochsTable } from './epochs-table.js';
import { FilesView } from './files-view.js';
import { count, loss, NOTHING, percent } from './format.js';
import { History, MAX_WORKERS_SHOWN } from './history.js';
import { LiveTable } from './live-table.js';
import { LogView } from './log-view.js';
import { Numbers } from './numbers.js';
import { Redraw } from './redraw.js';
import {
  distinctWorkers,
  isOver,
  toneOf,
  trialName,
  type LogLine,
  type RunState,
  type TrialState,
  type WorkerFigures,
} from './state.js';
import { onThemeChange, readTheme } from './theme.js';
import { Timeline } from './timeline.js';
import { TrialChips } from './trial-chips.js';

/** While a run goes on, its timeline moves even if nothing else does. */
const TICK_MS = 1_000;
/** Log lines that wait for the next frame; a hidden page has none for a long time. */
const MAX_WAITING_LINES = 300;

const NUMBER = 'number';

/** Everything that is shown of one run. What comes in is kept, and drawn with the next frame. */
export class RunView {
  private readonly section = byId('run', HTMLElement);
  private readonly name = byId('run-name', HTMLElement);
  private readonly status = byId('run-status', HTMLElement);
  private readonly note = byId('run-note', HTMLElement);
  private readonly progress = byId('run-progress', HTMLProgressElement);
  private readonly announcer = byId('announcer', HTMLElement);
  private readonly numbers = new Numbers(byId('numbers', HTMLElement));
  private readonly curves = new Curves(byId('loss', HTMLElement), byId('accuracy', HTMLElement));
  private readonly timeline = new Timeline(byId('timeline', HTMLElement));
  private readonly log = new LogView(byId('log', HTMLElement), byId('log-lines', HTMLElement));
  private readonly redraw = new Redraw(() => this.draw());
  private readonly chips = new TrialChips(byId('chips', HTMLElement), () => this.redraw.request());
  private readonly epochs: EpochsTable;
  private readonly files: FilesView;
  private readonly trials: LiveTable<TrialState>;
  private readonly workers: LiveTable<WorkerFigures>;
  private theme = readTheme();
  private run: RunState | null = null;
  private history = new History();
  private newLines: LogLine[] = [];

  constructor(api: Api) {
    this.files = new FilesView(api, byId('files', HTMLElement), byId('files-error', HTMLElement));
    this.epochs = new EpochsTable(byId('figures', HTMLDetailsElement), byId('epochs', HTMLElement), () =>
      this.redraw.request(),
    );
    this.trials = this.trialsTable();
    this.workers = workersTable();
    onThemeChange(() => {
      this.theme = readTheme();
      this.redraw.request();
    });
    setInterval(() => {
      if (this.run !== null && !isOver(this.run.status)) this.redraw.request();
    }, TICK_MS);
  }

  /** Forgets the run that was shown. */
  clear(): void {
    this.run = null;
    this.history = new History();
    this.chips.clear();
    this.clearLog();
    this.section.hidden = true;
  }

  clearLog(): void {
    this.newLines = [];
    this.log.clear();
  }

  show(state: RunState): void {
    const run = { ...state, workers: distinctWorkers(state.workers) };
    announce(this.announcer, this.run, run);
    this.run = run;
    this.history.add(run, Date.now());
    this.redraw.request();
  }

  addLine(line: LogLine): void {
    this.newLines.push(line);
    if (this.newLines.length > MAX_WAITING_LINES) this.newLines.shift();
    this.redraw.request();
  }

  private draw(): void {
    const { run, history, theme } = this;
    if (run === null) return;
    const now = Date.now();
    this.section.hidden = false;
    this.section.dataset['status'] = run.status;
    setText(this.name, run.name);
    setText(this.status, run.status);
    setTone(this.status, toneOf(run.status));
    setText(this.note, noteOf(run));
    this.progress.value = run.progress;
    this.numbers.update(run, now);
    this.trials.update(run.trials);
    this.workers.update(run.workers.slice(0, MAX_WORKERS_SHOWN));
    this.chips.update(run.trials);
    this.epochs.update(run, this.chips.hidden);
    this.files.update(run);
    this.curves.draw({ run, history, hidden: this.chips.hidden, theme }, now);
    this.timeline.draw(history, theme, now);
    if (this.newLines.length > 0) this.log.add(this.newLines.splice(0));
  }

  private trialsTable(): LiveTable<TrialState> {
    const last = (trial: TrialState) => trial.epochsDone.at(-1);
    return new LiveTable<TrialState>(byId('trials', HTMLElement), {
      caption: 'Trials of this run',
      key: ({ trial }) => String(trial),
      tone: ({ status }) => toneOf(status),
      columns: [
        { title: 'Trial', value: (trial) => trialName(trial, this.run?.trials.length ?? 0) },
        { title: 'State', kind: 'badge', value: ({ status }) => status },
        { title: 'Epoch', kind: NUMBER, value: ({ epoch, epochs }) => `${epoch} of ${epochs}` },
        {
          title: 'This epoch',
          kind: 'progress',
          value: ({ step, steps }) => step / Math.max(1, steps),
        },
        { title: 'Loss now', kind: NUMBER, value: (trial) => loss(trial.loss) },
        { title: 'Val. loss', kind: NUMBER, value: (trial) => loss(last(trial)?.valLoss ?? null) },
        {
          title: 'Val. accuracy',
          kind: NUMBER,
          value: (trial) => percent(last(trial)?.valAccuracy ?? null, 2),
        },
      ],
    });
  }
}

function workersTable(): LiveTable<WorkerFigures> {
  return new LiveTable<WorkerFigures>(byId('workers', HTMLElement), {
    caption: 'Workers of this coordinator',
    key: ({ name }) => name,
    tone: ({ state }) => toneOf(state),
    columns: [
      { title: 'Worker', value: ({ name }) => name },
      { title: 'State', kind: 'badge', value: ({ state }) => state },
      {
        title: 'Slots at work',
        kind: NUMBER,
        value: ({ state, busySlots, slots }) => (state === 'lost' ? NOTHING : `${busySlots} of ${slots}`),
      },
      { title: 'Rows/s', kind: NUMBER, value: ({ rowsPerSecond }) => count(rowsPerSecond) },
      { title: 'Leases', kind: NUMBER, value: ({ leases }) => leases },
      {
        title: 'Heard of',
        kind: NUMBER,
        value: ({ heartbeatAgeSeconds }) => `${heartbeatAgeSeconds.toFixed(0)} s ago`,
      },
    ],
  });
}

/** What is lost, came back or is over, in one line. */
function noteOf({ status, workers, counts }: RunState): string {
  if (status === 'queued') return 'It waits for its turn. The page shows it as soon as it begins.';
  const lost = workers.filter(({ state }) => state === 'lost').map(({ name }) => name);
  const all = [
    lost.length > 0 ? `not connected: ${lost.join(', ')}` : '',
    ...Object.entries(counts)
      .filter(([, value]) => value > 0)
      .map(
        ([name, value]) =>
          `${name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}: ${count(value)}`,
      ),
  ];
  return all.filter((part) => part !== '').join(' · ');
}

/** Tells screen readers of what changes rarely and matters. */
function announce(element: HTMLElement, before: RunState | null, now: RunState): void {
  if (before === null) return;
  const changes: string[] = [];
  if (before.status !== now.status) changes.push(`The run is ${now.status}.`);
  for (const { name, state } of now.workers) {
    const was = before.workers.find((worker) => worker.name === name)?.state;
    if (state === 'lost' && was !== 'lost') changes.push(`Worker ${name} is lost.`);
    if (state === 'ready' && was === 'lost') changes.push(`Worker ${name} is back.`);
  }
  if (changes.length > 0) element.textContent = changes.join(' ');
}
