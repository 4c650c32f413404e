import { afterEach, expect, test } from 'vitest';
import { mutations } from './mutations.js';
import { simulate } from './simulate.js';

/** All of them: `npm run simulate -- --seeds 10000`. */
const SEEDS = 200;
/** A planted fault must be noticed within so many seeds. */
const MUTATION_SEEDS = 1_000;

let undo = (): void => undefined;
afterEach(() => undo());

test('whatever happens to workers, connections and coordinators, a run ends in the reference bits', async () => {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { problem } = await simulate(seed);
    expect(problem, `replay: npm run simulate -- --seed ${seed}`).toBeNull();
  }
});

test('the same seed is the same schedule', async () => {
  expect(await simulate(2)).toEqual(await simulate(2));
});

test.each(Object.keys(mutations))('notices the planted fault %s', async (name) => {
  undo = mutations[name]?.() ?? undo;
  let caughtBy: number | null = null;
  for (let seed = 1; seed <= MUTATION_SEEDS && caughtBy === null; seed++) {
    if ((await simulate(seed)).problem !== null) caughtBy = seed;
  }
  expect(caughtBy).not.toBeNull();
});
