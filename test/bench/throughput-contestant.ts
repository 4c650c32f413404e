/**
 * Arguments: model, batch, workers, slots of each, steps to warm up, `memory` or `sockets` (by which gradients go). Trains as
 * `atelier train` does, one micro-batch for each slot. Says `ready LOSS` (of the first steps) when it is warm, answers each line
 * `run STEPS` on stdin with `result ROWS SECONDS LOSS` (of the last steps), as peers/train_peer.py does, and ends with stdin. In between it
 * holds the training up, but for a step every HOLD_MS, so that its workers hear of it.
 */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { HEARTBEAT_TIMEOUT_MS } from '../../shared/protocol/limits.js';
import { StepWindow } from './step-window.js';
import { trainHere } from './train-here.js';

const HOLD_MS = HEARTBEAT_TIMEOUT_MS - 4_000;
/** Steps whose mean loss is said. */
const LOSSES = 10;
const END = -1;

const [model = '', ...rest] = process.argv.slice(2);
const [batchSize = 0, workers = 0, slots = 0, warm = 0] = rest.map(Number);
const sharedMemory = rest[4] !== 'sockets';

/** Steps to run, 0 for none, or END: this thread is held up while a training is, another one reads stdin. */
const command = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
const READER = `
const { readSync } = require('node:fs');
const command = require('node:worker_threads').workerData;
const buffer = Buffer.alloc(100);
for (let text = ''; ; ) {
  const bytes = readSync(0, buffer);
  text += buffer.toString('utf8', 0, bytes);
  const end = text.indexOf('\\n');
  if (bytes > 0 && end < 0) continue;
  Atomics.store(command, 0, bytes === 0 ? ${END} : Number(text.slice(0, end).split(' ')[1]));
  Atomics.notify(command, 0);
  if (bytes === 0) break;
  text = text.slice(end + 1);
}`;
new Worker(READER, { eval: true, workerData: command }).unref();

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

const losses: number[] = [];
let window: StepWindow | null = null;
let isOver = false;

/** Returns when there is something to run, or after HOLD_MS. */
function hold(): void {
  Atomics.wait(command, 0, 0, HOLD_MS);
  const steps = Atomics.exchange(command, 0, 0);
  isOver = steps === END;
  if (steps > 0) window = new StepWindow(steps);
}

await trainHere(
  {
    ...{ model, batchSize, workers, slots, shards: workers * slots, sharedMemory },
    ...{ epochs: 1_000, validationRows: 0, checkpointSteps: null },
  },
  {
    stepped: ({ stepLossSum, rowsInStep, stepInEpoch }) => {
      losses.push(stepLossSum / rowsInStep);
      if (losses.length < warm || isOver) return;
      if (losses.length === warm) writeSync(1, `ready ${mean(losses.slice(0, LOSSES))}\n`);
      window?.add({ now: performance.now(), rows: rowsInStep, isFirstOfEpoch: stepInEpoch === 0 });
      if (window?.complete === true) {
        writeSync(1, `result ${window.rows} ${window.seconds} ${mean(losses.slice(-LOSSES))}\n`);
        window = null;
      }
      if (window === null) hold();
    },
  },
  () => isOver,
);
