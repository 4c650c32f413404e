import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { provideDataset, readVerified } from '../../setup/dataset.js';
import { Attempts, type Exclusively, type SetupTools } from '../../setup/tools.js';
import { inWorkspace } from '../../setup/workspace.js';
import { FASHION_MNIST } from '../../shared/dataset/fashion-mnist.js';
import { cachedDatasetDir } from '../../shared/paths.js';
import { atelierRejection } from '../support/errors.js';

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'atelier-setup-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const FORGET = (): void => undefined;
const TOOLS: SetupTools = {
  onExit: () => FORGET,
  step: (_title, action) => action(FORGET),
  say: FORGET,
  run: () => Promise.reject(new Error('nothing is run here')),
};
const IN_TURN: Exclusively = (action) => action();

/** The real files where a machine has them. */
const REAL = [cachedDatasetDir(process.env, FASHION_MNIST.name), FASHION_MNIST.debianFolder].find((folder) =>
  existsSync(folder),
);

describe('dataset files', () => {
  test('that are missing are named', () => {
    expect(() => readVerified(temporaryFolder())).toThrow(/train-images-idx3-ubyte is missing/);
  });

  test.each([
    ['plain', 'train-images-idx3-ubyte', Buffer.from('altered')],
    ['gzipped', 'train-images-idx3-ubyte.gz', gzipSync('altered')],
  ])('that were altered are refused with both SHA-256 (%s)', (_how, name, contents) => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, name), contents);
    expect(() => readVerified(folder)).toThrow(/SHA-256 [0-9a-f]{64}, not 47040016 with c59f468a/);
  });

  test('that are damaged archives are refused', () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'train-images-idx3-ubyte.gz'), gzipSync('cut off').subarray(0, 12));
    expect(() => readVerified(folder)).toThrow(/cannot read .*train-images-idx3-ubyte.gz/);
  });
});

describe('the folder that ATELIER_DATA_DIR names', () => {
  const provide = (env: NodeJS.ProcessEnv): Promise<void> => provideDataset(TOOLS, env, IN_TURN);

  test.skipIf(REAL === undefined)('is used as it is when its files are right', async () => {
    const cache = temporaryFolder();
    await provide({ ATELIER_DATA_DIR: REAL, ATELIER_CACHE_DIR: cache });
    expect(readdirSync(cache)).toEqual([]);
  });

  test('is not passed over silently when its files are not there', async () => {
    const folder = temporaryFolder();
    const error = await atelierRejection(
      'data',
      provide({ ATELIER_DATA_DIR: folder, ATELIER_CACHE_DIR: folder }),
    );
    expect(error.message).toContain(
      `ATELIER_DATA_DIR names ${folder}, but ${folder}/train-images-idx3-ubyte is missing`,
    );
    expect(error.exitCode).toBe(2);
    expect(readdirSync(folder)).toEqual([]);
  });
});

/** Debian's package of the real files, for those who ask for it where it is not installed. */
const withPackage = (real: string): SetupTools => ({
  ...TOOLS,
  run: (command, args, { cwd = '.' }) => {
    if (command === 'apt-get') writeFileSync(join(cwd, 'package.deb'), '');
    else cpSync(real, join(cwd, args.at(-1) ?? '', FASHION_MNIST.debianFolder), { recursive: true });
    return Promise.resolve({ code: 0, output: '' });
  },
});

describe('the dataset in the cache', () => {
  test.skipIf(REAL === undefined)('is made anew, whole, where a killed set-up left pieces', async () => {
    const cache = temporaryFolder();
    const env = { ATELIER_CACHE_DIR: cache };
    const folder = cachedDatasetDir(env, FASHION_MNIST.name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'train-images-idx3-ubyte'), 'cut off');
    mkdirSync(join(folder, '..', 'tmp-4711'));
    await provideDataset(withPackage(REAL ?? ''), env, IN_TURN);
    expect(readdirSync(join(folder, '..'))).toEqual([FASHION_MNIST.name]);
    expect(readVerified(folder).testLabels.byteLength).toBe(FASHION_MNIST.bytes.testLabels);
  });
});

describe('a workspace', () => {
  test('is gone afterwards, and so are those that killed set-ups left', async () => {
    const parent = temporaryFolder();
    mkdirSync(join(parent, 'tmp-4711'));
    writeFileSync(join(parent, 'kept'), '');
    const names = await inWorkspace(parent, TOOLS, () => Promise.resolve(readdirSync(parent).sort()));
    expect(names).toEqual(['kept', `tmp-${process.pid}`]);
    await expect(inWorkspace(parent, TOOLS, () => Promise.reject(new Error('broken')))).rejects.toThrow(
      'broken',
    );
    expect(readdirSync(parent)).toEqual(['kept']);
  });
});

describe('a failed set-up', () => {
  test('says what was tried, what each try answered, and what to do', () => {
    const attempts = new Attempts();
    attempts.failed('the first way', 'line 1\nline 2');
    attempts.failed('the second way', 'no route');
    const { message, exitCode } = attempts.error('data', 'it is not to be had', 'fetch it by hand.');
    expect(exitCode).toBe(2);
    expect(message).toBe(
      'it is not to be had. Tried:\n- the first way:\n    line 1\n    line 2\n- the second way:\n    no route\n' +
        'What you can do: fetch it by hand.',
    );
  });
});
