import { z } from 'zod';

const id = z.int().min(0);
const microseconds = z.number().min(0);

const Span = z.strictObject({
  ph: z.literal('X'),
  ...{ pid: id, tid: id, ts: microseconds, dur: microseconds, name: z.string().min(1) },
  args: z.record(z.string(), z.union([z.string(), z.number()])),
});
const Name = z.strictObject({
  ph: z.literal('M'),
  ...{ pid: id, tid: id },
  name: z.enum(['process_name', 'process_sort_index', 'thread_name', 'thread_sort_index']),
  args: z.record(z.string(), z.union([z.string(), z.number()])),
});
const Mark = z.strictObject({
  ph: z.literal('i'),
  s: z.literal('g'),
  ...{ pid: id, tid: id, ts: microseconds, name: z.string().min(1) },
});
const TraceJson = z.strictObject({
  displayTimeUnit: z.enum(['ms', 'ns']),
  traceEvents: z.array(z.discriminatedUnion('ph', [Span, Name, Mark])),
});

export interface CheckedSpan {
  readonly process: string;
  readonly lane: string;
  readonly name: string;
  /** Milliseconds. */
  readonly start: number;
  readonly end: number;
  readonly args: Readonly<Record<string, string | number>>;
}

/**
 * Reads a trace by the format's own rules: it is JSON with the fields that `X`, `M` and `i` events have, nothing is negative, every
 * process and lane of a span is named exactly once, and two spans of a lane lie beside each other or one within the other.
 * @throws Error naming the event that breaks a rule
 */
export function readTrace(text: string): { spans: CheckedSpan[]; marks: string[] } {
  const { traceEvents } = TraceJson.parse(JSON.parse(text));
  const processes = new Map<number, string>();
  const lanes = new Map<string, string>();
  for (const event of traceEvents) {
    if (event.ph !== 'M') continue;
    const key = `${event.pid} ${event.tid}`;
    const name = String(event.args['name']);
    if (event.name === 'process_name') {
      if (processes.has(event.pid)) throw new Error(`process ${event.pid} has two names`);
      processes.set(event.pid, name);
    } else if (event.name === 'thread_name') {
      if (lanes.has(key)) throw new Error(`lane ${key} has two names`);
      lanes.set(key, name);
    }
  }
  const spans: CheckedSpan[] = [];
  const byLane = new Map<string, { start: number; end: number; name: string }[]>();
  for (const event of traceEvents) {
    if (event.ph !== 'X') continue;
    const key = `${event.pid} ${event.tid}`;
    const process = processes.get(event.pid);
    const lane = lanes.get(key);
    if (process === undefined || lane === undefined) throw new Error(`${key} of ${event.name} has no name`);
    // Nanoseconds: what was written is exact in them.
    const start = Math.round(event.ts * 1e3);
    const end = start + Math.round(event.dur * 1e3);
    spans.push({ process, lane, name: event.name, start: start / 1e6, end: end / 1e6, args: event.args });
    byLane.set(key, [...(byLane.get(key) ?? []), { start, end, name: event.name }]);
  }
  for (const [key, all] of byLane) checkNesting(`${key} (${lanes.get(key) ?? ''})`, all);
  const marks = traceEvents.filter((event) => event.ph === 'i').map(({ name }) => name);
  return { spans, marks };
}

function checkNesting(lane: string, spans: { start: number; end: number; name: string }[]): void {
  const around: { start: number; end: number; name: string }[] = [];
  for (const span of spans.sort((a, b) => a.start - b.start || b.end - a.end)) {
    while ((around.at(-1)?.end ?? Infinity) <= span.start) around.pop();
    const outer = around.at(-1);
    if (outer !== undefined && span.end > outer.end) {
      throw new Error(`lane ${lane}: ${span.name} at ${span.start} ns overlaps the end of ${outer.name}`);
    }
    around.push(span);
  }
}
