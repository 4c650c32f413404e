/**
 * `npm run bench -- folds`: five folds at once against one after the other and against the floor, in one sitting, and
 * whether each fold's weights are the same however it was run.
 */
import type { RunConfig } from '../../shared/config.js';
import type { Summary } from '../../shared/summary.js';
import { circumstances, publish } from './results.js';
import { median, trainHere } from './train-here.js';

const ROUNDS = 2;
const BASE = { model: 'lenet', folds: 5, epochs: 2, seed: 7 } as const;
const WAYS: Record<string, Partial<RunConfig>> = {
  'all at once, 2 workers x 1 slot': { workers: 2, slots: 1 },
  'all at once, 1 worker x 2 slots': { workers: 1, slots: 2 },
  'one after the other, 2 workers x 1 slot': { workers: 2, slots: 1, foldConcurrency: 1 },
  'one after the other, 1 worker x 2 slots': { workers: 1, slots: 2, foldConcurrency: 1 },
};

const measured = new Map<string, { summary: Summary; seconds: number }[]>();
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, cluster] of Object.entries(WAYS)) {
    let startedAt = 0;
    let endedAt = 0;
    const summary = await trainHere(
      { ...BASE, ...cluster },
      { started: () => (startedAt = Date.now()), trialEnded: () => (endedAt = Date.now()) },
    );
    const seconds = (endedAt - startedAt) / 1000;
    measured.set(name, [...(measured.get(name) ?? []), { summary, seconds }]);
  }
}
const hashes = new Set(
  [...measured.values()]
    .flat()
    .map(({ summary }) => summary.trials.map((trial) => trial.weightsSha256).join()),
);
const rows = [...measured].map(([name, runs]) => {
  const utilization = median(runs.map(({ summary }) => summary.throughput.slotUtilization));
  const seconds = median(runs.map((run) => run.seconds));
  const floors = runs.map((run) => run.seconds * run.summary.throughput.slotUtilization);
  const rate = median(runs.map(({ summary }) => summary.throughput.imagesPerSecond));
  return (
    `| ${name} | ${seconds.toFixed(1)} | ${median(floors).toFixed(1)} | ${(seconds / median(floors)).toFixed(3)} | ` +
    `${utilization.toFixed(3)} | ${Math.round(rate).toLocaleString('en-US')} |`
  );
});
const first = [...measured.values()][0]?.[0]?.summary;
publish(
  'folds',
  `# Five folds

${circumstances(first?.workers[0]?.tensorflow ?? '')}
- lenet, 5 folds, 2 epochs, batch 256, two slots; ${ROUNDS} rounds, alternating, medians.
- Floor: compute time of all tasks over the slots. Utilization: compute time over slots x wall time.

| | seconds | floor | seconds / floor | utilization | images/s |
|---|---|---|---|---|---|
${rows.join('\n')}

Each fold's weights are ${hashes.size === 1 ? 'the same in all of them' : 'DIFFERENT'}.
`,
);
if (hashes.size !== 1) process.exitCode = 1;
