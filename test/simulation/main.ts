/** `npm run simulate -- --help`: simulated clusters, one for each seed. */
import { performance } from 'node:perf_hooks';
import { Command, Option } from 'commander';
import { integer } from '../support/integer.js';
import { mutations } from './mutations.js';
import { simulate } from './simulate.js';

const say = (text: string): boolean => process.stdout.write(`${text}\n`);

const values = new Command('simulate')
  .description('Trains on simulated clusters with faults, one for each seed, and compares the weights.')
  .addOption(new Option('--seeds <n>', 'how many').argParser(integer).default(10_000))
  .addOption(new Option('--first <seed>', 'the first of them').argParser(integer).default(1))
  .addOption(new Option('--seed <seed>', 'this one alone, with all that happens').argParser(integer))
  .addOption(
    new Option('--mutate <bug>', 'plants a bug, which has to be found').choices(Object.keys(mutations)),
  )
  .parse()
  .opts<{ seeds: number; first: number; seed?: number; mutate?: string }>();

const single = values.seed !== undefined;
const first = values.seed ?? values.first;
const count = single ? 1 : values.seeds;

let undo = (): void => undefined;
if (values.mutate !== undefined) undo = mutations[values.mutate]?.() ?? undo;

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
