import { AtelierError } from '../../shared/errors.js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { referenceWeightsSha256 } from '../bench/scale/reference.js';
import { settingsOf } from '../bench/scale/settings.js';
import { SharedWork, SimulatedWorker } from '../bench/scale/simulated-worker.js';
import { startMeasuredCoordinator, type MeasuredCoordinator } from '../support/measured-run.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const WORKERS = 5;
const STEPS = 4;
const ENOUGH = new AtelierError('stopped', 'enough');

let coordinator: MeasuredCoordinator;
let expected: string;
beforeAll(async () => {
  coordinator = await startMeasuredCoordinator(temporaryFolder());
  expected = await referenceWeightsSha256('lenet', WORKERS, STEPS);
}, 60_000);
afterAll(() => coordinator.close());

/** Trains lenet, whose gradients are large frames, on workers that make them up. */
async function train(
  name: string,
  onStep: (step: number, workers: readonly SimulatedWorker[]) => void,
): Promise<string> {
  const work = new SharedWork();
  const workers: SimulatedWorker[] = [];
  const port = Number(new URL(coordinator.url).port);
  const join = async (): Promise<void> => {
    const worker = new SimulatedWorker(port, `${name}-${workers.length}`, work);
    workers.push(worker);
    if (await worker.socket.opened) worker.greet();
  };
  let steps = 0;
  const run = await coordinator.start(name, settingsOf('lenet', WORKERS), {
    minWorkers: WORKERS,
    observer: {
      stepped: () => {
        onStep(++steps, workers);
        if (steps === STEPS) run.stop(ENOUGH);
      },
      // Another takes its place.
      workerLeft: () => void join(),
    },
  });
  for (let i = 0; i < WORKERS; i++) await join();
  await run.ended;
  for (const { socket } of workers) socket.close();
  return run.weightsSha256;
}

describe('gradients that are received where they are added', () => {
  test('give the weights of a plain loop', { timeout: 60_000 }, async () => {
    expect(await train('whole', () => undefined)).toBe(expected);
  });

  test('give them too when a connection ends in the middle of one', { timeout: 60_000 }, async () => {
    const hash = await train('broken', (step, workers) => {
      const victim = workers[step];
      if (step <= 2 && victim !== undefined) victim.breaksOff = true;
    });
    expect(hash).toBe(expected);
    expect(coordinator.cluster.counts.workersLost).toBeGreaterThanOrEqual(2);
  });
});
