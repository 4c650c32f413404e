/** `npm run simulate -- [--seeds N] [--seed N] [--mutate NAME]`. */
import { parseArgs } from 'node:util';
import { mutations, plant } from './mutations.js';
import { simulate } from './world.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    seed: { type: 'string' },
    mutate: { type: 'string' },
  },
});
if (values.mutate !== undefined) {
  if (!(values.mutate in mutations)) {
    process.stderr.write(`--mutate: one of ${Object.keys(mutations).join(', ')}\n`);
    process.exit(2);
  }
  plant(values.mutate as keyof typeof mutations);
}
const first = values.seed === undefined ? 0 : Number(values.seed);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const startedAt = Date.now();
let faults = 0;
let failed = 0;
let simulatedMs = 0;
for (let seed = first; seed < first + count; seed++) {
  const outcome = await simulate(seed);
  faults += outcome.faults.length;
  simulatedMs += outcome.simulatedMs;
  if (outcome.problems.length > 0) {
    failed++;
    process.stdout.write(
      `seed ${seed} fails: ${outcome.problems.join('; ')}\n  faults: ${outcome.faults.join(', ')}\n` +
        `  replay: npm run simulate -- --seed ${seed}\n`,
    );
    if (values.mutate !== undefined || failed >= 5) break;
  }
  if (count > 1 && (seed + 1) % 1_000 === 0) {
    process.stdout.write(
      `${seed + 1} seeds, ${faults} faults, ${failed} failed, ${(Date.now() - startedAt) / 1000} s\n`,
    );
  }
}
process.stdout.write(
  `${count} seeds: ${failed} failed, ${faults} faults in ${(simulatedMs / 1000).toFixed(0)} simulated s, ${(Date.now() - startedAt) / 1000} s\n`,
);
process.exitCode = failed > 0 ? 1 : 0;
