import cliProgress from 'cli-progress';
import Table from 'cli-table3';
import pc from 'picocolors';
import type { RunObserver } from '../coordinator/run.js';
import type { StepProgress } from '../coordinator/trial.js';
import type { RunConfig } from '../shared/config.js';
import type { EpochRecord, Evaluation, Summary } from '../shared/summary.js';

const BAR_REDRAWS_PER_SECOND = 10;

export interface TerminalOptions {
  readonly stream: NodeJS.WriteStream;
  readonly quiet: boolean;
  readonly config: RunConfig;
}

const count = (n: number): string => Math.round(n).toLocaleString('en-US');
const four = (n: number): string => n.toFixed(4);

function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** What a person sees of a run: a live bar on a terminal, plain lines elsewhere, nothing when quiet. */
export class Terminal implements RunObserver {
  private readonly options: TerminalOptions;
  private readonly live: boolean;
  private bar: cliProgress.SingleBar | undefined;
  private epochStartedAt = Date.now();
  private steps = 0;

  constructor(options: TerminalOptions) {
    this.options = options;
    this.live = options.stream.isTTY && !options.quiet;
  }

  line(text: string): void {
    if (!this.options.quiet) this.options.stream.write(`${text}\n`);
  }

  workerJoined(name: string, host: string, slots: number): void {
    this.betweenBars(
      `${pc.green('+')} worker ${name} joined from ${host}, ${slots} slot${slots === 1 ? '' : 's'}`,
    );
  }

  workerLeft(name: string, reason: string): void {
    this.betweenBars(`${pc.red('-')} worker ${name} left: ${reason}`);
  }

  warned(worker: string, message: string): void {
    this.betweenBars(`${pc.yellow('!')} ${worker}: ${message}`);
  }

  started(workers: number, slots: number): void {
    this.line(`Training on ${workers} workers with ${slots} slots`);
    this.epochStartedAt = Date.now();
  }

  stepped(progress: StepProgress, imagesPerSecond: number): void {
    const { epoch, stepInEpoch, stepsPerEpoch, loss, accuracy } = progress;
    if (stepInEpoch === 0) this.epochStartedAt = Date.now();
    this.steps = stepsPerEpoch;
    if (!this.live) return;
    const done = stepInEpoch + 1;
    const left = ((Date.now() - this.epochStartedAt) / 1000 / done) * (stepsPerEpoch - done);
    const figures = {
      epoch: `${epoch + 1}/${this.options.config.epochs}`,
      loss: four(loss),
      accuracy: four(accuracy),
      rate: count(imagesPerSecond),
      left: clock(left),
    };
    if (this.bar === undefined) {
      this.bar = new cliProgress.SingleBar({
        stream: this.options.stream,
        format:
          'Epoch {epoch} {bar} {value}/{total}  loss {loss}  accuracy {accuracy}  {rate} images/s  {left} left',
        barCompleteChar: '━',
        barIncompleteChar: pc.dim('━'),
        barsize: 20,
        fps: BAR_REDRAWS_PER_SECOND,
        hideCursor: true,
        clearOnComplete: true,
        gracefulExit: false,
      });
      this.bar.start(stepsPerEpoch, done, figures);
    } else {
      this.bar.update(done, figures);
    }
  }

  evaluating(): void {
    this.stopBar();
  }

  epochEnded(_trial: number, record: EpochRecord): void {
    this.stopBar();
    const { epochs } = this.options.config;
    const fields = [
      `${this.steps}/${this.steps}`,
      `${record.seconds.toFixed(0)}s`,
      `${((record.seconds * 1000) / this.steps).toFixed(0)}ms/step`,
      `accuracy: ${four(record.accuracy)}`,
      `loss: ${four(record.loss)}`,
    ];
    if (record.valAccuracy !== null) fields.push(`val_accuracy: ${four(record.valAccuracy)}`);
    if (record.valLoss !== null) fields.push(`val_loss: ${four(record.valLoss)}`);
    this.line(`Epoch ${record.epoch}/${epochs}  ${fields.join(' - ')}`);
  }

  /** The closing words. */
  finished(summary: Summary, classNames: readonly string[], runDirectory: string): void {
    this.stopBar();
    const test = summary.trials[0]?.test ?? null;
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
  }

  /** Gives the terminal back, whatever was on it. */
  stopBar(): void {
    this.bar?.stop();
    this.bar = undefined;
  }

  private betweenBars(text: string): void {
    this.stopBar();
    this.line(text);
  }
}

/** Rows: the true class; columns: what the network said, by class number. */
export function confusionTable({ confusion }: Evaluation, classNames: readonly string[]): string {
  const table = new Table({
    head: ['true \\ predicted', ...classNames.map((_, i) => String(i)), 'recall'],
    colAligns: ['left', ...classNames.map(() => 'right' as const), 'right'],
    style: { head: [], border: [], compact: true, 'padding-left': 1, 'padding-right': 0 },
    chars: Object.fromEntries(
      ['top', 'bottom', 'left', 'right', 'mid', 'middle']
        .flatMap((side) => [side, `${side}-mid`, `${side}-left`, `${side}-right`])
        .map((key) => [key, '']),
    ),
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
