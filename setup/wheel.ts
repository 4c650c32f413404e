import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, readdirSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { PROJECT_ROOT } from '../shared/version.js';
import { buildEnv, copySources, fail, LIBRARIES, moveProducts, type AddonSource } from './addon.js';
import { PATCH, patchBinding } from './binding-patch.js';
import type { SetupTools } from './tools.js';

const WHEEL = {
  name: 'tensorflow-cpu',
  version: '2.21.0',
  python: '3.11',
  platform: 'manylinux_2_27_x86_64',
  sha256: '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c',
} as const;

/** The wheel's libraries, and the names under which the addon is linked to them. */
const LINKS = {
  'libtensorflow_cc.so.2': 'libtensorflow.so',
  'libtensorflow_framework.so.2': 'libtensorflow_framework.so',
} as const;

const ASK_TIMEOUT_MS = 60_000;
const DOWNLOAD_TIMEOUT_MS = 15 * 60_000;
const UNPACK_TIMEOUT_MS = 10 * 60_000;
const BUILD_TIMEOUT_MS = 10 * 60_000;
const NOTE_MS = 500;
const MEGABYTE = 1e6;

/** TensorFlow's libraries out of the pip wheel, and the addon compiled against them: works wherever pip does. */
export const pipWheel: AddonSource = {
  what: 'the pip wheel and a local build',
  key: `tensorflow-${WHEEL.version}-${PATCH}`,

  async fetch(tools, env, workspace) {
    checkPlatform();
    await checkPrograms(tools, env);
    const wheel = await tools.step('Downloading TensorFlow (the pip wheel, 250 MB)', (note) =>
      downloadWheel(tools, env, workspace, note),
    );
    const build = join(workspace, 'build');
    copySources(build);
    patchBinding(build);
    await tools.step('Unpacking TensorFlow', () => unpackWheel(tools, wheel, workspace, build));
    await tools.step('Compiling the TensorFlow addon', () => compileAddon(tools, env, build));
    return moveProducts(build, join(workspace, 'ready'));
  },
};

function checkPlatform(): void {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    fail(`there is a pinned wheel for linux x64 only, this is ${process.platform} ${process.arch}`);
  }
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  if (header.glibcVersionRuntime === undefined)
    fail('the wheel needs glibc; this Linux has another C library');
}

/** Before 250 MB are downloaded: will they be of use? */
async function checkPrograms(tools: SetupTools, env: NodeJS.ProcessEnv): Promise<void> {
  const [compiler = 'g++', ...flags] = (env['CXX'] ?? 'g++').split(' ');
  for (const [what, command, args] of [
    ['python3 with pip', 'python3', ['-m', 'pip', '--version']],
    ['a C++ compiler', compiler, [...flags, '--version']],
    ['make', env['MAKE'] ?? 'make', ['--version']],
  ] as const) {
    const { code, output } = await tools.run(command, args, { env, timeoutMs: ASK_TIMEOUT_MS });
    if (code !== 0) fail(`${what} is needed: ${[command, ...args].join(' ')}:\n${output}`);
  }
}

async function downloadWheel(
  tools: SetupTools,
  env: NodeJS.ProcessEnv,
  workspace: string,
  note: (text: string) => void,
): Promise<string> {
  const requirement = `${WHEEL.name}==${WHEEL.version}`;
  // Pip's own temporary folder may be small; here, it is also swept when pip is killed.
  const temporary = join(workspace, 'pip');
  mkdirSync(temporary);
  const args = ['-m', 'pip', 'download', '--no-deps', '--retries', '0', '--disable-pip-version-check'];
  args.push('--only-binary=:all:', '--python-version', WHEEL.python, '--platform', WHEEL.platform);
  const noting = setInterval(() => note(`${Math.round(bytesIn(temporary) / MEGABYTE)} MB`), NOTE_MS);
  const result = await tools.run('python3', [...args, '--dest', workspace, requirement], {
    env: { ...env, TMPDIR: temporary },
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  });
  clearInterval(noting);
  const name = readdirSync(workspace).find((entry) => entry.endsWith('.whl'));
  if (result.code !== 0 || name === undefined) {
    fail(`python3 -m pip download ${requirement}:\n${result.output}`);
  }
  const wheel = join(workspace, name);
  const hash = createHash('sha256');
  await pipeline(createReadStream(wheel), hash);
  const digest = hash.digest('hex');
  if (digest !== WHEEL.sha256) {
    fail(`${name} has SHA-256 ${digest}, not ${WHEEL.sha256}: the index serves another file, it is not used`);
  }
  return wheel;
}

function bytesIn(folder: string): number {
  const sizeOf = (name: string): number => statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0;
  try {
    const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
    return names.reduce((bytes, name) => bytes + sizeOf(name), 0);
  } catch {
    // Pip removed a folder between two looks.
    return 0;
  }
}

/** Extracts the two libraries and the headers: the rest of the wheel is Python. */
async function unpackWheel(
  tools: SetupTools,
  wheel: string,
  workspace: string,
  build: string,
): Promise<void> {
  const script =
    'import sys, zipfile\n' +
    'wheel = zipfile.ZipFile(sys.argv[1])\n' +
    "keep = tuple('tensorflow/' + name for name in sys.argv[3:])\n" +
    'wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if name.startswith(keep)])\n';
  const unpacked = join(workspace, 'wheel');
  const libraries = Object.keys(LINKS);
  const args = ['-c', script, wheel, unpacked, 'include/', ...libraries];
  const result = await tools.run('python3', args, { timeoutMs: UNPACK_TIMEOUT_MS });
  if (result.code !== 0) fail(`unpacking the wheel:\n${result.output}`);
  rmSync(wheel);
  const from = join(unpacked, 'tensorflow');
  mkdirSync(join(build, LIBRARIES), { recursive: true });
  renameSync(join(from, 'include'), join(build, 'deps', 'include'));
  for (const [library, link] of Object.entries(LINKS)) {
    renameSync(join(from, library), join(build, LIBRARIES, library));
    symlinkSync(library, join(build, LIBRARIES, link));
  }
}

async function compileAddon(tools: SetupTools, env: NodeJS.ProcessEnv, build: string): Promise<void> {
  const nodePreGyp = join(PROJECT_ROOT, 'node_modules', '@mapbox', 'node-pre-gyp', 'bin', 'node-pre-gyp');
  const result = await tools.run(process.execPath, [nodePreGyp, 'install', '--build-from-source'], {
    cwd: build,
    env: { JOBS: 'max', ...buildEnv(env) },
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  if (result.code !== 0) fail(`compiling the addon:\n${result.output}`);
}
