/** `npm run bench -- checkpoints`: what a checkpoint every 50 steps costs, side by side with none in an epoch. */
import type { Summary } from '../../shared/summary.js';
import { circumstances, publish } from './results.js';
import { median, trainHere } from './train-here.js';

const ROUNDS = 5;
const EVERY = 50;
const MODELS = { lenet: 3 } as const;

const rows: string[] = [];
let tensorflow = '';
for (const [model, epochs] of Object.entries(MODELS)) {
  const rates: Record<'without' | 'with', number[]> = { without: [], with: [] };
  const hashes = new Set<string>();
  for (let round = 0; round < ROUNDS; round++) {
    // Alternating, and the other one first in every second round.
    const order = round % 2 === 0 ? (['without', 'with'] as const) : (['with', 'without'] as const);
    for (const which of order) {
      const checkpointSteps = which === 'with' ? EVERY : null;
      const summary: Summary = await trainHere({
        model,
        epochs,
        seed: 7,
        validationRows: 0,
        checkpointSteps,
      });
      rates[which].push(summary.throughput.imagesPerSecond);
      hashes.add(summary.weightsSha256);
      tensorflow = summary.workers[0]?.tensorflow ?? tensorflow;
    }
  }
  if (hashes.size !== 1) throw new Error('checkpoints changed the weights');
  const [without, with_] = [median(rates.without), median(rates.with)];
  const pairs = rates.with.map((rate, i) => 100 * (1 - rate / (rates.without[i] ?? NaN)));
  const images = (rate: number): string => Math.round(rate).toLocaleString('en-US');
  rows.push(
    `| ${model} | ${images(without)} | ${images(with_)} | ${(100 * (1 - with_ / without)).toFixed(1)} % | ` +
      `${median(pairs).toFixed(1)} % |`,
  );
}
publish(
  'checkpoints',
  `# A checkpoint every ${EVERY} steps

${circumstances(tensorflow)}
- Whole training, two workers of one slot, batch 256; ${ROUNDS} rounds, alternating, medians.

| model | images/s without | images/s with | cost (of medians) | cost (median of pairs) |
|---|---|---|---|---|
${rows.join('\n')}
`,
);
