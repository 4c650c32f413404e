// Sets up everything that `npm start` and `npm test` need, on a machine with Node, npm, python3 with pip and a C++
// compiler: dependencies, the build, native TensorFlow, the dataset. Says nothing when all is there. This file and
// tools.mjs use Node's own modules alone; the rest of set-up is TypeScript, built on the way.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as tools from './tools.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const MINIMUM_NODE = [20, 19];
const INSTALL_TIMEOUT_MS = 15 * 60_000;
const BUILD_TIMEOUT_MS = 5 * 60_000;
const SOURCE_FOLDERS = ['cli', 'coordinator', 'worker', 'shared', 'setup', 'test'];

/** What the user can do something about. */
class SetupError extends Error {}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < MINIMUM_NODE[0] || (major === MINIMUM_NODE[0] && minor < MINIMUM_NODE[1])) {
    throw new SetupError(
      `Atelier needs Node ${MINIMUM_NODE.join('.')} or newer; this is ${process.versions.node}. See https://nodejs.org`,
    );
  }
}

const readIfThere = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** `npm ci`, when the lock file is not the one that was installed last. Install scripts are never run. */
async function installDependencies() {
  const lock = createHash('sha256')
    .update(readFileSync(join(ROOT, 'package-lock.json')))
    .digest('hex');
  const stamp = join(ROOT, 'node_modules', '.atelier-lock');
  if (readIfThere(stamp) === lock) return;
  await tools.step('Installing dependencies', async () => {
    const npm = process.env.npm_execpath;
    const args = ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    const options = { cwd: ROOT, timeoutMs: INSTALL_TIMEOUT_MS };
    const result = npm?.endsWith('.js')
      ? await tools.run(process.execPath, [npm, ...args], options)
      : await tools.run('npm', args, options);
    if (result.code !== 0) {
      throw new SetupError(
        `npm ci failed:\n${result.output}\nIs the npm registry reachable? "npm ping" tells; behind a mirror set "npm config set registry URL".`,
      );
    }
    writeFileSync(stamp, lock);
  });
}

/** Every source file with its size and time. */
function sourceList() {
  const entries = [];
  const visit = (folder) => {
    for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) visit(path);
      else if (/\.(ts|json)$/.test(entry.name)) entries.push(path);
    }
  };
  SOURCE_FOLDERS.filter((folder) => existsSync(join(ROOT, folder))).forEach(visit);
  return [...entries.sort(), 'tsconfig.json', 'package-lock.json'].map((path) => {
    const { size, mtimeMs } = statSync(join(ROOT, path));
    return { path, version: `${path} ${size} ${mtimeMs}` };
  });
}

/** Compiles the TypeScript sources, when any of them changed since the last build. */
async function build() {
  const dist = join(ROOT, 'dist');
  const stamp = join(dist, '.atelier-build');
  const sources = sourceList();
  const wanted = sources.map(({ version }) => version).join('\n');
  const built = readIfThere(stamp);
  if (built === wanted) return;
  await tools.step('Building', async () => {
    const before = new Set(built.split('\n').map((line) => line.split(' ')[0]));
    const now = new Set(sources.map(({ path }) => path));
    // Output of a source that is gone would live on.
    if ([...before].some((path) => !now.has(path))) rmSync(dist, { recursive: true, force: true });
    rmSync(stamp, { force: true });
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    const args = [tsc, '-p', join(ROOT, 'tsconfig.json')];
    const result = await tools.run(process.execPath, args, { cwd: ROOT, timeoutMs: BUILD_TIMEOUT_MS });
    if (result.code !== 0) throw new SetupError(`the build failed:\n${result.output}`);
    mkdirSync(dist, { recursive: true });
    writeFileSync(stamp, wanted);
  });
}

try {
  tools.handleSignals();
  checkNode();
  await installDependencies();
  await build();
  const { setUp } = await import('../dist/setup/main.js');
  await setUp(tools, process.env);
} catch (error) {
  const known = error instanceof SetupError || error?.name === 'AtelierError';
  tools.say(`\nerror: ${known ? error.message : (error?.stack ?? error)}`);
  process.exitCode = 2;
}
