import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Summary } from '../../shared/summary.js';
import { Atelier } from '../support/atelier.js';
import { writeSmallFashionMnist } from '../support/idx-folder.js';
import { readSummary } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const data = join(folder, 'data');
beforeAll(() => {
  writeSmallFashionMnist(data, 1_200, 200);
});

async function train(run: string, ...args: string[]): Promise<Summary> {
  const common = [
    'train',
    '--dataset',
    data,
    '--validation-rows',
    '200',
    '--quiet',
    '--run-dir',
    join(folder, run),
  ];
  const { code, stderr } = await new Atelier([...common, ...args]).exit;
  expect({ code, stderr }).toMatchObject({ code: 0 });
  return readSummary(join(folder, run));
}

describe('a run with every part of a recipe', () => {
  const recipe = (model: string): string[] =>
    `--model ${model} --epochs 2 --augment strong --label-smoothing 0.1 --optimizer adamw --schedule cosine
     --warmup-epochs 0.5 --clip-norm 1 --ema-decay 0.9 --select best --patience 1`.split(/\s+/);

  test.each(['lenet', 'resnet'])('ends in the same weights of %s on one worker and on two', async (model) => {
    const one = await train(`${model}-one`, ...recipe(model), '--workers', '1', '--slots', '2');
    const two = await train(`${model}-two`, ...recipe(model), '--workers', '2');
    expect(two.weightsSha256).toBe(one.weightsSha256);
    expect(two.trials[0]?.test).toEqual(one.trials[0]?.test);
    const [epoch] = one.trials[0]?.epochs ?? [];
    // The result is an average, no epoch's own weights.
    expect(one.weightsSha256).not.toBe(epoch?.weightsSha256);
  });

  test('exports the weights that it tested', async () => {
    const summary = await train('exported', ...recipe('resnet'), '--workers', '1');
    const script = fileURLToPath(new URL('../support/evaluate-exported-model.js', import.meta.url));
    const args = [script, join(folder, 'exported', 'model'), data];
    const answer = execFileSync(process.execPath, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const { rows, correct } = JSON.parse(answer) as { rows: number; correct: number };
    expect(correct / rows).toBe(summary.trials[0]?.test?.accuracy);
  });
});
