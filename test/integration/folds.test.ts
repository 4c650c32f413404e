import { expect, test } from 'vitest';
import { Client, partialOf, startCoordinator, type TestCoordinator } from '../support/coordinator.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const CLASSES = 3;

/** Answers every lease with made-up figures; what `isHopeless` names has a gradient that is not finite. */
async function compute(
  client: Client,
  coordinator: TestCoordinator,
  isHopeless: (trial: number) => boolean,
): Promise<void> {
  const rounds = new Map<number, Awaited<ReturnType<typeof client.next<'round'>>>['message']>();
  const takeRounds = async (): Promise<void> => {
    for (;;) {
      const { message } = await client.next('round');
      rounds.set(message.trial, message);
    }
  };
  void takeRounds();
  for (;;) {
    const next = await Promise.race([client.next('lease'), coordinator.run.ended]);
    if (!('message' in next)) return;
    const { run, trial, round: number, start, count } = next.message;
    await expect.poll(() => rounds.get(trial)?.round).toBe(number);
    const round = rounds.get(trial);
    if (round === undefined) throw new Error('a lease follows its round');
    if (round.work.kind === 'step') {
      const gradient = new Float32Array(coordinator.size).fill(isHopeless(trial) ? NaN : 0.01);
      const answer = partialOf(coordinator, round, { start, count });
      client.send(answer, new Uint8Array(gradient.buffer));
    } else {
      const rows = coordinator.plans[trial]?.validation.length ?? 0;
      const confusion = new Uint32Array(CLASSES ** 2);
      confusion[0] = rows;
      const figures = { rows, lossSum: 1, computeMs: 1, retries: 0 };
      const answer = { type: 'evaluated', run, trial, round: number, chunk: start, ...figures } as const;
      client.send(answer, new Uint8Array(confusion.buffer));
    }
  }
}

test('a fold that diverges is reported with its last finite weights, and the others finish', async () => {
  const coordinator = await startCoordinator(folder, {
    config: { folds: 3, epochs: 2, validationRows: 0 },
  });
  const client = await Client.enlist(coordinator.url);
  void compute(client, coordinator, (trial) => trial === 1);
  const { status, error } = await coordinator.run.ended;
  expect(status).toBe('failed');
  expect(error?.exitCode).toBe(3);
  const { trials, folds } = coordinator.run.summary();
  expect(trials.map((trial) => trial.status)).toEqual(['done', 'failed', 'done']);
  expect(trials[1]?.reason).toContain('not finite');
  expect(trials.map(({ epochs }) => epochs.length)).toEqual([2, 0, 2]);
  expect(folds?.n).toBe(2);
  const [, failed] = coordinator.run.weights;
  expect(failed?.weights.every((value) => Number.isFinite(value))).toBe(true);
});
