import { existsSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { messageOf } from '../shared/errors.js';
import { PROJECT_ROOT } from '../shared/version.js';
import {
  addonFolder,
  buildEnv,
  copySources,
  fail,
  moveProducts,
  PACKAGE,
  type AddonSource,
} from './addon.js';
import type { SetupTools } from './tools.js';

const PROBE_TIMEOUT_MS = 4_000;
const INSTALL_TIMEOUT_MS = 10 * 60_000;

/** tfjs-node's own install script, when the bucket that it downloads from answers. */
export const npmDownload: AddonSource = {
  what: "npm's own download",
  key: 'npm',

  async fetch(tools, env, workspace) {
    await probe(env);
    return tools.step('Downloading native TensorFlow', () => runScript(tools, env, workspace));
  },
};

async function runScript(tools: SetupTools, env: NodeJS.ProcessEnv, workspace: string): Promise<string> {
  const build = join(workspace, 'build');
  const modules = join(PROJECT_ROOT, 'node_modules');
  copySources(build);
  symlinkSync(modules, join(workspace, 'node_modules'), 'junction');
  const path = [join(modules, '.bin'), env['PATH'] ?? ''].join(delimiter);
  const result = await tools.run(process.execPath, [join(build, 'scripts', 'install.js')], {
    cwd: build,
    env: { ...buildEnv(env), PATH: path },
    timeoutMs: INSTALL_TIMEOUT_MS,
  });
  if (result.code !== 0 || !existsSync(join(build, addonFolder()))) fail(result.output);
  return moveProducts(build, join(workspace, 'ready'));
}

/** Waits seconds, not the minutes that the script would, for a bucket behind a firewall. */
async function probe(env: NodeJS.ProcessEnv): Promise<void> {
  const proxies = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy'];
  // The script uses a proxy, Node's fetch does not: only the script can tell.
  if (proxies.some((name) => env[name])) return;
  const url = libraryUrl(env);
  let status: number;
  try {
    const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
    ({ status } = await fetch(url, { method: 'HEAD', signal }));
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    fail(`${url} does not answer: ${messageOf(error)}${cause === undefined ? '' : ` (${messageOf(cause)})`}`);
  }
  if (status >= 400) fail(`${url} answers HTTP ${status}`);
}

/** What the script will ask for: the same variables, the same names. */
function libraryUrl(env: NodeJS.ProcessEnv): string {
  const constants = createRequire(import.meta.url)(join(PACKAGE, 'scripts', 'deps-constants.js')) as {
    LIBTENSORFLOW_VERSION: string;
    PLATFORM_EXTENSION: string;
    PLATFORM_MAPPING: Record<string, string>;
  };
  const variable = (name: string): string => (env[name] ?? '') || (env[`npm_config_${name}`] ?? '');
  const host = variable('TFJS_NODE_CDN_STORAGE') || env['CDN_STORAGE'] || 'https://storage.googleapis.com/';
  if (process.arch === 'arm64') {
    return `${host}tf-builds/libtensorflow_r2_7_${process.platform === 'darwin' ? 'darwin_arm64_cpu' : 'linux_arm64'}.tar.gz`;
  }
  const base = variable('TFJS_NODE_BASE_URI') || `${host}tensorflow/libtensorflow/libtensorflow-`;
  const {
    LIBTENSORFLOW_VERSION: version,
    PLATFORM_EXTENSION: extension,
    PLATFORM_MAPPING: names,
  } = constants;
  return `${base}cpu-${names[process.platform] ?? process.platform}-x86_64-${version}.${extension}`;
}
