import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import { AtelierError } from '../shared/errors.js';
import { cacheDir } from '../shared/paths.js';
import { PROJECT_ROOT } from '../shared/version.js';
import {
  addonFolder,
  addonPath,
  addonVersion,
  cacheKey,
  LIBRARIES,
  PACKAGE,
  type AddonSource,
} from './addon.js';
import { npmDownload } from './npm-download.js';
import { Attempts, type Exclusively, type SetupTools } from './tools.js';
import { pipWheel } from './wheel.js';
import { inWorkspace } from './workspace.js';

/** In the order in which they are tried. */
const SOURCES: readonly AddonSource[] = [npmDownload, pipWheel];
/** 850 MB are read, from a shared disk in the worst case. */
const PROOF_TIMEOUT_MS = 3 * 60_000;
const STAMP = join(PROJECT_ROOT, 'node_modules', '.atelier-tensorflow');

/**
 * Makes `@tensorflow/tfjs-node` load: an addon that works is used as it is; else the cache, npm's own download, and
 * the pip wheel with a local build of the addon are tried in this order.
 * @throws AtelierError `usage`
 */
export async function provideTensorFlow(
  tools: SetupTools,
  env: NodeJS.ProcessEnv,
  exclusively: Exclusively,
): Promise<void> {
  const cache = resolve(cacheDir(env), 'tensorflow');
  const isDone = (): boolean => isProved() && !isOutdated(cache);
  if (isDone()) return;
  await exclusively(async () => {
    // Another set-up of this checkout may have been at it.
    if (isDone()) return;
    if (existsSync(addonPath()) && !isOutdated(cache) && (await proof(tools)) === undefined) {
      writeStamp();
      return;
    }
    const attempts = new Attempts();
    for (const source of SOURCES) {
      if (await adopt(tools, join(cache, cacheKey(source)), attempts, `the cache (${source.key})`)) return;
    }
    for (const source of SOURCES) {
      if (await fetchAndAdopt(tools, env, source, cache, attempts)) return;
    }
    throw attempts.error(
      'usage',
      `there is no native TensorFlow for ${process.platform} ${process.arch} here`,
      'install python3 with pip and a C++ compiler (Debian: apt-get install python3-pip g++ make) and see that pip ' +
        'reaches an index, or run "npm rebuild @tensorflow/tfjs-node" where storage.googleapis.com can be reached.',
    );
  });
}

const isProved = (): boolean => existsSync(STAMP) && readFileSync(STAMP, 'utf8') === addonVersion();

/** Is the addon one of the cache that this version of Atelier would not take from there any more? */
function isOutdated(cache: string): boolean {
  const folder = join(PACKAGE, addonFolder());
  if (!existsSync(folder) || !lstatSync(folder).isSymbolicLink()) return false;
  const target = readlinkSync(folder);
  const current = SOURCES.map((source) => join(cache, cacheKey(source)));
  return target.startsWith(cache + sep) && !current.some((cached) => target.startsWith(cached + sep));
}

const writeStamp = (): void => writeFileSync(STAMP, addonVersion());

/** Loads TensorFlow in a process of its own and multiplies. @returns undefined, or what went wrong */
async function proof(tools: SetupTools): Promise<string | undefined> {
  const script =
    // As worker/node-compatibility.ts does.
    "const util = require('util'); util.isNullOrUndefined ??= (x) => x == null; util.isArray ??= Array.isArray;" +
    "const tf = require('@tensorflow/tfjs-node');" +
    'const product = tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2]));' +
    "if (product.dataSync().join() !== '19,22,43,50') throw new Error('a wrong product: ' + product);";
  const { code, output } = await tools.run(process.execPath, ['-e', script], {
    cwd: PROJECT_ROOT,
    env: { ...process.env, TF_CPP_MIN_LOG_LEVEL: '3' },
    timeoutMs: PROOF_TIMEOUT_MS,
  });
  if (code === 0) return undefined;
  return output.split('\n').find((line) => /Error:/.test(line)) ?? output;
}

/** Links the checkout to the addon and the libraries in `cached` and proves them. What does not load is removed. */
async function adopt(tools: SetupTools, cached: string, attempts: Attempts, what: string): Promise<boolean> {
  if (!existsSync(cached)) return false;
  rmSync(join(PACKAGE, 'deps'), { recursive: true, force: true });
  for (const folder of [LIBRARIES, addonFolder()]) {
    rmSync(join(PACKAGE, folder), { recursive: true, force: true });
    mkdirSync(dirname(join(PACKAGE, folder)), { recursive: true });
    symlinkSync(join(cached, folder), join(PACKAGE, folder), 'junction');
  }
  const problem = await proof(tools);
  if (problem === undefined) {
    writeStamp();
    return true;
  }
  attempts.failed(`loading TensorFlow from ${what}`, problem);
  rmSync(cached, { recursive: true, force: true });
  return false;
}

async function fetchAndAdopt(
  tools: SetupTools,
  env: NodeJS.ProcessEnv,
  source: AddonSource,
  cache: string,
  attempts: Attempts,
): Promise<boolean> {
  const cached = join(cache, cacheKey(source));
  try {
    await inWorkspace(cache, tools, async (workspace) => {
      renameSync(await source.fetch(tools, env, workspace), cached);
    });
  } catch (error) {
    if (!(error instanceof AtelierError)) throw error;
    attempts.failed(source.what, error.message);
    return false;
  }
  return adopt(tools, cached, attempts, source.what);
}
