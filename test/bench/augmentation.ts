/**
 * `npm run bench -- augmentation`: what augmenting the rows costs a step, one slot, contestants alternating, medians.
 */
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../shared/version.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { tensorflowSettings } from '../../worker/tensorflow-settings.js';
import { Contestant } from './contestant.js';
import { circumstances, publish } from './results.js';

const MODELS = ['lenet', 'cnn'] as const;
const AUGMENTATIONS = ['none', 'study', 'strong'] as const;
/** The micro-batch of the defaults: 256 rows in 8 shards. */
const ROWS = 32;
const ROUNDS = 15;
const SECONDS = 1;

const contestantFile = join(PROJECT_ROOT, 'dist', 'test', 'bench', 'step-contestant.js');

/** Images/s of each augmentation. */
async function rates(model: string): Promise<number[]> {
  const field = AUGMENTATIONS.map(
    (augment) =>
      new Contestant(
        augment,
        process.execPath,
        [contestantFile, 'compiled', model, String(ROWS), '1', augment],
        tensorflowSettings(1, process.env),
      ),
  );
  const losses = await Promise.all(field.map((contestant) => contestant.ready()));
  if (new Set(losses).size !== field.length) throw new Error(`${model}: a batch was not augmented`);
  for (const contestant of field) await contestant.measure(SECONDS);
  for (const contestant of field) contestant.rates.length = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (const contestant of field) await contestant.measure(SECONDS);
  }
  await Promise.all(field.map((contestant) => contestant.end()));
  return field.map(({ median }) => median);
}

const pool = new ComputePool(1);
const { tensorflow } = await pool.warmUp();
await pool.close();
const head = circumstances(tensorflow);
const lines: string[] = [];
for (const model of MODELS) {
  const [none = Number.NaN, ...augmented] = await rates(model);
  const cells = augmented.map((rate) => `${Math.round(rate)} (${((none / rate - 1) * 100).toFixed(1)} %)`);
  lines.push(`| ${model} | ${Math.round(none)} | ${cells.join(' | ')} |`);
}
publish(
  'augmentation',
  `# Augmentation inside the step, images/s

${head}
- One slot with one thread, micro-batches of ${ROWS}, ${ROUNDS} rounds of ${SECONDS} s each, alternating, medians.
- In brackets: how much longer a step takes than without.

| model | none | study | strong |
|---|---|---|---|
${lines.join('\n')}
`,
);
