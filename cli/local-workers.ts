import { fork, type ChildProcess } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import type { Log } from './log.js';
import { availableCores } from './numbers.js';
import { ExitCode } from '../shared/errors.js';

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url));
/** The end of a worker's error output that is kept for its obituary. */
const STDERR_TAIL_CHARS = 2_000;
/** A line of a worker's log that does not end is cut off. */
const MAX_LOG_LINE_CHARS = 65_536;
/** How long workers may take to leave before they are killed. */
const EXIT_TIMEOUT_MS = 5_000;
/** A worker that dies more often than this within the window is not started again. */
const MAX_RESTARTS = 5;
const RESTART_WINDOW_MS = 60_000;

export interface LocalWorkersOptions {
  readonly count: number;
  readonly slots: number;
  readonly url: string;
  readonly token: string | null;
  readonly dataset: string;
  readonly dataDir: string | null;
  /** Takes in what they log; null: they do not. */
  readonly log: Log | null;
  /** A worker ended before it was told to, and was started again. */
  readonly onRestart: (name: string, how: string) => void;
  /** A worker ended before it was told to, and starting it again would not help. */
  readonly onDeath: (name: string, how: string) => void;
}

/** Slots of each of so many local workers, unless it is said: the cores, shared out. */
export const slotsOfEach = (count: number): number =>
  Math.max(1, Math.floor(availableCores() / Math.max(1, count)));

/** One local worker: the process that is it now, and when it was started again. */
interface LocalWorker {
  readonly name: string;
  child: ChildProcess;
  restarts: number[];
}

/** The worker processes that `atelier train` and `atelier coordinator` start on this machine. They end with it, even when it is killed. */
export class LocalWorkers {
  private readonly options: LocalWorkersOptions;
  private readonly workers: LocalWorker[];
  private expected = false;
  private readonly obituaries: string[] = [];

  constructor(options: LocalWorkersOptions) {
    this.options = options;
    this.workers = Array.from({ length: options.count }, (_, i) => {
      const worker: LocalWorker = { name: `local-${i}`, child: this.fork(`local-${i}`), restarts: [] };
      this.watch(worker);
      return worker;
    });
  }

  /** From now on workers may end. */
  expectExit(): void {
    this.expected = true;
  }

  /**
   * Waits until every worker has ended; kills those that take too long.
   * @returns how those ended that did not end well, with the last they said
   */
  async exited(): Promise<string[]> {
    this.expected = true;
    const alive = this.workers
      .map(({ child }) => child)
      .filter((child) => child.exitCode === null && child.signalCode === null);
    const timer = setTimeout(() => alive.forEach((child) => child.kill('SIGKILL')), EXIT_TIMEOUT_MS);
    await Promise.all(alive.map((child) => new Promise((resolve) => child.once('exit', resolve))));
    clearTimeout(timer);
    return this.obituaries;
  }

  /** Tells all to leave, and waits until they have. */
  async dismiss(): Promise<void> {
    this.expected = true;
    for (const { child } of this.workers) child.kill('SIGTERM');
    await this.exited();
  }

  private fork(name: string): ChildProcess {
    const { url, slots, dataset, dataDir, token, log } = this.options;
    const flags = ['--join', url, '--name', name, '--slots', String(slots), '--dataset', dataset];
    if (dataDir !== null) flags.push('--data-dir', dataDir);
    if (log !== null) flags.push('--log', log.level);
    return fork(MAIN, ['worker', ...flags], {
      // Its own process group: Ctrl-C reaches us alone, and we tell the workers.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { ...process.env, ...(token === null ? {} : { ATELIER_TOKEN: token }) },
    });
  }

  private watch(worker: LocalWorker): void {
    const { child, name } = worker;
    let tail = '';
    const { log } = this.options;
    let rest = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      tail = (tail + text).slice(-STDERR_TAIL_CHARS);
      if (log === null) return;
      const lines = (rest + text).split('\n');
      rest = lines.pop()?.slice(-MAX_LOG_LINE_CHARS) ?? '';
      // TensorFlow says something too.
      for (const line of lines) if (line.startsWith('{')) log.pass(line);
    });
    child.once('exit', (code, signal) => {
      const how = signal === null ? `ended with exit code ${code ?? '?'}` : `was killed by ${signal}`;
      if (code !== 0) {
        this.obituaries.push(`worker ${name} ${how}${tail === '' ? '' : `:\n${tail.trimEnd()}`}`);
        // One for each worker is enough to see what went wrong.
        if (this.obituaries.length > this.options.count) this.obituaries.shift();
      }
      if (this.expected || code === ExitCode.done) return;
      const hopeless = code === ExitCode.usage || code === ExitCode.refused;
      worker.restarts = worker.restarts.filter((time) => performance.now() - time < RESTART_WINDOW_MS);
      if (hopeless || worker.restarts.length >= MAX_RESTARTS) {
        this.options.onDeath(name, how);
        return;
      }
      worker.restarts.push(performance.now());
      worker.child = this.fork(name);
      this.watch(worker);
      this.options.onRestart(name, how);
    });
  }
}
