import { chmodSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { AtelierError, messageOf } from '../../shared/errors.js';

/** For the owner alone. */
export const PRIVATE_FILE_MODE = 0o600;
const PRIVATE_FOLDER_MODE = 0o700;

/** Where a cluster keeps its CA, its certificate and the hashes of its tokens. */
export interface ClusterFolder {
  readonly path: string;
  readonly caCertificate: string;
  readonly caKey: string;
  readonly serverCertificate: string;
  readonly serverKey: string;
  readonly tokens: string;
}

/** `--state-dir`, else `ATELIER_STATE_DIR`, else `$XDG_CONFIG_HOME/atelier`, else `~/.config/atelier`. */
export function clusterFolderPath(stateDir: string | undefined, env: NodeJS.ProcessEnv): string {
  const chosen = stateDir ?? env['ATELIER_STATE_DIR'] ?? '';
  if (chosen !== '') return chosen;
  return join(env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config'), 'atelier');
}

/**
 * Makes the folder if it is not there; it is closed to everyone else.
 * @throws AtelierError `usage` when it cannot be made
 */
export function openClusterFolder(path: string): ClusterFolder {
  const tokens = join(path, 'tokens');
  try {
    for (const folder of [path, tokens]) {
      mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER_MODE });
      chmodSync(folder, PRIVATE_FOLDER_MODE);
    }
  } catch (cause) {
    throw new AtelierError(
      'usage',
      `cannot keep the cluster's keys in ${path}: ${messageOf(cause)}. Choose another folder with --state-dir`,
      { cause },
    );
  }
  return {
    path,
    caCertificate: join(path, 'ca.pem'),
    caKey: join(path, 'ca-key.pem'),
    serverCertificate: join(path, 'server.pem'),
    serverKey: join(path, 'server-key.pem'),
    tokens,
  };
}
