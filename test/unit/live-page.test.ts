import { describe, expect, test } from 'vitest';
import { EventStreamParser } from '../../coordinator/live/page/event-stream.js';
import { Curve, History, MAX_CURVE_POINTS, TIMELINE_MS } from '../../coordinator/live/page/history.js';
import {
  distinctWorkers,
  inOrder,
  type RunState,
  type WorkerFigures,
} from '../../coordinator/live/page/state.js';

describe('the parser of server-sent events', () => {
  const stream = ': hello\nretry: 100\n\nevent: run\ndata: {"a":\ndata: 1}\n\nid: 7\ndata:x\r\n\r\ndata\r\r';
  const events = [
    { event: 'run', data: '{"a":\n1}', id: '' },
    { event: 'message', data: 'x', id: '7' },
    { event: 'message', data: '', id: '7' },
  ];

  test('reads fields, comments and all three kinds of line ends', () => {
    expect(new EventStreamParser().push(`${stream}\n`)).toEqual(events);
  });

  test('gives the same however the stream is cut', () => {
    for (let size = 1; size < stream.length; size++) {
      const parser = new EventStreamParser();
      const pieces = Array.from({ length: Math.ceil(stream.length / size) }, (_, i) =>
        stream.slice(i * size, (i + 1) * size),
      );
      expect([...pieces, '\n'].flatMap((piece) => parser.push(piece))).toEqual(events);
    }
  });

  test('gives up an event that does not end', () => {
    const parser = new EventStreamParser();
    const line = `data: ${'x'.repeat(1_000_000)}\n`;
    expect(() => Array.from({ length: 9 }, () => parser.push(line))).toThrow('too long');
  });
});

test('the list of runs has those in work first, then the queue in its order, then what is over', () => {
  const names = ['3-done', '1-running', '4-queued', '2-failed', '5-queued', '6-waiting'];
  const runs = names.map((name) => ({ name, status: name.slice(2) as RunState['status'], progress: 0 }));
  expect(inOrder(runs).map(({ name }) => name)).toEqual([
    ...['6-waiting', '1-running'],
    ...['4-queued', '5-queued'],
    ...['3-done', '2-failed'],
  ]);
});

describe('a live curve', () => {
  test('stays bounded, in order, and has its first and newest point', () => {
    const curve = new Curve();
    let most = 0;
    for (let step = 0; step <= 100_000; step++) {
      curve.add(step / 1000, step);
      most = Math.max(most, curve.points.length);
    }
    expect(most).toBeLessThanOrEqual(MAX_CURVE_POINTS);
    const xs = curve.points.map(([x]) => x);
    expect(xs).toEqual([...xs].sort((a, b) => a - b));
    expect([curve.points[0], curve.points.at(-1)]).toEqual([
      [0, 0],
      [100, 100_000],
    ]);
    expect(curve.points.length).toBeGreaterThan(MAX_CURVE_POINTS / 4);
  });

  test('goes back with a run that was resumed', () => {
    const curve = new Curve();
    for (const x of [1, 2, 3, 4]) curve.add(x, 10 * x);
    curve.add(2.5, 7);
    expect(curve.points).toEqual([
      [1, 10],
      [2, 20],
      [2.5, 7],
    ]);
  });
});

describe('the history of slots', () => {
  const state = (workers: readonly Partial<WorkerFigures>[]): RunState =>
    ({
      trials: [],
      workers: workers.map((worker) => ({ name: 'a', slots: 2, state: 'ready', ...worker })),
    }) as unknown as RunState;

  test('is one stretch while nothing changes', () => {
    const history = new History();
    for (let now = 0; now <= 5_000; now += 500) history.add(state([{ busySlots: now < 2_000 ? 2 : 1 }]), now);
    expect(history.stretches.get('a')).toMatchObject([
      { from: 0, to: 2_000, busySlots: 2 },
      { from: 2_000, to: 5_000, busySlots: 1 },
    ]);
  });

  test('forgets what is too old to be shown, and workers of which nothing is left', () => {
    const history = new History();
    history.add(state([{ name: 'gone', busySlots: 1 }]), 0);
    for (let now = 500; now <= 2 * TIMELINE_MS; now += 500) {
      history.add(state([{ busySlots: (now / 500) % 3 }]), now);
    }
    expect([...history.stretches.keys()]).toEqual(['a']);
    const stretches = history.stretches.get('a') ?? [];
    expect(stretches.length).toBeLessThanOrEqual(TIMELINE_MS / 500 + 1);
    expect(stretches[0]?.to).toBeGreaterThan(TIMELINE_MS);
  });
});

test('a worker that was started again takes the place of the lost one of its name', () => {
  const worker = (number: number, name: string, state: WorkerFigures['state']): WorkerFigures => ({
    ...{ worker: number, name, host: 'here', state, slots: 1, busySlots: 0, leases: 0 },
    ...{ heartbeatAgeSeconds: 0, rowsPerSecond: 0 },
  });
  const shown = distinctWorkers([
    worker(3, 'b', 'ready'),
    worker(0, 'a', 'lost'),
    worker(1, 'b', 'ready'),
    worker(2, 'a', 'ready'),
    worker(4, 'c', 'lost'),
    worker(5, 'c', 'lost'),
  ]);
  expect(shown.map(({ name, worker: number }) => [name, number])).toEqual([
    ['a', 2],
    ['b', 1],
    ['b#3', 3],
    ['c', 5],
  ]);
});
