/**
 * Arguments: workers, ports. So many simulated workers of those who listen there, the first ones at the first port and so on, until they are
 * sent home; prints one line of JSON.
 */
import { SharedWork, SimulatedWorker } from './simulated-worker.js';

/** The coordinator lets 64 of one address in at a time. */
const AT_ONCE = 32;

/** What the workers of a cell say at its end. */
export interface WorkersReport {
  readonly heartbeats: number;
  readonly slowestHeartbeatMs: number;
}

const [count = 0, ...ports] = process.argv.slice(2).map(Number);
const work = new SharedWork();
const workers: SimulatedWorker[] = [];
const perPort = count / ports.length;
while (workers.length < count) {
  const some = Array.from({ length: Math.min(AT_ONCE, count - workers.length) }, (_, i) => {
    const number = workers.length + i;
    return new SimulatedWorker(ports[Math.floor(number / perPort)] ?? 0, `simulated-${number}`, work);
  });
  for (const worker of some) {
    if (!(await worker.socket.opened)) throw new Error('the coordinator cannot be reached');
    worker.greet();
  }
  workers.push(...some);
}
await Promise.all(workers.map(({ closed }) => closed));
const heartbeats = workers.flatMap(({ heartbeatMs }) => heartbeatMs);
const report: WorkersReport = {
  heartbeats: heartbeats.length,
  slowestHeartbeatMs: Math.max(0, ...heartbeats),
};
process.stdout.write(`${JSON.stringify(report)}\n`);
