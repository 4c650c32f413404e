import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { addRunOptions, readToken, resolveRunConfig } from '../../cli/options.js';
import type { RunConfig } from '../../shared/config.js';
import { atelierError } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();

function fileOf(name: string, contents: string): string {
  const path = join(folder, name);
  writeFileSync(path, contents);
  return path;
}

function resolve(args: readonly string[], env: NodeJS.ProcessEnv = {}): RunConfig {
  const command = new Command().exitOverride();
  addRunOptions(command);
  command.parse(args, { from: 'user' });
  return resolveRunConfig(command.opts(), env);
}

describe('where a setting comes from', () => {
  const config = fileOf('config.yaml', 'epochs: 11\nseed: 11\n');
  const env = { ATELIER_EPOCHS: '12' };
  const set = ['--set', 'epochs=13'];
  const flag = ['--epochs', '14'];

  test.each([
    ['the default', [], {}, 5],
    ['the file over the default', ['--config', config], {}, 11],
    ['the environment over the file', ['--config', config], env, 12],
    ['--set over the environment', ['--config', config, ...set], env, 13],
    ['the flag over --set', ['--config', config, ...set, ...flag], env, 14],
  ])('%s', (_name, args, environment, epochs) => {
    expect(resolve(args, environment).epochs).toBe(epochs);
  });

  test('each setting on its own', () => {
    const { seed, epochs, shards } = resolve(['--config', config, ...flag], { ATELIER_SHARDS: '4' });
    expect({ seed, epochs, shards }).toEqual({ seed: 11, epochs: 14, shards: 4 });
  });

  test('the last of two --set', () => {
    expect(resolve(['--set', 'epochs=1', '--set', 'epochs=2']).epochs).toBe(2);
  });

  test('not an empty environment variable', () => {
    expect(resolve([], { ATELIER_EPOCHS: '' }).epochs).toBe(5);
  });
});

describe('a setting given as text', () => {
  test('becomes what the setting takes', () => {
    const { name, workers, l2, learningRate } = resolve(
      ['--name', '007', '--workers', 'auto', '--l2', '1e-3', '--learning-rate', '0.5'],
      {},
    );
    expect({ name, workers, l2, learningRate }).toEqual({
      name: '007',
      workers: 'auto',
      l2: 0.001,
      learningRate: 0.5,
    });
  });

  test('may take a setting back to null', () => {
    expect(resolve(['--set', 'l2=null'], { ATELIER_L2: '0.5' }).l2).toBeNull();
  });

  test.each([
    [['--epochs', 'ten'], '--epochs "ten"'],
    [['--epochs', ''], '--epochs ""'],
    [['--set', 'epochs=0'], '--epochs 0'],
    [['--set', 'epochs'], '--set epochs'],
    [['--set', 'colour=red'], 'unknown setting colour'],
  ])('%j is refused with a message that says %j', (args, part) => {
    expect(atelierError('usage', () => resolve(args)).message).toContain(part);
  });
});

describe('a config file', () => {
  test('may be JSON', () => {
    expect(resolve(['--config', fileOf('config.json', '{"batchSize": 64}')]).batchSize).toBe(64);
  });

  test.each([
    ['missing', join(folder, 'missing.yaml')],
    ['not YAML', fileOf('broken.yaml', 'epochs: [1')],
    ['a list', fileOf('list.yaml', '- epochs')],
    ['empty', fileOf('empty.yaml', '')],
  ])('that is %s is refused by name', (_name, path) => {
    expect(atelierError('usage', () => resolve(['--config', path])).message).toContain(`--config ${path}`);
  });

  test('with an unknown setting is refused', () => {
    const path = fileOf('unknown.yaml', 'epoch: 3');
    expect(atelierError('usage', () => resolve(['--config', path])).message).toContain(
      'unknown setting epoch',
    );
  });
});

describe('the token', () => {
  const token = 'x'.repeat(32);

  test('comes from the file rather than the environment', () => {
    expect(readToken(fileOf('token', `${token}\n`), { ATELIER_TOKEN: 'y'.repeat(32) })).toBe(token);
  });

  test('comes from the environment without a file', () => {
    expect(readToken(undefined, { ATELIER_TOKEN: token })).toBe(token);
  });

  test('is none when nothing is given', () => {
    expect(readToken(undefined, {})).toBeNull();
  });

  test('is none when the environment variable is empty', () => {
    expect(readToken(undefined, { ATELIER_TOKEN: '' })).toBeNull();
  });

  test.each([
    ['too short', 'short'],
    ['empty', ''],
    ['of several words', `${token} ${token}`],
  ])('that is %s is refused', (name, text) => {
    const path = fileOf(`token-${name.replaceAll(' ', '-')}`, text);
    expect(atelierError('usage', () => readToken(path, {})).message).toContain(`--token-file ${path}`);
  });

  test('in a file that is not there is refused', () => {
    const path = join(folder, 'no-token');
    expect(atelierError('usage', () => readToken(path, {})).message).toContain(path);
  });
});
