import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { FASHION_MNIST, IDX_FILES, type IdxFile } from '../shared/dataset/fashion-mnist.js';
import { findIdxFile, readMaybeGzipped } from '../shared/dataset/idx.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import { cachedDatasetDir } from '../shared/paths.js';
import { Attempts, type Exclusively, type SetupTools } from './tools.js';
import { inWorkspace } from './workspace.js';

const CONNECT_TIMEOUT_MS = 5_000;
/** A download that brings nothing for this long is given up. */
const STALL_TIMEOUT_MS = 20_000;
const APT_TIMEOUT_MS = 2 * 60_000;
/** The largest of the four gzipped files is 26 MB. */
const MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024;
const MEGABYTE = 1e6;

const FILES = Object.keys(IDX_FILES) as IdxFile[];

type Contents = Record<IdxFile, Buffer>;

/** Where the files are got from, in the order in which it is tried; `read` may use an empty folder. */
const SOURCES: readonly {
  readonly what: string;
  readonly read: (tools: SetupTools, workspace: string) => Promise<Contents>;
}[] = [
  {
    what: `the folder ${FASHION_MNIST.debianFolder}`,
    read: () => Promise.resolve().then(() => readVerified(FASHION_MNIST.debianFolder)),
  },
  { what: `the download from ${new URL(FASHION_MNIST.officialUrl).host}`, read: download },
  { what: `apt-get download ${FASHION_MNIST.debianPackage}`, read: aptDownload },
];

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
    checkOwn(own);
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
    const attempts = new Attempts();
    for (const { what, read } of SOURCES) {
      try {
        await inWorkspace(dirname(cached), tools, async (workspace) => {
          install(await read(tools, workspace), cached, workspace);
        });
        return;
      } catch (error) {
        if (!(error instanceof AtelierError)) throw error;
        attempts.failed(what, error.message);
      }
    }
    throw attempts.error(
      'data',
      'Fashion-MNIST is not to be had here',
      `put its four files (${Object.values(IDX_FILES).join(', ')}, plain or .gz) into a folder and set ATELIER_DATA_DIR to it.`,
    );
  });
}

/** Checks the files that the user names: others are not silently used in their place. */
function checkOwn(folder: string): void {
  try {
    readVerified(folder);
  } catch (error) {
    if (!(error instanceof AtelierError)) throw error;
    throw new AtelierError(
      'data',
      `ATELIER_DATA_DIR names ${folder}, but ${error.message}.\n` +
        'Put the four files of Fashion-MNIST there, or unset ATELIER_DATA_DIR and set-up fetches them.',
      { cause: error },
    );
  }
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
function install(contents: Contents, cached: string, workspace: string): void {
  const complete = join(workspace, 'complete');
  mkdirSync(complete);
  for (const file of FILES) writeFileSync(join(complete, IDX_FILES[file]), contents[file]);
  rmSync(cached, { recursive: true, force: true });
  renameSync(complete, cached);
}

async function download(tools: SetupTools, workspace: string): Promise<Contents> {
  const base = await officialFolder();
  return tools.step('Downloading Fashion-MNIST', async (note) => {
    for (const file of FILES) {
      const name = `${IDX_FILES[file]}.gz`;
      const bytes = await fetchFile(new URL(name, base), (count) =>
        note(`${name} ${(count / MEGABYTE).toFixed(1)} MB`),
      );
      writeFileSync(join(workspace, name), bytes);
    }
    return readVerified(workspace);
  });
}

/**
 * The folder of the official files, if it answers. A bucket that is a web site speaks plain HTTP alone: what comes is
 * known by its SHA-256, not by the sender.
 */
async function officialFolder(): Promise<URL> {
  const url = new URL(FASHION_MNIST.officialUrl);
  try {
    await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
  } catch (error) {
    throw new AtelierError('data', `${url.href} does not answer: ${withCause(error)}`);
  }
  return url;
}

/** Node's fetch hides what went wrong in the cause. */
function withCause(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause === undefined ? messageOf(error) : `${messageOf(error)} (${messageOf(cause)})`;
}

async function fetchFile(url: URL, note: (bytes: number) => void): Promise<Buffer> {
  const controller = new AbortController();
  const giveUp = (): void => controller.abort(new Error(`nothing came for ${STALL_TIMEOUT_MS / 1000} s`));
  const stall = setTimeout(giveUp, STALL_TIMEOUT_MS);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    const response = await fetch(url, { signal: controller.signal });
    if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
      stall.refresh();
      chunks.push(chunk);
      bytes += chunk.byteLength;
      note(bytes);
      if (bytes > MAX_DOWNLOAD_BYTES) throw new Error('it is far too large');
    }
  } catch (error) {
    throw new AtelierError('data', `${url.href}: ${withCause(error)}`, { cause: error });
  } finally {
    clearTimeout(stall);
  }
  return Buffer.concat(chunks);
}

/** Debian's package, unpacked without installing it: needs no root, but lists that `apt-get update` fetched. */
async function aptDownload(tools: SetupTools, workspace: string): Promise<Contents> {
  return tools.step("Downloading Fashion-MNIST (Debian's package)", async () => {
    const options = { cwd: workspace, timeoutMs: APT_TIMEOUT_MS };
    const fetchPackage = (): Promise<{ code: number; output: string }> =>
      tools.run('apt-get', ['download', FASHION_MNIST.debianPackage], options);
    let result = await fetchPackage();
    if (result.code !== 0 && process.getuid?.() === 0) {
      await tools.run('apt-get', ['update'], options);
      result = await fetchPackage();
    }
    const name = readdirSync(workspace).find((entry) => entry.endsWith('.deb'));
    if (result.code !== 0 || name === undefined) throw new AtelierError('data', result.output);
    const unpacked = await tools.run('dpkg', ['-x', name, 'package'], options);
    if (unpacked.code !== 0) throw new AtelierError('data', unpacked.output);
    return readVerified(join(workspace, 'package', FASHION_MNIST.debianFolder));
  });
}
