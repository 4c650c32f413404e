import { performance } from 'node:perf_hooks';
import type { TaskTiming } from '../shared/protocol/messages.js';
import { trialLabel } from './metrics/labels.js';
import type { Lane, SpanDetails, TraceEnd, TraceFile } from './trace-file.js';
import type { Round } from './trial.js';

/** Who a span is about. */
interface TracedWorker {
  readonly number: number;
  readonly name: string;
}

/** The processes of a trace; workers follow by their numbers. */
const COORDINATOR = 1;
const TRIALS = 2;
const SOCKETS = 3;
const FIRST_WORKER = 10;

/**
 * Where the time of a run goes, on the coordinator's monotonic clock (`performance.now()`): rounds of trials, what its one thread
 * does for them, frames on sockets, and tasks in the slots of workers. Clocks of hosts differ, so a worker says how long ago
 * a task ended when it sends the answer, and the task is placed as if the answer had come at once: the way of the answer
 * shows as a part of the way of the question.
 */
export class Trace {
  private readonly file: TraceFile;
  private readonly main: Lane;
  private readonly lanes = new Map<string, Lane>();
  private readonly workers = new Set<number>();

  constructor(file: TraceFile) {
    this.file = file;
    file.process(COORDINATOR, 'coordinator');
    file.process(TRIALS, 'trials');
    file.process(SOCKETS, 'sockets of the coordinator');
    this.main = file.lane(COORDINATOR, 'main thread');
  }

  now(): number {
    return performance.now();
  }

  /** The coordinator's thread did this from then until now, or until `to`. */
  did(name: string, from: number, details: SpanDetails = {}, to = this.now()): void {
    this.main.span(name, from, to, details);
  }

  /** A round is over. */
  round(fold: number | null, round: Round, openedAt: number): void {
    const what = round.kind === 'step' ? `step ${round.stepInEpoch + 1}` : `evaluate ${round.split}`;
    const details = { epoch: round.epoch + 1, round: round.round, units: round.units };
    this.lane(TRIALS, `trial ${trialLabel(fold)}`).next(what, openedAt, this.now(), details);
  }

  /**
   * A frame is given to a socket.
   * @returns to be called when the operating system has it
   */
  sending({ name, number }: TracedWorker, type: string, bytes: number): () => void {
    const from = this.now();
    const lane = this.lane(SOCKETS, `to ${name} (${number})`);
    return () => lane.next(type, from, this.now(), { bytes });
  }

  /** A frame whose head came at `from` is all there. */
  received({ name, number }: TracedWorker, type: string, bytes: number, from: number): void {
    this.lane(SOCKETS, `from ${name} (${number})`).next(type, from, this.now(), { bytes });
  }

  /** What an answer that came at `heardAt` says of the slots that computed it. */
  computed(
    { name, number }: TracedWorker,
    answer: { readonly type: string; readonly trial: number; readonly round: number },
    tasks: readonly TaskTiming[],
    heardAt: number,
  ): void {
    if (this.file.isFull) return;
    const pid = FIRST_WORKER + number;
    if (!this.workers.has(number)) {
      this.workers.add(number);
      this.file.process(pid, `worker ${name}`);
    }
    const { trial, round } = answer;
    for (const { slot, computeMs, endedMsAgo } of tasks) {
      const end = heardAt - endedMsAgo;
      this.lane(pid, `slot ${slot}`).next(answer.type, end - computeMs, end, { trial, round });
    }
  }

  close(): TraceEnd {
    return this.file.close();
  }

  private lane(pid: number, name: string): Lane {
    const key = `${pid} ${name}`;
    let lane = this.lanes.get(key);
    if (lane === undefined) {
      lane = this.file.lane(pid, name);
      this.lanes.set(key, lane);
    }
    return lane;
  }
}
