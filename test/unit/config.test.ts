import { describe, expect, test } from 'vitest';
import { AUGMENTATIONS, augmentationOf } from '../../shared/augmentation.js';
import { envOf, flagOf, parseRunConfig, RunConfig } from '../../shared/config.js';
import { atelierError } from '../support/errors.js';

describe('a run config', () => {
  test('has a default for every setting', () => {
    expect(Object.keys(parseRunConfig({})).sort()).toEqual(Object.keys(RunConfig.shape).sort());
  });

  test.each([
    ['model', '', '--model'],
    ['dataset', '', '--dataset'],
    ['epochs', 0, '--epochs'],
    ['epochs', 1.5, '--epochs'],
    ['epochs', 'many', '--epochs'],
    ['batchSize', 0, '--batch-size'],
    ['batchSize', -256, '--batch-size'],
    ['shards', 0, '--shards'],
    ['shards', 4_097, '--shards'],
    ['optimizer', 'rmsprop', '--optimizer'],
    ['learningRate', 0, '--learning-rate'],
    ['learningRate', -0.1, '--learning-rate'],
    ['learningRate', Number.NaN, '--learning-rate'],
    ['learningRate', Infinity, '--learning-rate'],
    ['momentum', 1, '--momentum'],
    ['l2', -1, '--l2'],
    ['validationRows', -1, '--validation-rows'],
    ['seed', -1, '--seed'],
    ['seed', 2 ** 53, '--seed'],
    ['name', '../up', '--name'],
    ['name', 'a'.repeat(65), '--name'],
    ['workers', -1, '--workers'],
    ['workers', 'some', '--workers'],
    ['minWorkers', 0, '--min-workers'],
    ['dataDir', '', '--data-dir'],
  ])('refuses %s = %j and names %s', (key, value, flag) => {
    expect(atelierError('usage', () => parseRunConfig({ [key]: value })).message).toContain(`${flag} `);
  });

  test('names every setting that is wrong', () => {
    const { message } = atelierError('usage', () => parseRunConfig({ epochs: 0, seed: -1 }));
    expect(message).toMatch(/--epochs 0[^]*--seed -1/);
  });

  test('refuses a batch that is not divisible by the shards, and says what would be', () => {
    const { message } = atelierError('usage', () => parseRunConfig({ batchSize: 100, shards: 8 }));
    expect(message).toBe('--batch-size 100 is not divisible by --shards 8: use 96 or 104');
  });

  test('does not advise a batch of no rows', () => {
    const { message } = atelierError('usage', () => parseRunConfig({ batchSize: 3, shards: 8 }));
    expect(message).toMatch(/use 8$/);
  });

  test('refuses a setting it does not know, and lists those it knows', () => {
    const { message } = atelierError('usage', () => parseRunConfig({ epoch: 3 }));
    expect(message).toMatch(/unknown setting epoch\b[^]*\bepochs\b/);
  });
});

describe('a preset', () => {
  test('fills in what is not given', () => {
    const config = parseRunConfig({ preset: 'best', seed: 3 });
    expect(config).toMatchObject({ preset: 'best', model: 'resnet', schedule: 'one-cycle', seed: 3 });
  });

  test('gives way to what is given', () => {
    const config = parseRunConfig({ preset: 'best', model: 'lenet', epochs: 2, augmentFlip: 0 });
    expect(config).toMatchObject({ model: 'lenet', epochs: 2, augmentFlip: 0, optimizer: 'adamw' });
  });

  test('leaves the augmentation to who names one', () => {
    expect(augmentationOf(parseRunConfig({ preset: 'best' }))).not.toBeNull();
    expect(augmentationOf(parseRunConfig({ preset: 'best', augment: 'none' }))).toBeNull();
    expect(augmentationOf(parseRunConfig({ preset: 'best', augment: 'study' }))).toEqual(AUGMENTATIONS.study);
  });

  test('comes out the same from the config that it made', () => {
    const config = parseRunConfig({ preset: 'best', epochs: 3 });
    expect(parseRunConfig(config)).toEqual(config);
    expect(augmentationOf(parseRunConfig(config))).toEqual(augmentationOf(config));
  });

  test('that is not there is refused', () => {
    expect(atelierError('usage', () => parseRunConfig({ preset: 'better' })).message).toMatch(
      /--preset "better"/,
    );
  });
});

test('a setting has one flag and one environment variable', () => {
  expect([flagOf('batchSize'), envOf('batchSize')]).toEqual(['--batch-size', 'ATELIER_BATCH_SIZE']);
});
