/**
 * Arguments: model, batch, workers, slots of each, steps to warm up, steps to time, `memory` or `sockets` (by which
 * gradients go). Trains as `atelier train` does, one
 * micro-batch for each slot, and prints one line of JSON as peers/train_peer.py does.
 */
import { StepTimes } from './step-times.js';
import { trainHere } from './train-here.js';

const [model = '', ...rest] = process.argv.slice(2);
const [batchSize = 0, workers = 0, slots = 0, warm = 0, steps = 0] = rest.map(Number);
const sharedMemory = rest[5] !== 'sockets';
const times = new StepTimes(warm, steps);
await trainHere(
  {
    ...{ model, batchSize, workers, slots, shards: workers * slots, sharedMemory },
    epochs: Math.ceil(((warm + steps) * batchSize) / 50_000) + 1,
    validationRows: 0,
    checkpointSteps: null,
  },
  { stepped: ({ stepLossSum, rowsInStep }) => times.add(performance.now(), stepLossSum / rowsInStep) },
  () => times.complete,
);
process.stdout.write(`${JSON.stringify(times.result())}\n`);
