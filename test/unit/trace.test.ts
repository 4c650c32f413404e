import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Trace } from '../../coordinator/trace.js';
import { TraceFile } from '../../coordinator/trace-file.js';
import { atelierError } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { readTrace } from '../support/trace-rules.js';

const folder = temporaryFolder();
let files = 0;
const fresh = (): string => join(folder, `trace-${++files}.json`);

describe('a trace file', () => {
  test('holds its spans by the rules of the format, on named lanes', () => {
    const path = fresh();
    const file = new TraceFile(path, { now: () => 1_000 });
    file.process(1, 'a "quoted" process');
    const lane = file.lane(1, 'a lane');
    lane.span('inner', 1_000.25, 1_000.5);
    lane.span('outer', 1_000.1, 1_001, { rows: 3 });
    expect(file.close()).toEqual({ events: 6, dropped: 0, trouble: null });
    const place = { process: 'a "quoted" process', lane: 'a lane' };
    expect(readTrace(readFileSync(path, 'utf8'))).toEqual({
      spans: [
        { ...place, name: 'inner', start: 0.25, end: 0.5, args: {} },
        { ...place, name: 'outer', start: 0.1, end: 1, args: { rows: 3 } },
      ],
      marks: [],
    });
  });

  test('has no negative times, whatever it is told', () => {
    const path = fresh();
    const file = new TraceFile(path, { now: () => 1_000 });
    file.process(1, 'process');
    const lane = file.lane(1, 'lane');
    lane.span('before it was opened', 900, 1_001);
    lane.span('ends before it begins', 1_003, 1_002);
    file.close();
    const { spans } = readTrace(readFileSync(path, 'utf8'));
    expect(spans.map(({ start, end }) => [start, end])).toEqual([
      [0, 1],
      [3, 3],
    ]);
  });

  test('draws spans of a lane one after the other where clocks would have them overlap', () => {
    const path = fresh();
    const file = new TraceFile(path, { now: () => 0 });
    file.process(1, 'process');
    const lane = file.lane(1, 'lane');
    lane.next('first', 1, 4);
    lane.next('second', 3, 6);
    lane.next('third', 2, 5);
    file.close();
    const { spans } = readTrace(readFileSync(path, 'utf8'));
    expect(spans.map(({ start, end }) => [start, end])).toEqual([
      [1, 4],
      [4, 6],
      [6, 6],
    ]);
  });

  test('is cut off when it is full, and says so', () => {
    const path = fresh();
    const file = new TraceFile(path, { now: () => 0, maxEvents: 10 });
    file.process(1, 'process');
    const lane = file.lane(1, 'lane');
    for (let i = 0; i < 100; i++) lane.span(`span ${i}`, i, i + 1);
    expect(file.close()).toEqual({ events: 10, dropped: 94, trouble: null });
    const { spans, marks } = readTrace(readFileSync(path, 'utf8'));
    expect(spans).toHaveLength(6);
    expect(marks).toEqual(['cut off after 10 events, 94 more came']);
  });

  test('that cannot be written is refused before anything is trained', () => {
    const path = join(folder, 'no', 'such', 'folder.json');
    const error = atelierError('usage', () => new TraceFile(path, { now: () => 0 }));
    expect(error.message).toContain(`cannot write --trace ${path}`);
  });

  test.runIf(existsSync('/dev/full'))('on a full disk ends, and nothing else does', () => {
    const file = new TraceFile('/dev/full', { now: () => 0 });
    file.lane(1, 'lane').span('span', 0, 1);
    const { trouble } = file.close();
    expect(trouble).toMatch(/ENOSPC/);
  });
});

test("a worker's tasks are placed by when its answer came, whatever its clock says", () => {
  const path = fresh();
  const trace = new Trace(new TraceFile(path, { now: () => 0 }));
  const worker = { number: 0, name: 'far' };
  const answer = { type: 'partial', trial: 0, round: 7 };
  trace.computed(
    worker,
    answer,
    [
      { slot: 4, computeMs: 3, endedMsAgo: 2 },
      { slot: 5, computeMs: 4, endedMsAgo: 0.5 },
    ],
    10,
  );
  trace.computed(worker, answer, [{ slot: 4, computeMs: 3, endedMsAgo: 1 }], 11);
  trace.close();
  const { spans } = readTrace(readFileSync(path, 'utf8'));
  expect(spans.map(({ process, lane, start, end }) => [process, lane, start, end])).toEqual([
    ['worker far', 'slot 4', 5, 8],
    ['worker far', 'slot 5', 5.5, 9.5],
    // It cannot have begun before the one before had ended: its answer took longer than the other's.
    ['worker far', 'slot 4', 8, 10],
  ]);
});
