import { createHash } from 'node:crypto';
import {
  createReadStream,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cacheDir } from '../shared/paths.js';
import { AtelierError } from '../shared/errors.js';
import { PROJECT_ROOT } from '../shared/version.js';
import { Attempts, type SetupTools } from './tools.js';

/** The wheel whose libraries the addon is built against where npm's own download does not work. */
const WHEEL = {
  requirement: 'tensorflow-cpu==2.21.0',
  python: '3.11',
  platform: 'manylinux_2_27_x86_64',
  sha256: '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c',
} as const;

const PROBE_TIMEOUT_MS = 4_000;
const DOWNLOAD_TIMEOUT_MS = 10 * 60_000;
const BUILD_TIMEOUT_MS = 10 * 60_000;
const PROOF_TIMEOUT_MS = 60_000;

const PACKAGE = join(PROJECT_ROOT, 'node_modules', '@tensorflow', 'tfjs-node');
const STAMP = join(PROJECT_ROOT, 'node_modules', '.atelier-tensorflow');
const require = createRequire(import.meta.url);

type Exclusively = <Result>(action: () => Promise<Result>) => Promise<Result>;

/**
 * Makes `@tensorflow/tfjs-node` load: a binding that works is used as it is; else the cache, npm's own download, and
 * the pip wheel with a local build of the addon are tried in this order.
 * @throws AtelierError `usage`
 */
export async function provideTensorFlow(
  tools: SetupTools,
  env: NodeJS.ProcessEnv,
  exclusively: Exclusively,
): Promise<void> {
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === bindingVersion()) return;
  if (existsSync(bindingPath()) && (await proof(tools)) === undefined) {
    writeStamp();
    return;
  }
  const cached = join(cacheDir(env), 'tensorflow', cacheKey());
  const attempts = new Attempts();
  await exclusively(async () => {
    if (existsSync(cached) && (await adopt(tools, cached, attempts, 'the cache'))) return;
    rmSync(cached, { recursive: true, force: true });
    mkdirSync(dirname(cached), { recursive: true });
    // Left behind by set-ups that were killed: the lock is ours.
    for (const name of readdirSync(dirname(cached)).filter((entry) => entry.startsWith('tmp-'))) {
      rmSync(join(dirname(cached), name), { recursive: true, force: true });
    }
    for (const [what, fetch] of [
      ["npm's own download", fetchByNpm],
      ['the pip wheel and a local build', fetchByPip],
    ] as const) {
      const temporary = join(dirname(cached), `tmp-${process.pid}-${fetch.name}`);
      const forget = tools.onExit(() => rmSync(temporary, { recursive: true, force: true }));
      try {
        mkdirSync(temporary, { recursive: true });
        const ready = await fetch(tools, env, temporary);
        renameSync(ready, cached);
        if (await adopt(tools, cached, attempts, what)) return;
        rmSync(cached, { recursive: true, force: true });
      } catch (error) {
        if (!(error instanceof AtelierError)) throw error;
        attempts.failed(what, error.message);
      } finally {
        rmSync(temporary, { recursive: true, force: true });
        forget();
      }
    }
    throw attempts.error(
      'usage',
      `there is no native TensorFlow for ${process.platform} ${process.arch} here`,
      'install python3 with pip and a C++ compiler (Debian: apt-get install python3-pip g++ make) and see that pip ' +
        'reaches an index, or run "npm rebuild @tensorflow/tfjs-node" where storage.googleapis.com can be reached.',
    );
  });
}

/** Path of the addon as tfjs-node will look for it. */
function bindingPath(): string {
  const { find } = require('@mapbox/node-pre-gyp') as { find: (packageJson: string) => string };
  return find(join(PACKAGE, 'package.json'));
}

/**
 * Where the addon lies inside the package, such as `lib/napi-v8`. The cache has the same shape: Node loads the addon
 * by its real path, and it looks for the libraries in `../../deps/lib` from there.
 */
const addonFolder = (): string => relative(PACKAGE, dirname(bindingPath()));

/** Changes whenever the addon, or what loads it, changes. */
function bindingVersion(): string {
  const path = bindingPath();
  if (!existsSync(path)) return 'none';
  const { size, mtimeMs } = statSync(path);
  return `${path} ${size} ${mtimeMs} ${process.versions.modules} ${process.arch}`;
}

const writeStamp = (): void => writeFileSync(STAMP, bindingVersion());

function cacheKey(): string {
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { version: string };
  return `tfjs-node-${version}-${process.platform}-${process.arch}-${basename(addonFolder())}`;
}

/** Loads TensorFlow in a process of its own and multiplies. @returns undefined, or what went wrong */
async function proof(tools: SetupTools): Promise<string | undefined> {
  const script =
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

/** Links the checkout to libraries in the cache and proves them. */
async function adopt(tools: SetupTools, source: string, attempts: Attempts, what: string): Promise<boolean> {
  const link = (from: string, to: string): void => {
    rmSync(to, { recursive: true, force: true });
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(from, to, 'junction');
  };
  rmSync(join(PACKAGE, 'deps'), { recursive: true, force: true });
  link(join(source, 'deps', 'lib'), join(PACKAGE, 'deps', 'lib'));
  link(join(source, addonFolder()), dirname(bindingPath()));
  const problem = await proof(tools);
  if (problem !== undefined) {
    attempts.failed(`loading TensorFlow from ${what}`, problem);
    return false;
  }
  writeStamp();
  return true;
}

function fail(message: string): never {
  throw new AtelierError('usage', message);
}

/** tfjs-node's own install script, when the bucket it downloads from answers. @returns the folder to cache */
async function fetchByNpm(tools: SetupTools, env: NodeJS.ProcessEnv, temporary: string): Promise<string> {
  const bucket = env['TFJS_NODE_CDN_STORAGE'] ?? env['CDN_STORAGE'] ?? 'https://storage.googleapis.com/';
  const probe =
    env['TFJS_NODE_BASE_URI'] ??
    `${bucket}tensorflow/libtensorflow/libtensorflow-cpu-linux-x86_64-2.9.1.tar.gz`;
  try {
    await fetch(probe, { method: 'HEAD', signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
  } catch (error) {
    const { message, cause } = error as Error;
    fail(
      `${new URL(probe).host} does not answer: ${message}${cause instanceof Error ? ` (${cause.message})` : ''}`,
    );
  }
  return tools.step('Downloading native TensorFlow', async () => {
    const options = { cwd: PACKAGE, timeoutMs: DOWNLOAD_TIMEOUT_MS };
    rmSync(join(PACKAGE, 'deps'), { recursive: true, force: true });
    rmSync(dirname(bindingPath()), { recursive: true, force: true });
    const path = [join(PROJECT_ROOT, 'node_modules', '.bin'), env['PATH'] ?? ''].join(':');
    const script = join(PACKAGE, 'scripts', 'install.js');
    const result = await tools.run(process.execPath, [script], { ...options, env: { ...env, PATH: path } });
    if (result.code !== 0 || !existsSync(bindingPath())) fail(result.output);
    const ready = join(temporary, 'ready');
    mkdirSync(join(ready, 'deps'), { recursive: true });
    cpSync(join(PACKAGE, 'deps', 'lib'), join(ready, 'deps', 'lib'), {
      recursive: true,
      verbatimSymlinks: true,
    });
    cpSync(dirname(bindingPath()), join(ready, addonFolder()), { recursive: true });
    return ready;
  });
}

/** TensorFlow's libraries out of the pip wheel, the addon compiled against them. @returns the folder to cache */
async function fetchByPip(tools: SetupTools, env: NodeJS.ProcessEnv, temporary: string): Promise<string> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    fail(`there is a pinned wheel for linux x64 only, this is ${process.platform} ${process.arch}`);
  }
  const wheel = await tools.step('Downloading TensorFlow (the pip wheel, 250 MB)', () =>
    downloadWheel(tools, temporary),
  );
  // A copy of the package's sources: nothing is built inside the checkout.
  const build = join(temporary, 'build');
  const libraries = join(build, 'deps', 'lib');
  mkdirSync(libraries, { recursive: true });
  await tools.step('Unpacking TensorFlow', () => unpackWheel(tools, wheel, temporary, build));
  for (const [link, library] of [
    ['libtensorflow.so', 'libtensorflow_cc.so.2'],
    ['libtensorflow_framework.so', 'libtensorflow_framework.so.2'],
  ] as const) {
    symlinkSync(library, join(libraries, link));
  }
  await tools.step('Compiling the TensorFlow addon', () => compileAddon(tools, env, build));
  const ready = join(temporary, 'ready');
  mkdirSync(join(ready, 'deps'), { recursive: true });
  renameSync(libraries, join(ready, 'deps', 'lib'));
  mkdirSync(dirname(join(ready, addonFolder())), { recursive: true });
  renameSync(join(build, addonFolder()), join(ready, addonFolder()));
  return ready;
}

async function downloadWheel(tools: SetupTools, temporary: string): Promise<string> {
  const args = ['-m', 'pip', 'download', '--no-deps', '--retries', '0', '--disable-pip-version-check'];
  args.push('--only-binary=:all:', '--python-version', WHEEL.python, '--platform', WHEEL.platform);
  const result = await tools.run('python3', [...args, '--dest', temporary, WHEEL.requirement], {
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  });
  const name = readdirSync(temporary).find((entry) => entry.endsWith('.whl'));
  if (result.code !== 0 || name === undefined)
    fail(`python3 -m pip download ${WHEEL.requirement}:\n${result.output}`);
  const wheel = join(temporary, name);
  const hash = createHash('sha256');
  await pipeline(createReadStream(wheel), hash);
  const digest = hash.digest('hex');
  if (digest !== WHEEL.sha256) {
    fail(`${name} has SHA-256 ${digest}, not ${WHEEL.sha256}: the index serves another file, it is not used`);
  }
  return wheel;
}

/** Extracts the two libraries and the headers: the rest of the wheel is Python. */
async function unpackWheel(
  tools: SetupTools,
  wheel: string,
  temporary: string,
  build: string,
): Promise<void> {
  const script =
    'import sys, zipfile\n' +
    'wheel = zipfile.ZipFile(sys.argv[1])\n' +
    "keep = ('tensorflow/include/', 'tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2')\n" +
    'wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(keep)])\n';
  const unpacked = join(temporary, 'wheel');
  const result = await tools.run('python3', ['-c', script, wheel, unpacked], { timeoutMs: BUILD_TIMEOUT_MS });
  if (result.code !== 0) fail(`unpacking the wheel:\n${result.output}`);
  rmSync(wheel);
  const from = join(unpacked, 'tensorflow');
  renameSync(join(from, 'include'), join(build, 'deps', 'include'));
  for (const library of ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2']) {
    renameSync(join(from, library), join(build, 'deps', 'lib', library));
  }
}

async function compileAddon(tools: SetupTools, env: NodeJS.ProcessEnv, build: string): Promise<void> {
  for (const name of ['package.json', 'binding.gyp', 'binding']) {
    cpSync(join(PACKAGE, name), join(build, name), { recursive: true });
  }
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h'))
    ? { npm_config_nodedir: prefix }
    : {};
  const npm = env['npm_execpath'];
  const nodeGyp =
    npm === undefined ? '' : join(dirname(npm), '..', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const gyp = existsSync(nodeGyp) ? { npm_config_node_gyp: nodeGyp } : {};
  const nodePreGyp = join(PROJECT_ROOT, 'node_modules', '@mapbox', 'node-pre-gyp', 'bin', 'node-pre-gyp');
  const result = await tools.run(process.execPath, [nodePreGyp, 'install', '--build-from-source'], {
    cwd: build,
    env: { ...headers, ...gyp, ...env },
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  if (result.code !== 0) fail(`compiling the addon:\n${result.output}`);
}
