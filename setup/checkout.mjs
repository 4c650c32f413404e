// What a checkout needs before its TypeScript can run: dependencies and the build.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withLock } from './lock.mjs';
import { run, SetupError, step } from './tools.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const DIST = join(ROOT, 'dist');
const INSTALL_STAMP = join(ROOT, 'node_modules', '.atelier-lock');
const BUILD_STAMP = join(DIST, '.atelier-build');
/** Not in node_modules: `npm ci` empties that. */
const LOCK = '.atelier-setup';
const INSTALL_TIMEOUT_MS = 15 * 60_000;
const BUILD_TIMEOUT_MS = 5 * 60_000;
const SOURCE_FOLDERS = ['cli', 'coordinator', 'worker', 'results', 'shared', 'setup', 'deploy', 'test'];
/** The live page is a program of its own: it has a browser's types, not Node's. */
const PROJECTS = ['.', 'coordinator/live/page'];

const readIfThere = (path) => (existsSync(path) ? readFileSync(path, 'utf8') : '');

/** Installs and builds, where that is due; one set-up of this checkout at a time. */
export async function prepareCheckout() {
  if (isInstalled() && isBuilt(sourceList())) return;
  await withLock(join(DIST, LOCK), async () => {
    if (!isInstalled()) await install();
    const sources = sourceList();
    if (!isBuilt(sources)) await build(sources);
  });
}

const lockHash = () =>
  createHash('sha256')
    .update(readFileSync(join(ROOT, 'package-lock.json')))
    .digest('hex');

const isInstalled = () => readIfThere(INSTALL_STAMP) === lockHash();

/** `npm ci`, with what the build needs even under NODE_ENV=production. Install scripts are never run. */
function install() {
  return step('Installing dependencies', async () => {
    const hash = lockHash();
    const npm = process.env.npm_execpath ?? '';
    const flags = ['--ignore-scripts', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
    const options = { cwd: ROOT, timeoutMs: INSTALL_TIMEOUT_MS };
    // Other package managers set npm_execpath too.
    const result = npm.endsWith('npm-cli.js')
      ? await run(process.execPath, [npm, 'ci', ...flags], options)
      : await run('npm', ['ci', ...flags], options);
    if (result.code !== 0) {
      throw new SetupError(
        `npm ci failed:\n${result.output}\nIs the npm registry reachable? "npm ping" tells; behind a mirror set "npm config set registry URL".`,
      );
    }
    writeFileSync(INSTALL_STAMP, hash);
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

const stampOf = (sources) => sources.map(({ version }) => version).join('\n');

const outputOf = (path) => join(DIST, path.replace(/\.ts$/, '.js'));

const hasOutputs = (sources) =>
  sources.every(({ path }) => !path.endsWith('.ts') || path.endsWith('.d.ts') || existsSync(outputOf(path)));

const isBuilt = (sources) => readIfThere(BUILD_STAMP) === stampOf(sources) && hasOutputs(sources);

/** Compiles the TypeScript sources. */
function build(sources) {
  return step('Building', async () => {
    const built = readIfThere(BUILD_STAMP);
    mkdirSync(DIST, { recursive: true });
    if (built === '' || !hasOutputs(sources)) {
      // tsc's notes of what it wrote last time may not be true, and output of sources that are gone may lie about.
      for (const name of readdirSync(DIST).filter((entry) => !entry.startsWith(LOCK))) {
        rmSync(join(DIST, name), { recursive: true, force: true });
      }
    } else {
      // Output of a source that is gone would live on. The rest stays: something may be running from it.
      const now = new Set(sources.map(({ path }) => path));
      const gone = built.split('\n').map((line) => line.replace(/ \S+ \S+$/, ''));
      for (const path of gone.filter((source) => source.endsWith('.ts') && !now.has(source))) {
        for (const suffix of ['', '.map']) rmSync(outputOf(path) + suffix, { force: true });
      }
    }
    rmSync(BUILD_STAMP, { force: true });
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    for (const project of PROJECTS) {
      const args = [tsc, '-p', join(ROOT, project)];
      const result = await run(process.execPath, args, { cwd: ROOT, timeoutMs: BUILD_TIMEOUT_MS });
      if (result.code !== 0) throw new SetupError(`the build failed:\n${result.output}`);
    }
    writeFileSync(BUILD_STAMP, stampOf(sources));
  });
}
