import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { IDX_FILES } from '../../shared/dataset/fashion-mnist.js';
import { findIdxFile, readMaybeGzipped } from '../../shared/dataset/idx.js';
import { locateDataset } from '../../shared/dataset/load.js';
import { Atelier, type Exit } from '../support/atelier.js';
import { madeUpRows, writeIdxFolder } from '../support/idx-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const good = join(folder, 'good');
const rows = (count: number): ReturnType<typeof madeUpRows> => madeUpRows(count, 28 * 28, 10);
const writeGood = (path: string): string => writeIdxFolder(path, [28, 28], rows(60), rows(20));

/** A command line that must be refused, and what the message must say. */
interface BadInput {
  readonly args: readonly string[];
  readonly message: RegExp;
}

const FLATTEN = { class_name: 'Flatten', config: { name: 'f', batch_input_shape: [null, 28, 28, 1] } };
const topologyOf = (units: number): object => ({
  class_name: 'Sequential',
  config: { layers: [FLATTEN, { class_name: 'Dense', config: { name: 'd', units, activation: 'softmax' } }] },
});

beforeAll(() => {
  writeGood(good);
  const write = (name: string, contents: string): void => writeFileSync(join(folder, name), contents);
  write('not-json.json', '<model/>');
  write('no-topology.json', '{"scripts": {}}');
  write('seven.json', JSON.stringify(topologyOf(7)));
  write('unknown.yaml', 'epoch: 3\n');

  const truncated = writeGood(join(folder, 'truncated'));
  const images = readMaybeGzipped(join(truncated, IDX_FILES.trainImages));
  writeFileSync(join(truncated, IDX_FILES.trainImages), images.subarray(0, -1));
  rmSync(join(writeGood(join(folder, 'missing')), IDX_FILES.testLabels));

  // The real files, but for one label.
  const altered = join(folder, 'altered');
  mkdirSync(altered);
  const real = locateDataset({ dataset: 'fashion-mnist', dataDir: null, env: process.env });
  for (const name of Object.values(IDX_FILES)) {
    const source = findIdxFile(real, name) ?? '';
    if (name !== IDX_FILES.testLabels) symlinkSync(source, join(altered, basename(source)));
  }
  const labels = readMaybeGzipped(findIdxFile(real, IDX_FILES.testLabels) ?? '');
  labels[1_000] = ((labels[1_000] ?? 0) + 1) % 10;
  writeFileSync(join(altered, IDX_FILES.testLabels), labels);
});

const at = (name: string): string => join(folder, name);
const dataset = (name: string): readonly string[] => ['--dataset', at(name)];
const model = (name: string): readonly string[] => [...dataset('good'), '--model', at(name)];

const BAD: Readonly<Record<string, BadInput>> = {
  'an unknown flag': { args: ['--epoch', '3'], message: /unknown option '--epoch'/ },
  'a flag without its value': { args: ['--epochs'], message: /--epochs/ },
  'an argument too many': { args: ['lenet'], message: /too many arguments/ },
  'an unknown setting': { args: ['--config', at('unknown.yaml')], message: /unknown setting epoch\b/ },
  'an unknown model': { args: [...dataset('good'), '--model', 'vgg'], message: /unknown model "vgg"/ },
  'an unknown dataset': { args: ['--dataset', 'mnist-1d'], message: /unknown dataset "mnist-1d"/ },
  'an unknown optimizer': { args: ['--optimizer', 'rmsprop'], message: /--optimizer "rmsprop"/ },
  'epochs that are no number': { args: ['--epochs', 'ten'], message: /--epochs "ten"/ },
  'a batch that is not divisible': { args: ['--batch-size', '100'], message: /--batch-size 100.*--shards 8/ },
  'an address that is none': { args: ['--listen', 'nowhere'], message: /--listen nowhere/ },
  'an open address without a token': { args: ['--listen', '0.0.0.0:0'], message: /--listen 0\.0\.0\.0:0/ },
  'a truncated data file': { args: dataset('truncated'), message: /train-images-idx3-ubyte.*truncated/ },
  'a missing data file': { args: dataset('missing'), message: /t10k-labels-idx1-ubyte/ },
  'an altered data file': {
    args: ['--data-dir', at('altered')],
    message: /t10k-labels-idx1-ubyte is not the file/,
  },
  'a topology that is not JSON': { args: model('not-json.json'), message: /not-json\.json is not JSON/ },
  'a topology that is none': { args: model('no-topology.json'), message: /no-topology\.json is not a model/ },
  'a topology that is not there': { args: model('absent.json'), message: /absent\.json/ },
  'a model of 7 classes': { args: model('seven.json'), message: /output is \[7\].*10 classes/ },
  'more validation rows than rows': {
    args: [...dataset('good'), '--validation-rows', '60'],
    message: /--validation-rows 60/,
  },
};

let runs = 0;
async function refused(args: readonly string[]): Promise<Exit> {
  // A working folder of its own: the default run directory would be made in it.
  const cwd = at(`cwd-${runs++}`);
  mkdirSync(cwd);
  const exit = await new Atelier(['train', '--model', 'lenet', ...args], {}, cwd).exit;
  expect(readdirSync(cwd)).toEqual([]);
  return exit;
}

describe('bad input', () => {
  test.concurrent.each(Object.entries(BAD))(
    '(%s) ends with 2, is named, and leaves nothing',
    async (_name, bad) => {
      const { code, stderr, stdout } = await refused(bad.args);
      expect(stderr).toMatch(bad.message);
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).not.toMatch(/^\s+at .*\.js:\d+/m);
    },
  );

  test('(a port that is taken) ends with 2, is named, and leaves nothing', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      server.close();
    });
    const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const { code, stderr } = await refused([
      ...dataset('good'),
      '--validation-rows',
      '0',
      '--listen',
      address,
    ]);
    expect(stderr).toContain(address);
    expect(code).toBe(2);
  });

  test('(a run directory that exists) ends with 2 and leaves it as it is', async () => {
    const run = at('existing');
    mkdirSync(run);
    const { code, stderr } = await refused([...dataset('good'), '--validation-rows', '0', '--run-dir', run]);
    expect(stderr).toContain(run);
    expect(code).toBe(2);
    expect(readdirSync(run)).toEqual([]);
  });

  test.each([
    ['no URL', ['--join', 'nowhere'], /--join nowhere/],
    ['nothing to join', [], /--join/],
    ['no slots', ['--join', 'ws://127.0.0.1:1', '--slots', '0'], /--slots 0/],
  ])('(a worker with %s) ends with 2', async (_name, args, message) => {
    const { code, stderr } = await new Atelier(['worker', ...args]).exit;
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
  });
});

test('the command without a subcommand says what there is and ends with 2', async () => {
  const { code, stderr } = await new Atelier([]).exit;
  expect(stderr).toContain('train');
  expect(code).toBe(2);
  expect(existsSync(join(folder, 'runs'))).toBe(false);
});
