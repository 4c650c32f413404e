import { expect, test } from 'vitest';
import type { ClusterFigures, WorkerFigures } from '../../coordinator/cluster-figures.js';
import { relayReport } from '../../relay/relay-report.js';
import type { WorkerReport } from '../../shared/protocol/messages.js';

const worker = (slots: number, report: Partial<WorkerReport> | null): WorkerFigures => ({
  ...{
    number: 0,
    name: 'w',
    state: 'ready',
    slots,
    silentMs: 0,
    owedUnits: 0,
    bufferedBytes: 0,
    address: null,
  },
  versions: { atelier: '0', node: 'v20', tensorflow: '2' },
  report: report && {
    ...{ tensors: 10, tensorBytes: 100, eventLoopLagMs: 99, busySlots: 1, busyRatio: 0.5 },
    ...{ rows: 5, rowsPerSecond: 7, residentBytes: 1e9, metrics: { port: 1, tls: false } },
    ...report,
  },
});
const figures = (...workers: WorkerFigures[]): ClusterFigures => ({
  ...{ workers, slots: { busy: 3, idle: 1 }, demand: 0, joins: 0, leaves: [] },
});
const own = { eventLoopLagMs: 2, residentBytes: 5e7, rows: 1_000 };

test('a relay reports the sums of its workers, and itself as the process that it is', () => {
  const all = figures(worker(1, {}), worker(3, { busyRatio: 0.9 }), worker(4, null));
  expect(relayReport(all, own)).toEqual({
    ...own,
    ...{ tensors: 20, tensorBytes: 200, busySlots: 3, rowsPerSecond: 14, metrics: null },
    busyRatio: expect.closeTo((0.5 + 3 * 0.9) / 4, 12) as number,
  });
});

test('a relay whose workers have said nothing yet reports nothing of them', () => {
  expect(relayReport(figures(worker(2, null)), own)).toMatchObject({ busyRatio: 0, rowsPerSecond: 0 });
});
