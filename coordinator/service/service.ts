import { MAX_LISTED_RUNS, type RunState, type Submission } from '../../shared/api.js';
import type { Clock } from '../../shared/clock.js';
import { parseRunConfig } from '../../shared/config.js';
import { AtelierError, messageOf } from '../../shared/errors.js';
import { isPreset } from '../../shared/models/presets.js';
import { HttpProblem, noSuchRun } from '../http/errors.js';
import { queuedState } from '../live-run.js';
import type { RunEnd } from '../run.js';
import type { RunSource, RunView } from '../run-view.js';
import type { RunsFolder, UnfinishedRun } from './runs-folder.js';
import { storedState } from './stored-run.js';

/** Runs at the same time, and runs that wait, unless told otherwise. */
export const CONCURRENT_RUNS = 2;
export const MAX_QUEUED_RUNS = 64;
/** After which a client may try again when the queue is full. */
const RETRY_AFTER_SECONDS = 60;
/** How often a queue without workers looks for some. */
const WORKER_CHECK_MS = 1_000;

/** A run in work. */
export interface Execution {
  readonly view: RunView;
  /** How it ended; rejects when it could not begin. What it leaves behind is written by then. */
  readonly ended: Promise<RunEnd>;
  /**
   * Ends it before its time, with checkpoints.
   * @param isFinal false: another coordinator goes on with it, so that it gets no summary
   */
  stop(error: AtelierError, isFinal: boolean): void;
}

export interface ServiceOptions {
  readonly folder: RunsFolder;
  readonly clock: Clock;
  readonly concurrentRuns: number;
  readonly maxQueued: number;
  /** Begins a run, or goes on with it. */
  readonly execute: (path: string, isBegun: boolean) => Execution;
  readonly hasWorkers: () => boolean;
  readonly say: (line: string) => void;
}

/** The runs of a long-lived coordinator: some in work, some in the queue, and those that are over, in their folders. */
export class RunService implements RunSource {
  private readonly options: ServiceOptions;
  private readonly queue: UnfinishedRun[];
  private readonly active = new Map<string, Execution>();
  /** States of runs that are over: they do not change. */
  private readonly over = new Map<string, RunState>();
  private cancelCheck: (() => void) | undefined;
  private isStopping = false;

  constructor(options: ServiceOptions) {
    this.options = options;
    this.queue = options.folder.unfinished();
    if (this.queue.length > 0) options.say(`${this.queue.length} runs are to be done or gone on with`);
  }

  /** Begins what may begin. */
  pump(): void {
    const { concurrentRuns, hasWorkers, clock } = this.options;
    this.cancelCheck?.();
    this.cancelCheck = undefined;
    if (this.isStopping || this.queue.length === 0) return;
    if (!hasWorkers()) {
      // A run that waits for workers for too long fails; one in the queue has time.
      this.cancelCheck = clock.after(WORKER_CHECK_MS, () => this.pump());
      return;
    }
    while (this.active.size < concurrentRuns) {
      const next = this.queue.shift();
      if (next === undefined) return;
      this.begin(next);
    }
  }

  /** Why no run can be taken in; null: one can. */
  get trouble(): string | null {
    return this.isStopping ? 'The coordinator is stopping: try again when it is back.' : null;
  }

  /**
   * Puts a run into the queue.
   * @throws AtelierError `usage` for a config that is none; HttpProblem when there is no place
   */
  submit({ config: settings, topology }: Submission): {
    name: string;
    status: RunState['status'];
    ahead: number;
  } {
    const { folder, maxQueued, say, clock } = this.options;
    if (this.trouble !== null) throw new HttpProblem(503, this.trouble, RETRY_AFTER_SECONDS);
    const config = { ...parseRunConfig(settings), workers: 0, slots: null };
    if (topology === null && !isPreset(config.model)) {
      throw new AtelierError(
        'usage',
        `--model ${config.model}: a network that is no preset comes with its topology`,
      );
    }
    if (this.queue.length >= maxQueued) {
      throw new HttpProblem(
        429,
        `${maxQueued} runs wait already. Try again later, cancel one (atelier cancel RUN), or start the coordinator with a larger --queue.`,
        RETRY_AFTER_SECONDS,
      );
    }
    const label = config.name ?? labelOf(config.model);
    const name = folder.add(label, config, topology, new Date(clock.now()));
    const ahead = this.queue.length;
    this.queue.push({ name, isBegun: false });
    say(`${name}: taken in`);
    this.pump();
    return { name, status: this.active.has(name) ? 'waiting' : 'queued', ahead };
  }

  /**
   * Ends a run before its time; it is not gone on with.
   * @throws HttpProblem 404, 409 when it is over already
   */
  cancel(name: string): void {
    const { folder, say } = this.options;
    const execution = this.active.get(name);
    const place = this.queue.findIndex((run) => run.name === name);
    if (execution !== undefined) execution.stop(new AtelierError('stopped', 'cancelled'), true);
    else if (place >= 0) {
      this.queue.splice(place, 1);
      folder.end(name, { status: 'stopped', reason: 'cancelled' });
    } else {
      const state = this.find(name)?.state();
      if (state === undefined) throw noSuchRun(name);
      throw new HttpProblem(409, `${name} is over: it ended as ${state.status}.`);
    }
    say(`${name}: cancelled`);
  }

  /**
   * Stops the runs in work with checkpoints; whoever opens the folder next goes on with them.
   * @returns how many are not over
   */
  async stop(): Promise<number> {
    this.isStopping = true;
    this.cancelCheck?.();
    const executions = [...this.active.values()];
    const stopped = new AtelierError('stopped', 'the coordinator stops');
    for (const execution of executions) execution.stop(stopped, false);
    await Promise.allSettled(executions.map(({ ended }) => ended));
    return this.options.folder.unfinished().length;
  }

  list(): RunView[] {
    const names = this.options.folder.names().slice(0, MAX_LISTED_RUNS);
    return names.map((name) => this.viewOf(name));
  }

  find(name: string): RunView | undefined {
    return this.options.folder.has(name) ? this.viewOf(name) : undefined;
  }

  private viewOf(name: string): RunView {
    const execution = this.active.get(name);
    if (execution !== undefined) return execution.view;
    const path = this.options.folder.pathOf(name);
    const isQueued = (): boolean => this.queue.some((run) => run.name === name);
    // Who follows a queued run sees it begin.
    if (isQueued())
      return { name, path, state: () => (isQueued() ? queuedState(name) : this.viewOf(name).state()) };
    return { name, path, state: () => this.stateOfOver(name, path) };
  }

  private stateOfOver(name: string, path: string): RunState {
    const known = this.over.get(name);
    if (known !== undefined) return known;
    const submission = this.options.folder.submission(name);
    const state = storedState(path, name, submission?.end);
    // A run of somebody else may still go on.
    if (submission !== null) this.over.set(name, state);
    const [oldest] = this.over.keys();
    if (this.over.size > MAX_LISTED_RUNS && oldest !== undefined) this.over.delete(oldest);
    return state;
  }

  private begin({ name, isBegun }: UnfinishedRun): void {
    const { folder, execute, say } = this.options;
    say(`${name}: ${isBegun ? 'goes on' : 'begins'}`);
    const execution = execute(folder.pathOf(name), isBegun);
    this.active.set(name, execution);
    execution.ended
      .catch((error: unknown): RunEnd => {
        const failure =
          error instanceof AtelierError ? error : new AtelierError('run-failed', messageOf(error));
        return { status: 'failed', error: failure };
      })
      .then(({ status, error }) => {
        this.active.delete(name);
        if (status === 'stopped' && this.isStopping) say(`${name}: stopped, to be gone on with`);
        else {
          const reason = error?.message ?? null;
          folder.end(name, { status, reason });
          say(`${name}: ${status}${reason === null ? '' : `: ${reason}`}`);
        }
        this.pump();
      })
      .catch((error: unknown) => say(`${name}: ${messageOf(error)}`));
  }
}

/** A word for the run's name, from its model. */
const labelOf = (model: string): string =>
  model
    .replace(/^.*[/\\]/, '')
    .replace(/\.json$/i, '')
    .replace(/[^A-Za-z0-9._-]/g, '_')
    .slice(0, 64) || 'model';
