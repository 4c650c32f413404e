/**
 * Arguments: port, workers. So many simulated workers of the coordinator there, until it sends them home; prints one line of JSON.
 */
import { SharedWork, SimulatedWorker } from './simulated-worker.js';

/** The coordinator lets 64 of one address in at a time. */
const AT_ONCE = 32;

/** What the workers of a cell say at its end. */
export interface WorkersReport {
  /** Of all sockets, from the upgrade to the end. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly heartbeats: number;
  readonly slowestHeartbeatMs: number;
}

const [port = 0, count = 0] = process.argv.slice(2).map(Number);
const work = new SharedWork();
const workers: SimulatedWorker[] = [];
while (workers.length < count) {
  const some = Array.from(
    { length: Math.min(AT_ONCE, count - workers.length) },
    (_, i) => new SimulatedWorker(port, `simulated-${workers.length + i}`, work),
  );
  for (const worker of some) {
    if (!(await worker.socket.opened)) throw new Error('the coordinator cannot be reached');
    worker.greet();
  }
  workers.push(...some);
}
await Promise.all(workers.map(({ closed }) => closed));
const heartbeats = workers.flatMap(({ heartbeatMs }) => heartbeatMs);
const sum = (of: (worker: SimulatedWorker) => number): number =>
  workers.reduce((total, worker) => total + of(worker), 0);
const report: WorkersReport = {
  receivedBytes: sum(({ socket }) => socket.received),
  sentBytes: sum(({ socket }) => socket.sent),
  heartbeats: heartbeats.length,
  slowestHeartbeatMs: Math.max(0, ...heartbeats),
};
process.stdout.write(`${JSON.stringify(report)}\n`);
