import { chmodSync, lchownSync, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { AtelierError, messageOf } from '../../shared/errors.js';
import { writeFileAtomic, type Owner } from '../files.js';

/** For the owner alone. */
export const PRIVATE_FILE_MODE = 0o600;
const PUBLIC_FILE_MODE = 0o666;
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
    mkdirSync(path, { recursive: true, mode: PRIVATE_FOLDER_MODE });
    chmodSync(path, PRIVATE_FOLDER_MODE);
    const isNew = mkdirSync(tokens, { recursive: true, mode: PRIVATE_FOLDER_MODE }) !== undefined;
    const owner = ownerFor(path);
    if (isNew && owner !== null) lchownSync(tokens, owner.uid, owner.gid);
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

/** Writes a file of the folder that its owner alone can read. */
export function writePrivateFile(folder: ClusterFolder, path: string, contents: string): void {
  writeFileAtomic(path, contents, PRIVATE_FILE_MODE, ownerFor(folder.path));
}

/** Writes a file of the folder that holds no secret. */
export function writePublicFile(folder: ClusterFolder, path: string, contents: string): void {
  writeFileAtomic(path, contents, PUBLIC_FILE_MODE, ownerFor(folder.path));
}

/** What root writes belongs to whom the folder belongs to: a coordinator that runs as that user must be able to read it. */
function ownerFor(path: string): Owner | null {
  if (process.getuid?.() !== 0) return null;
  const { uid, gid } = statSync(path);
  return { uid, gid };
}
