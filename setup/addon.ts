import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
import { AtelierError } from '../shared/errors.js';
import { PROJECT_ROOT } from '../shared/version.js';
import type { SetupTools } from './tools.js';

/** tfjs-node in this checkout, and its addon: the binding between Node and TensorFlow's libraries. */
export const PACKAGE: string = join(PROJECT_ROOT, 'node_modules', '@tensorflow', 'tfjs-node');
/** TensorFlow's libraries, inside the package. */
export const LIBRARIES: string = join('deps', 'lib');

const require = createRequire(import.meta.url);

/** A way to get the addon and its libraries. */
export interface AddonSource {
  readonly what: string;
  /** Tells its TensorFlow from that of other sources, in the cache. */
  readonly key: string;
  /**
   * Makes a folder of the package's shape with the addon and the libraries.
   * @param workspace an empty folder; the result is inside it
   * @throws AtelierError `usage`
   */
  fetch(tools: SetupTools, env: NodeJS.ProcessEnv, workspace: string): Promise<string>;
}

export function fail(message: string): never {
  throw new AtelierError('usage', message);
}

/** Path of the addon as tfjs-node will look for it. */
export function addonPath(): string {
  const { find } = require('@mapbox/node-pre-gyp') as { find: (packageJson: string) => string };
  return find(join(PACKAGE, 'package.json'));
}

/**
 * Where the addon lies inside the package, such as `lib/napi-v8`. The cache has the same shape: Node loads the addon
 * by its real path, and it looks for the libraries in `../../deps/lib` from there.
 */
export const addonFolder = (): string => relative(PACKAGE, dirname(addonPath()));

/** Changes whenever the addon or its libraries, or what loads them, change. */
export function addonVersion(): string {
  const path = addonPath();
  if (!existsSync(path)) return 'none';
  const { size, mtimeMs } = statSync(path);
  const libraries = join(PACKAGE, LIBRARIES);
  const sizes = existsSync(libraries)
    ? readdirSync(libraries).map((name) => `${name} ${statSync(join(libraries, name)).size}`)
    : [];
  return [path, size, mtimeMs, process.versions.modules, process.arch, ...sizes].join(' ');
}

/** The name of what a source provides, in the cache. */
export function cacheKey(source: AddonSource): string {
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { version: string };
  return `tfjs-node-${version}-${source.key}-${process.platform}-${process.arch}-${basename(addonFolder())}`;
}

/** Copies what the addon is built from into `build`: nothing is built inside the checkout. */
export function copySources(build: string): void {
  mkdirSync(build, { recursive: true });
  for (const name of ['package.json', 'binding.gyp', 'binding', 'scripts']) {
    cpSync(join(PACKAGE, name), join(build, name), { recursive: true });
  }
}

/** Moves the libraries and the addon, all that running needs, from `build` to `ready`. */
export function moveProducts(build: string, ready: string): string {
  for (const folder of [LIBRARIES, addonFolder()]) {
    mkdirSync(dirname(join(ready, folder)), { recursive: true });
    renameSync(join(build, folder), join(ready, folder));
  }
  return ready;
}

/** Variables that let node-pre-gyp find npm's node-gyp, and Node's own headers where they are installed. */
export function buildEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h'));
  const npm = env['npm_execpath'] ?? '';
  const nodeGyp = join(dirname(npm), '..', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  return {
    ...(headers ? { npm_config_nodedir: prefix } : {}),
    ...(npm !== '' && existsSync(nodeGyp) ? { npm_config_node_gyp: nodeGyp } : {}),
    ...env,
  };
}
