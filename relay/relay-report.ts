import type { ClusterFigures } from '../coordinator/cluster-figures.js';
import type { WorkerReport } from '../shared/protocol/messages.js';

/** What a relay knows of itself. */
export interface OwnFigures {
  readonly eventLoopLagMs: number;
  readonly residentBytes: number;
  /** Training rows that it has handed on since it started. */
  readonly rows: number;
}

/** How a relay does: what its workers report, added up; socket thread and memory are its own. */
export function relayReport({ workers, slots }: ClusterFigures, own: OwnFigures): WorkerReport {
  const reports = workers.flatMap((worker) =>
    worker.report === null ? [] : [{ ...worker.report, slots: worker.slots }],
  );
  const sum = (of: (report: (typeof reports)[number]) => number): number =>
    reports.reduce((total, report) => total + of(report), 0);
  const reporting = sum((report) => report.slots);
  return {
    ...own,
    tensors: sum(({ tensors }) => tensors),
    tensorBytes: sum(({ tensorBytes }) => tensorBytes),
    busySlots: slots.busy,
    busyRatio:
      reporting === 0 ? 0 : Math.min(1, sum((report) => report.busyRatio * report.slots) / reporting),
    rowsPerSecond: sum(({ rowsPerSecond }) => rowsPerSecond),
    metrics: null,
  };
}
