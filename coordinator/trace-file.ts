import { closeSync, openSync, writeSync } from 'node:fs';
import { AtelierError, messageOf } from '../shared/errors.js';

/** The most that a trace holds: about 60 MB, which viewers still open. */
export const MAX_TRACE_EVENTS = 500_000;
/** Events are written in pieces of about this size. */
const PIECE_CHARS = 256 * 1024;

/** What is shown beside a span. */
export type SpanDetails = Readonly<Record<string, string | number>>;

/** What became of a trace. */
export interface TraceEnd {
  readonly events: number;
  /** Spans that found no room. */
  readonly dropped: number;
  /** Why the file ends before the run; null when nothing went wrong. */
  readonly trouble: string | null;
}

/**
 * A file in Chrome's trace format, which ui.perfetto.dev and chrome://tracing open: `X` events (spans) on lanes, which `M` events
 * name. All times are milliseconds of one monotonic clock, and shown from the opening of the file on. A process that is killed
 * leaves a file without its last line, which the viewers open too.
 *
 * Source of the format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 */
export class TraceFile {
  private readonly maxEvents: number;
  private readonly openedAt: number;
  private readonly now: () => number;
  private file: number | null;
  private piece = '{"displayTimeUnit":"ms","traceEvents":[';
  private events = 0;
  private dropped = 0;
  private lanes = 0;
  private trouble: string | null = null;

  /** @throws AtelierError `usage` when the file cannot be written */
  constructor(
    path: string,
    { now, maxEvents = MAX_TRACE_EVENTS }: { now: () => number; maxEvents?: number },
  ) {
    try {
      this.file = openSync(path, 'w');
    } catch (cause) {
      throw new AtelierError('usage', `cannot write --trace ${path}: ${messageOf(cause)}`, { cause });
    }
    this.maxEvents = maxEvents;
    this.now = now;
    this.openedAt = now();
  }

  /** No more spans are taken. */
  get isFull(): boolean {
    return this.file === null || this.events >= this.maxEvents;
  }

  /** Names a process; they are shown by rising `pid`. */
  process(pid: number, name: string): void {
    this.name('process_name', pid, 0, { name });
    this.name('process_sort_index', pid, 0, { sort_index: pid });
  }

  /** A line of a process on which spans are drawn. */
  lane(pid: number, name: string): Lane {
    const tid = ++this.lanes;
    this.name('thread_name', pid, tid, { name });
    this.name('thread_sort_index', pid, tid, { sort_index: tid });
    return new Lane(this, pid, tid);
  }

  /** Called by lanes. Whole nanoseconds, so that what lies within another span does so in the file too. */
  span({ pid, tid }: Lane, name: string, from: number, to: number, details: SpanDetails): void {
    if (this.isFull) {
      this.dropped++;
      return;
    }
    const start = this.nanoseconds(from);
    const end = Math.max(start, this.nanoseconds(to));
    const times = `"ts":${start / 1e3},"dur":${(end - start) / 1e3}`;
    const rest = `"name":${JSON.stringify(name)},"args":${JSON.stringify(details)}`;
    this.write(`{"ph":"X","pid":${pid},"tid":${tid},${times},${rest}}`);
  }

  /** The file is whole; nothing is written any more. */
  close(): TraceEnd {
    const { events, dropped } = this;
    if (dropped > 0) {
      const name = `cut off after ${events} events, ${dropped} more came`;
      const at = this.nanoseconds(this.now()) / 1e3;
      this.write(`{"ph":"i","s":"g","pid":1,"tid":0,"ts":${at},"name":${JSON.stringify(name)}}`);
    }
    this.piece += '\n]}\n';
    this.flush();
    if (this.file !== null) closeSync(this.file);
    this.file = null;
    return { events, dropped, trouble: this.trouble };
  }

  /** Names are never left out: a span's lane has its name before the span comes. */
  private name(kind: string, pid: number, tid: number, args: SpanDetails): void {
    this.write(`{"ph":"M","pid":${pid},"tid":${tid},"name":"${kind}","args":${JSON.stringify(args)}}`);
  }

  private nanoseconds(at: number): number {
    return Math.max(0, Math.round((at - this.openedAt) * 1e6));
  }

  private write(event: string): void {
    this.piece += `${this.events++ === 0 ? '' : ','}\n${event}`;
    if (this.piece.length >= PIECE_CHARS) this.flush();
  }

  /** A full disk ends the trace, not the run. */
  private flush(): void {
    const { piece } = this;
    this.piece = '';
    if (this.file === null) return;
    try {
      writeSync(this.file, piece);
    } catch (error) {
      this.trouble = messageOf(error);
      closeSync(this.file);
      this.file = null;
    }
  }
}

/** One line of spans. */
export class Lane {
  private readonly file: TraceFile;
  readonly pid: number;
  readonly tid: number;
  private lastEnd = -Infinity;

  constructor(file: TraceFile, pid: number, tid: number) {
    this.file = file;
    this.pid = pid;
    this.tid = tid;
  }

  /** A span that lies within others of the lane, around them, or beside them. */
  span(name: string, from: number, to: number, details: SpanDetails = {}): void {
    this.file.span(this, name, from, to, details);
  }

  /** A span after the lane's last: what is said to begin before that has ended is shown from its end on. */
  next(name: string, from: number, to: number, details: SpanDetails = {}): void {
    const start = Math.max(from, this.lastEnd);
    this.lastEnd = Math.max(start, to);
    this.file.span(this, name, start, this.lastEnd, details);
  }
}
