import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { PROJECT_ROOT } from '../../shared/version.js';

/** A file of the live page, ready to be sent. */
export interface Asset {
  readonly contentType: string;
  readonly bytes: Buffer;
  readonly gzipped: Buffer;
  readonly etag: string;
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
};

/** What tsc made of the page's modules. */
const COMPILED = fileURLToPath(new URL('./page/', import.meta.url));
const SOURCES = join(PROJECT_ROOT, 'coordinator', 'live', 'page');

/**
 * Every file of the page by its path in the address. Nothing else is ever read from the disk for a request: no path of
 * a request becomes a path of a file.
 * @throws Error when the page is not built (`npm run build`)
 */
export async function loadAssets(): Promise<ReadonlyMap<string, Asset>> {
  const modules = (await readdir(COMPILED)).filter((name) => name.endsWith('.js'));
  const files = new Map([
    ['/', join(SOURCES, 'index.html')],
    ['/live/live.css', join(SOURCES, 'live.css')],
    ['/live/echarts.js', createRequire(import.meta.url).resolve('echarts/dist/echarts.esm.min.mjs')],
    ...modules.map((name) => [`/live/${name}`, join(COMPILED, name)] as const),
  ]);
  return new Map(
    await Promise.all([...files].map(async ([path, file]) => [path, await readAsset(file)] as const)),
  );
}

async function readAsset(file: string): Promise<Asset> {
  const bytes = await readFile(file);
  return {
    contentType: CONTENT_TYPES[extname(file)] ?? 'application/octet-stream',
    bytes,
    gzipped: await promisify(gzip)(bytes),
    etag: `"${createHash('sha256').update(bytes).digest('hex').slice(0, 32)}"`,
  };
}
