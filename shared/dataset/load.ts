import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { AtelierError } from '../errors.js';
import { cachedDatasetDir } from '../paths.js';
import type { DatasetInfo } from '../protocol/messages.js';
import { FASHION_MNIST, IDX_FILES, type IdxFile } from './fashion-mnist.js';
import { findIdxFile, parseIdx, readMaybeGzipped, type IdxArray } from './idx.js';

/** All rows of a dataset: training rows first, then test rows. The arrays are on shared memory. */
export interface Dataset {
  readonly info: DatasetInfo;
  /** Folder it was read from. */
  readonly folder: string;
  /** (trainRows + testRows) x height x width x channels, unsigned bytes. */
  readonly images: Uint8Array;
  /** One class number a row. */
  readonly labels: Uint8Array;
}

const MAX_CLASSES = 256;
const CLASS_NAMES_FILE = 'class-names.txt';

export interface DatasetSource {
  /** `fashion-mnist`, or a folder with four IDX files of the same names. */
  readonly dataset: string;
  /** Where a named dataset's files are; else the cache and the Debian package's folder are looked at. */
  readonly dataDir: string | null;
  readonly env: NodeJS.ProcessEnv;
}

const isFolder = (path: string): boolean => existsSync(path) && statSync(path).isDirectory();

/** The folders where a dataset may be, in order. */
function candidateFolders({ dataset, dataDir, env }: DatasetSource): string[] {
  if (dataset !== FASHION_MNIST.name) return [dataset];
  if (dataDir !== null) return [dataDir];
  return [cachedDatasetDir(env, FASHION_MNIST.name), FASHION_MNIST.debianFolder];
}

/** Are all four files of the dataset on this disk? */
export function hasDataset(source: DatasetSource): boolean {
  return candidateFolders(source).some((folder) => missingFiles(folder).length === 0);
}

const missingFiles = (folder: string): string[] =>
  Object.values(IDX_FILES).filter((name) => findIdxFile(folder, name) === undefined);

/**
 * The folder that holds all four files of a dataset.
 * @throws AtelierError `usage` (no such dataset), `data` (files are missing)
 */
export function locateDataset(source: DatasetSource): string {
  const { dataset } = source;
  if (dataset !== FASHION_MNIST.name && !isFolder(dataset)) {
    throw new AtelierError(
      'usage',
      `unknown dataset "${dataset}": use ${FASHION_MNIST.name}, or a folder with the files ` +
        `${Object.values(IDX_FILES).join(', ')} (plain or .gz)`,
    );
  }
  const tried: string[] = [];
  for (const folder of candidateFolders(source)) {
    const missing = missingFiles(folder);
    if (missing.length === 0) return folder;
    tried.push(`${folder}: no ${missing.join(', ')}`);
  }
  throw new AtelierError(
    'data',
    `the dataset ${dataset} is not complete:\n  ${tried.join('\n  ')}\n` +
      `Run "npm run setup" to fetch it, or name its folder with --data-dir.`,
  );
}

/**
 * Loads and checks a dataset. A named one must have the pinned SHA-256.
 * @throws AtelierError `usage`, `data`
 */
export function loadDataset(source: DatasetSource): Dataset {
  const folder = locateDataset(source);
  const digests: string[] = [];
  const read = (file: IdxFile): IdxArray => {
    const path = findIdxFile(folder, IDX_FILES[file]) ?? join(folder, IDX_FILES[file]);
    const bytes = readMaybeGzipped(path);
    const array = parseIdx(bytes, path);
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (source.dataset === FASHION_MNIST.name && digest !== FASHION_MNIST.sha256[file]) {
      throw new AtelierError(
        'data',
        `${path} is not the file it should be (SHA-256 ${digest}, expected ${FASHION_MNIST.sha256[file]}): ` +
          `delete it and run "npm run setup"`,
      );
    }
    digests.push(digest);
    return array;
  };
  const train = joined(read('trainImages'), read('trainLabels'), folder, 'training');
  const test = joined(read('testImages'), read('testLabels'), folder, 'test');
  if (train.imageShape.join() !== test.imageShape.join()) {
    throw new AtelierError('data', `${folder}: training and test images differ in shape`);
  }
  const images = shared(train.images, test.images);
  const labels = shared(train.labels, test.labels);
  return {
    folder,
    images,
    labels,
    info: {
      name: basename(source.dataset),
      sha256: createHash('sha256').update(digests.join('')).digest('hex'),
      trainRows: train.labels.length,
      testRows: test.labels.length,
      imageShape: train.imageShape,
      classNames: classNames(source.dataset, folder, labels),
    },
  };
}

interface Part {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  readonly imageShape: [number, number, number];
}

function joined(images: IdxArray, labels: IdxArray, folder: string, what: string): Part {
  const [rows = 0, height, width, channels = 1] = images.dims;
  if (height === undefined || width === undefined || images.dims.length > 4 || rows === 0) {
    throw new AtelierError('data', `${folder}: ${what} images have dimensions [${images.dims.join(', ')}]`);
  }
  if (labels.dims.length !== 1 || labels.dims[0] !== rows) {
    throw new AtelierError(
      'data',
      `${folder}: ${rows} ${what} images but labels of [${labels.dims.join(', ')}]: they do not belong together`,
    );
  }
  return { images: images.values, labels: labels.values, imageShape: [height, width, channels] };
}

function shared(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(new SharedArrayBuffer(first.byteLength + second.byteLength));
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}

/** Known names, else the lines of `class-names.txt` in the folder, else the numbers. */
function classNames(dataset: string, folder: string, labels: Uint8Array): string[] {
  const classes = labels.reduce((most, label) => Math.max(most, label + 1), 0);
  if (classes < 2 || classes > MAX_CLASSES) {
    throw new AtelierError('data', `${folder}: ${classes} classes; a classifier needs 2 to ${MAX_CLASSES}`);
  }
  if (dataset === FASHION_MNIST.name) return [...FASHION_MNIST.classNames];
  const path = join(folder, CLASS_NAMES_FILE);
  if (!existsSync(path)) return Array.from({ length: classes }, (_, i) => String(i));
  const names = readFileSync(path, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean);
  if (names.length !== classes) {
    throw new AtelierError('data', `${path} has ${names.length} names, the labels have ${classes} classes`);
  }
  return names;
}
