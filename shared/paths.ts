import { homedir } from 'node:os';
import { join } from 'node:path';

/**
 * The cache directory shared by every checkout: `ATELIER_CACHE_DIR`, else `$XDG_CACHE_HOME/atelier`, else
 * `~/.cache/atelier`. Holds native TensorFlow and datasets.
 */
export function cacheDir(env: NodeJS.ProcessEnv): string {
  if (env['ATELIER_CACHE_DIR']) return env['ATELIER_CACHE_DIR'];
  return join(env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'atelier');
}

/** Where set-up keeps a dataset of this name: uncompressed IDX files. */
export function cachedDatasetDir(env: NodeJS.ProcessEnv, name: string): string {
  return join(cacheDir(env), 'datasets', name);
}
