/** `npm run simulate -- [--seeds N] [--first N] [--seed N] [--mutate NAME]`: simulated clusters, one for each seed. */
import { parseArgs } from 'node:util';
import { performance } from 'node:perf_hooks';
import { mutations } from './mutations.js';
import { simulate } from './simulate.js';

const say = (text: string): boolean => process.stdout.write(`${text}\n`);

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1000' },
    first: { type: 'string', default: '1' },
    seed: { type: 'string' },
    mutate: { type: 'string' },
  },
});

const single = values.seed !== undefined;
const first = Number(values.seed ?? values.first);
const count = single ? 1 : Number(values.seeds);
if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count))
  throw new Error('--seed, --seeds and --first are integers');

let undo = (): void => undefined;
if (values.mutate !== undefined) {
  const mutate = mutations[values.mutate];
  if (mutate === undefined) throw new Error(`--mutate is one of ${Object.keys(mutations).join(', ')}`);
  undo = mutate();
}

const startedAt = performance.now();
const faults = new Map<string, number>();
const failed: number[] = [];
let simulatedMs = 0;
let happenings = 0;
let starved = 0;
for (let seed = first; seed < first + count; seed++) {
  const outcome = await simulate(seed);
  simulatedMs += outcome.simulatedMs;
  happenings += outcome.happenings;
  starved += outcome.starved;
  for (const [fault, times] of Object.entries(outcome.faults))
    faults.set(fault, (faults.get(fault) ?? 0) + times);
  if ((seed - first + 1) % 1_000 === 0) process.stderr.write(`${seed - first + 1} seeds\n`);
  if (single) say(outcome.log.join('\n'));
  if (outcome.problem === null) continue;
  failed.push(seed);
  say(`seed ${seed}: ${outcome.problem}\n  replay: npm run simulate -- --seed ${seed}`);
  if (values.mutate !== undefined) break;
}
undo();

const seconds = (performance.now() - startedAt) / 1000;
const total = [...faults.values()].reduce((sum, times) => sum + times, 0);
say(
  `${failed.length} of ${single ? 1 : count} seeds failed; ${total} faults, ${starved} runs resumed after they had too few ` +
    `workers, ${(simulatedMs / 3_600_000).toFixed(1)} simulated hours, ${happenings} happenings, ${seconds.toFixed(1)} s`,
);
say([...faults].map(([fault, times]) => `${fault} ${times}`).join(', '));
if (values.mutate !== undefined) {
  const caught = failed[0];
  say(
    caught === undefined
      ? `${values.mutate} was NOT caught`
      : `${values.mutate} was caught by seed ${caught}`,
  );
  process.exitCode = caught === undefined ? 1 : 0;
} else process.exitCode = failed.length === 0 ? 0 : 1;
