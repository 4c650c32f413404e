import { performance } from 'node:perf_hooks';
import cliProgress from 'cli-progress';
import Table from 'cli-table3';
import pc from 'picocolors';
import type { Worker } from '../coordinator/cluster.js';
import type { RunObserver } from '../coordinator/run-observer.js';
import type { StepProgress } from '../coordinator/trial.js';
import type { RunConfig } from '../shared/config.js';
import type { AtelierError } from '../shared/errors.js';
import type { EpochRecord, Evaluation, Summary } from '../shared/summary.js';

const BAR_REDRAWS_PER_SECOND = 10;

export interface TerminalOptions {
  readonly stream: NodeJS.WriteStream;
  readonly quiet: boolean;
  readonly config: RunConfig;
  /** Live bars, where the stream is a terminal; left out: yes. */
  readonly bars?: boolean;
}

const count = (n: number): string => Math.round(n).toLocaleString('en-US');
const four = (n: number): string => n.toFixed(4);

function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** What a person sees of a run: a live bar for each trial on a terminal, plain lines elsewhere, nothing when quiet. */
export class Terminal implements RunObserver {
  private readonly options: TerminalOptions;
  private readonly live: boolean;
  private bars: cliProgress.MultiBar | undefined;
  private readonly rows = new Map<number, cliProgress.SingleBar>();
  /** Of each trial: when its epoch began, and the steps of one. */
  private readonly epochs = new Map<number, { startedAt: number; firstStep: number; steps: number }>();

  constructor(options: TerminalOptions) {
    this.options = options;
    this.live = options.stream.isTTY && !options.quiet && options.bars !== false;
  }

  line(text: string): void {
    if (this.options.quiet) return;
    if (this.bars === undefined) this.options.stream.write(`${text}\n`);
    else this.bars.log(`${text}\n`);
  }

  workerJoined({ hello: { name, host, slots }, resumed }: Worker): void {
    const how = resumed ? 'is back' : 'joined';
    this.line(`${pc.green('+')} worker ${name} ${how} from ${host}, ${slots} slot${slots === 1 ? '' : 's'}`);
  }

  workerLeft({ hello: { name } }: Worker, reason: string): void {
    this.line(`${pc.red('-')} worker ${name} left: ${reason}`);
  }

  warned(source: string, message: string): void {
    this.line(`${pc.yellow('!')} ${source}: ${message}`);
  }

  started(workers: number, slots: number): void {
    this.line(`Training on ${workers} workers with ${slots} slots`);
  }

  waiting(workers: number, wanted: number): void {
    const { waitSeconds } = this.options.config;
    this.line(
      `${pc.yellow('!')} ${workers} of ${wanted} workers: waiting for more, at most ${waitSeconds} s`,
    );
  }

  stepped(progress: StepProgress, imagesPerSecond: number): void {
    const { trial, epoch, stepInEpoch, stepsPerEpoch, loss, accuracy } = progress;
    let times = this.epochs.get(trial);
    if (times === undefined || stepInEpoch === 0) {
      times = { startedAt: performance.now(), firstStep: stepInEpoch, steps: stepsPerEpoch };
      this.epochs.set(trial, times);
    }
    if (!this.live) return;
    const done = stepInEpoch + 1;
    const perStep = (performance.now() - times.startedAt) / 1000 / Math.max(1, stepInEpoch - times.firstStep);
    const figures = {
      name: this.nameOf(trial),
      epoch: `${epoch + 1}/${this.options.config.epochs}`,
      loss: four(loss),
      accuracy: four(accuracy),
      rate: count(imagesPerSecond),
      left: clock(perStep * (stepsPerEpoch - done)),
    };
    this.bars ??= this.makeBars();
    const row = this.rows.get(trial) ?? this.bars.create(stepsPerEpoch, done, figures);
    this.rows.set(trial, row);
    row.update(done, figures);
  }

  evaluating(): void {
    // The bar stays where it is until the epoch's line appears.
  }

  checkpointed(): void {
    // Nothing that people wait for.
  }

  epochEnded(trial: number, record: EpochRecord): void {
    const { epochs } = this.options.config;
    const steps = this.epochs.get(trial)?.steps ?? 1;
    const fields = [
      `${steps}/${steps}`,
      `${record.seconds.toFixed(0)}s`,
      `${((record.seconds * 1000) / steps).toFixed(0)}ms/step`,
      `accuracy: ${four(record.accuracy)}`,
      `loss: ${four(record.loss)}`,
    ];
    if (record.valAccuracy !== null) fields.push(`val_accuracy: ${four(record.valAccuracy)}`);
    if (record.valLoss !== null) fields.push(`val_loss: ${four(record.valLoss)}`);
    this.line(`${this.nameOf(trial)}Epoch ${record.epoch}/${epochs}  ${fields.join(' - ')}`);
  }

  trialEnded(trial: number, error: AtelierError | null): void {
    const row = this.rows.get(trial);
    if (row !== undefined) this.bars?.remove(row);
    this.rows.delete(trial);
    if (error !== null) this.line(`${pc.red('x')} ${this.nameOf(trial)}failed: ${error.message}`);
  }

  /** One line a fold, and what they say together. */
  folds(summary: Summary): void {
    const table = new Table({
      head: ['fold', 'epochs', 'loss', 'accuracy', 'val loss', 'val accuracy', 'weights'],
      colAligns: ['right', 'right', 'right', 'right', 'right', 'right', 'left'],
      style: PLAIN_STYLE,
      chars: NO_BORDERS,
    });
    for (const { fold, status, epochs, validation, weightsSha256 } of summary.trials) {
      const last = epochs.at(-1);
      const cell = (value: number | null | undefined): string =>
        value === null || value === undefined ? '-' : four(value);
      table.push([
        `${fold ?? 'final'}${status === 'done' ? '' : ` (${status})`}`,
        String(epochs.length),
        cell(last?.loss),
        cell(last?.accuracy),
        cell(validation?.loss),
        cell(validation?.accuracy),
        weightsSha256.slice(0, 12),
      ]);
    }
    this.line(`\n${table.toString()}\n`);
    const { folds } = summary;
    if (folds === null) return;
    this.line(
      `Validation accuracy ${pc.bold(four(folds.mean))} (sd ${four(folds.sd)}, 95 % interval ` +
        `${four(folds.mean - folds.ci95)} to ${four(folds.mean + folds.ci95)}) over ${folds.n} folds`,
    );
  }

  /** The closing words. */
  finished(
    summary: Summary,
    classNames: readonly string[],
    { runDirectory, report }: { readonly runDirectory: string; readonly report: string | null },
  ): void {
    this.stopBars();
    if (summary.config.folds !== null) this.folds(summary);
    const test = summary.trials.find((trial) => trial.test !== null)?.test ?? null;
    if (test !== null) {
      this.line(`\n${confusionTable(test, classNames)}\n`);
      this.line(
        `Test accuracy ${pc.bold(four(test.accuracy))}, loss ${four(test.loss)} on ${count(test.rows)} images`,
      );
    }
    const { throughput } = summary;
    this.line(
      `${count(throughput.imagesPerSecond)} images/s, step ${throughput.stepMsP50.toFixed(1)} ms (median), ` +
        `${summary.durationSeconds.toFixed(1)} s in all`,
    );
    this.line(`Weights ${summary.weightsSha256}`);
    this.line(`Run directory ${runDirectory}`);
    if (report !== null) this.line(`Report ${report}`);
  }

  /** Gives the terminal back, whatever was on it. */
  stopBars(): void {
    this.bars?.stop();
    this.bars = undefined;
    this.rows.clear();
  }

  /** Names a trial where there are several; empty where there is one. */
  private nameOf(trial: number): string {
    const { folds, repeats } = this.options.config;
    if (folds === null) return '';
    return trial < folds * repeats ? `Fold ${trial}  ` : 'Final fit  ';
  }

  private makeBars(): cliProgress.MultiBar {
    return new cliProgress.MultiBar({
      stream: this.options.stream,
      format:
        '{name}Epoch {epoch} {bar} {value}/{total}  loss {loss}  accuracy {accuracy}  {rate} images/s  {left} left',
      barCompleteChar: '━',
      barIncompleteChar: pc.dim('━'),
      barsize: 20,
      fps: BAR_REDRAWS_PER_SECOND,
      hideCursor: true,
      clearOnComplete: true,
      gracefulExit: false,
    });
  }
}

const PLAIN_STYLE = { head: [], border: [], compact: true, 'padding-left': 1, 'padding-right': 0 };
const NO_BORDERS = Object.fromEntries(
  ['top', 'bottom', 'left', 'right', 'mid', 'middle']
    .flatMap((side) => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
    .map((key) => [key, '']),
);

/** Rows: the true class; columns: what the network said, by class number. */
export function confusionTable({ confusion }: Evaluation, classNames: readonly string[]): string {
  const table = new Table({
    head: ['true \\ predicted', ...classNames.map((_, i) => String(i)), 'recall'],
    colAligns: ['left', ...classNames.map(() => 'right' as const), 'right'],
    style: PLAIN_STYLE,
    chars: NO_BORDERS,
  });
  confusion.forEach((row, truth) => {
    const total = row.reduce((sum, n) => sum + n, 0);
    const recall = total === 0 ? '-' : ((row[truth] ?? 0) / total).toFixed(3);
    const cells = row.map((n, guess) =>
      n === 0 ? pc.dim('.') : guess === truth ? pc.bold(String(n)) : String(n),
    );
    table.push([`${truth} ${classNames[truth] ?? ''}`, ...cells, recall]);
  });
  return table.toString();
}
