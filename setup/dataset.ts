import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FASHION_MNIST, IDX_FILES, type IdxFile } from '../shared/dataset/fashion-mnist.js';
import { findIdxFile, readMaybeGzipped } from '../shared/dataset/idx.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import { cachedDatasetDir } from '../shared/paths.js';
import { Attempts, type SetupTools } from './tools.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** A download that brings nothing for this long is given up. */
const STALL_TIMEOUT_MS = 20_000;
const APT_TIMEOUT_MS = 2 * 60_000;
/** The largest of the four gzipped files is 26 MB. */
const MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024;

const FILES = Object.keys(IDX_FILES) as IdxFile[];

type Exclusively = <Result>(action: () => Promise<Result>) => Promise<Result>;
type Contents = Record<IdxFile, Buffer>;

/**
 * Puts Fashion-MNIST into the cache, from Debian's package, the official download or `apt-get download`, whichever
 * works first. With `ATELIER_DATA_DIR` the files there are checked and used as they are.
 * @throws AtelierError `data`
 */
export async function provideDataset(
  tools: SetupTools,
  env: NodeJS.ProcessEnv,
  exclusively: Exclusively,
): Promise<void> {
  const own = env['ATELIER_DATA_DIR'];
  if (own !== undefined && own !== '') {
    readVerified(own);
    return;
  }
  const cached = cachedDatasetDir(env, FASHION_MNIST.name);
  const isThere = (): boolean =>
    FILES.every((file) => {
      const path = join(cached, IDX_FILES[file]);
      return existsSync(path) && statSync(path).size === FASHION_MNIST.bytes[file];
    });
  if (isThere()) return;
  await exclusively(async () => {
    if (isThere()) return;
    const temporary = `${cached}.tmp-${process.pid}`;
    const forget = tools.onExit(() => rmSync(temporary, { recursive: true, force: true }));
    const attempts = new Attempts();
    const sources: [string, () => Promise<Contents>][] = [
      [
        `the folder ${FASHION_MNIST.debianFolder}`,
        () => Promise.resolve(readVerified(FASHION_MNIST.debianFolder)),
      ],
      [`the download from ${new URL(FASHION_MNIST.officialUrl).host}`, () => download(tools, temporary)],
      [`apt-get download ${FASHION_MNIST.debianPackage}`, () => aptDownload(tools, temporary)],
    ];
    try {
      for (const [what, read] of sources) {
        rmSync(temporary, { recursive: true, force: true });
        mkdirSync(temporary, { recursive: true });
        try {
          install(await read(), cached, temporary);
          return;
        } catch (error) {
          if (!(error instanceof AtelierError)) throw error;
          attempts.failed(what, error.message);
        }
      }
    } finally {
      rmSync(temporary, { recursive: true, force: true });
      forget();
    }
    throw attempts.error(
      'data',
      'Fashion-MNIST is not to be had here',
      `put its four files (${Object.values(IDX_FILES).join(', ')}, plain or .gz) into a folder and set ATELIER_DATA_DIR to it.`,
    );
  });
}

/**
 * Reads the four files of a folder, plain or gzipped.
 * @throws AtelierError `data` when one is missing or is not what it should be
 */
export function readVerified(folder: string): Contents {
  const read = (file: IdxFile): Buffer => {
    const path = findIdxFile(folder, IDX_FILES[file]);
    if (path === undefined) {
      throw new AtelierError('data', `${join(folder, IDX_FILES[file])} is missing (plain or .gz)`);
    }
    const bytes = readMaybeGzipped(path);
    const digest = createHash('sha256').update(bytes).digest('hex');
    if (digest !== FASHION_MNIST.sha256[file]) {
      throw new AtelierError(
        'data',
        `${path} is not the file it should be: ${bytes.byteLength} bytes with SHA-256 ${digest}, not ` +
          `${FASHION_MNIST.bytes[file]} with ${FASHION_MNIST.sha256[file]}`,
      );
    }
    return bytes;
  };
  return {
    trainImages: read('trainImages'),
    trainLabels: read('trainLabels'),
    testImages: read('testImages'),
    testLabels: read('testLabels'),
  };
}

/** Puts checked files in place, all four or none. */
function install(contents: Contents, cached: string, temporary: string): void {
  const complete = join(temporary, 'complete');
  mkdirSync(complete, { recursive: true });
  for (const file of FILES) writeFileSync(join(complete, IDX_FILES[file]), contents[file]);
  rmSync(cached, { recursive: true, force: true });
  mkdirSync(dirname(cached), { recursive: true });
  renameSync(complete, cached);
}

async function download(tools: SetupTools, temporary: string): Promise<Contents> {
  const first = new URL(FASHION_MNIST.officialUrl);
  try {
    await fetch(first, { method: 'HEAD', signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
  } catch (error) {
    const { cause } = error as Error;
    const why = cause instanceof Error ? `${messageOf(error)} (${cause.message})` : messageOf(error);
    throw new AtelierError('data', `${first.host} does not answer: ${why}`);
  }
  return tools.step('Downloading Fashion-MNIST', async (note) => {
    for (const file of FILES) {
      const name = `${IDX_FILES[file]}.gz`;
      note(name);
      writeFileSync(join(temporary, name), await fetchFile(new URL(name, first)));
    }
    return readVerified(temporary);
  });
}

async function fetchFile(url: URL): Promise<Buffer> {
  const controller = new AbortController();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    const response = await fetch(url, { signal: controller.signal });
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
    const reader = response.body.getReader();
    for (;;) {
      const stalled = delay(STALL_TIMEOUT_MS, 'stalled' as const, { signal: controller.signal });
      stalled.catch(() => undefined);
      const part = await Promise.race([reader.read(), stalled]);
      if (part === 'stalled') throw new Error(`nothing came for ${STALL_TIMEOUT_MS / 1000} s`);
      if (part.done) break;
      chunks.push(part.value as Uint8Array);
      bytes += (part.value as Uint8Array).byteLength;
      if (bytes > MAX_DOWNLOAD_BYTES) throw new Error('it is far too large');
    }
  } catch (error) {
    throw new AtelierError('data', `${url.href}: ${messageOf(error)}`, { cause: error });
  } finally {
    controller.abort();
  }
  return Buffer.concat(chunks);
}

/** Debian's package, unpacked without installing it: needs no root, but lists that `apt-get update` fetched. */
async function aptDownload(tools: SetupTools, temporary: string): Promise<Contents> {
  return tools.step("Downloading Fashion-MNIST (Debian's package)", async () => {
    const options = { cwd: temporary, timeoutMs: APT_TIMEOUT_MS };
    const fetchPackage = (): Promise<{ code: number; output: string }> =>
      tools.run('apt-get', ['download', FASHION_MNIST.debianPackage], options);
    let result = await fetchPackage();
    if (result.code !== 0 && process.getuid?.() === 0) {
      await tools.run('apt-get', ['update'], options);
      result = await fetchPackage();
    }
    const name = readdirSync(temporary).find((entry) => entry.endsWith('.deb'));
    if (result.code !== 0 || name === undefined) throw new AtelierError('data', result.output);
    const unpacked = await tools.run('dpkg', ['-x', name, 'package'], options);
    if (unpacked.code !== 0) throw new AtelierError('data', unpacked.output);
    return readVerified(join(temporary, 'package', FASHION_MNIST.debianFolder));
  });
}
