/**
 * Arguments: model, batch, workers, slots of each, steps to warm up, steps to time. Trains as `atelier train` does, one
 * micro-batch for each slot, and prints one line of JSON as peers/train_peer.py does.
 */
import { StepTimes } from './step-times.js';
import { trainHere } from './train-here.js';

const [model = '', ...numbers] = process.argv.slice(2);
const [batchSize = 0, workers = 0, slots = 0, warm = 0, steps = 0] = numbers.map(Number);
const times = new StepTimes(warm, steps);
await trainHere(
  {
    ...{ model, batchSize, workers, slots, shards: workers * slots },
    epochs: Math.ceil(((warm + steps) * batchSize) / 50_000) + 1,
    validationRows: 0,
    checkpointSteps: null,
  },
  { stepped: ({ stepLossSum, rowsInStep }) => times.add(performance.now(), stepLossSum / rowsInStep) },
  () => times.complete,
);
process.stdout.write(`${JSON.stringify(times.result())}\n`);
