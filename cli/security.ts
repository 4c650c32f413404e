import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { AnyOf, SharedSecret, type Authenticator } from '../coordinator/security/authenticator.js';
import { clusterFolderPath, openClusterFolder } from '../coordinator/security/cluster-folder.js';
import type { CertificateSource } from '../coordinator/security/tls-identity.js';
import { TokenStore } from '../coordinator/security/token-store.js';
import type { ServerSecurity } from '../coordinator/server.js';
import { isLoopback, type ListenAddress } from '../shared/listen.js';
import type { Clock } from '../shared/clock.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import { formatJoinToken, parseJoinToken } from '../shared/join-token.js';
import { parseJoinUrl } from '../worker/session.js';
import { serverTrust, type ServerTrust, type TrustMaterial } from '../worker/server-trust.js';
import { readToken } from './options.js';

/** The flags of a command that opens a coordinator's door. */
export interface SecurityFlags {
  readonly tokenFile?: string;
  readonly insecure?: boolean;
  readonly tls?: boolean;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
  readonly hostName?: readonly string[];
  readonly stateDir?: string;
}

/** @param prefix of the flags that a command which also joins a coordinator has of its own */
export function addSecurityOptions(command: Command, prefix: '' | 'listen-' = ''): void {
  const tokenVariable = prefix === '' ? 'ATELIER_TOKEN' : 'ATELIER_LISTEN_TOKEN';
  command
    .option(
      `--${prefix}token-file <file>`,
      `file with a secret that workers may present besides the tokens of "atelier token" (default: ${tokenVariable})`,
    )
    .option('--tls', 'TLS on loopback too; elsewhere it is on unless --insecure')
    .option(`--${prefix}tls-cert <file>`, 'certificate chain (PEM) to use instead of the one made by Atelier')
    .option(`--${prefix}tls-key <file>`, 'its key')
    .option('--tls-client-ca <file>', 'want a client certificate of these CAs too (mutual TLS)')
    .option(
      '--host-name <name>',
      'name by which workers call this coordinator (repeatable)',
      (value, all: string[]) => [...all, value],
      [],
    )
    .option('--state-dir <folder>', "folder of the cluster's CA and tokens (default: ~/.config/atelier)")
    .option('--insecure', 'allow --listen on a network address without TLS');
}

/** A coordinator's door, and the key to it for the workers that it starts itself. */
export interface Door {
  readonly security: ServerSecurity;
  readonly localToken: string | null;
}

/**
 * Decides how a coordinator on this address is kept: on loopback anyone of this machine may join unless there is a
 * token; elsewhere TLS and tokens are a must.
 * @throws AtelierError `usage` with the remedy when it would be open
 */
export async function serverSecurity(
  listen: ListenAddress,
  flags: SecurityFlags,
  env: NodeJS.ProcessEnv,
  clock: Clock,
): Promise<Door> {
  const hostNames = flags.hostName ?? [];
  const shared = readToken(flags.tokenFile, env);
  const where = `--listen ${listen.host}:${listen.port} is open to the network`;
  const wantsTls = flags.tls === true || flags.tlsCert !== undefined || flags.tlsClientCa !== undefined;
  if (flags.insecure === true && wantsTls) {
    throw new AtelierError('usage', '--insecure is the opposite of --tls: leave one of them out');
  }
  if (!wantsTls && (isLoopback(listen.host) || flags.insecure === true)) {
    if (!isLoopback(listen.host) && shared === null) {
      throw new AtelierError(
        'usage',
        `${where}: workers need a token. Make one with "openssl rand -hex 32 > token" and give it to both sides with ` +
          `--token-file token; or leave out --insecure and use "atelier token create"`,
      );
    }
    const authenticator = shared === null ? null : new SharedSecret(shared);
    return { security: { authenticator, tls: null, hostNames }, localToken: shared };
  }

  const folder = openClusterFolder(clusterFolderPath(flags.stateDir, env));
  const source = certificateSource(flags, folder, listen, hostNames);
  // Certificates take a fifth of a second to load, and most runs are on this machine alone.
  const { TlsIdentity } = await import('../coordinator/security/tls-identity.js');
  const tls = await TlsIdentity.load(source, flags.tlsClientCa ?? null, clock);
  const store = new TokenStore(folder, () => clock.now());
  const { pin } = tls;
  checkPin(shared, pin, folder.path);
  if (
    !isLoopback(listen.host) &&
    shared === null &&
    !store.list().some((token) => token.scope === 'worker' && store.status(token) === 'live')
  ) {
    throw new AtelierError(
      'usage',
      `${where}: workers need a token. Make one with "atelier token create"` +
        (flags.stateDir === undefined ? '' : ` --state-dir ${flags.stateDir}`),
    );
  }
  // Known to the workers that we start ourselves, and gone with us.
  const localToken = formatJoinToken({
    pin: tls.localPin,
    id: randomBytes(6).toString('hex'),
    secret: randomBytes(32).toString('base64url'),
  });
  const local = new SharedSecret(localToken, { tokenId: 'local', isLocal: true });
  const authenticators: Authenticator[] = [local, store];
  if (shared !== null) authenticators.unshift(new SharedSecret(shared));
  return { security: { authenticator: new AnyOf(authenticators), tls, hostNames }, localToken };
}

function certificateSource(
  flags: SecurityFlags,
  folder: ReturnType<typeof openClusterFolder>,
  listen: ListenAddress,
  hostNames: readonly string[],
): CertificateSource {
  if (flags.tlsCert !== undefined && flags.tlsKey !== undefined) {
    return { kind: 'files', certificate: flags.tlsCert, key: flags.tlsKey };
  }
  if (flags.tlsCert !== undefined || flags.tlsKey !== undefined) {
    throw new AtelierError('usage', '--tls-cert and --tls-key go together');
  }
  return { kind: 'cluster', folder, names: [listen.host, ...hostNames] };
}

function checkPin(token: string | null, pin: string | null, folder: string): void {
  const parsed = token === null ? null : parseJoinToken(token);
  if (parsed === null || parsed.pin === pin) return;
  throw new AtelierError(
    'usage',
    `the token was made for another certificate authority than the one in ${folder}: name its folder with --state-dir, ` +
      `or make another with "atelier token create"`,
  );
}

/** The flags of a command that joins a coordinator. */
export interface JoinFlags {
  readonly join: string;
  readonly tokenFile?: string;
  readonly tlsCa?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

export function addJoinOptions(command: Command): void {
  command
    .option('--token-file <file>', 'file with the token, - for standard input (default: ATELIER_TOKEN)')
    .option('--tls-ca <file>', "CAs (PEM) of a coordinator with --tls-cert, if the system's do not know them")
    .option('--tls-cert <file>', 'client certificate (PEM) for a coordinator with --tls-client-ca')
    .option('--tls-key <file>', 'its key');
}

/**
 * Where a worker connects to, and with what. Checks the server once; what it found holds for every later connection.
 * @throws AtelierError `usage` when a file cannot be read
 */
export class Entrance {
  readonly url: URL;
  readonly token: string | null;
  private readonly material: TrustMaterial;
  private trust: ServerTrust | null = null;

  constructor(flags: JoinFlags, env: NodeJS.ProcessEnv) {
    this.url = parseJoinUrl(flags.join);
    this.token = readToken(flags.tokenFile, env);
    if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
      throw new AtelierError('usage', '--tls-cert and --tls-key go together');
    }
    this.material = {
      ...(flags.tlsCa === undefined ? {} : { ca: readPem('--tls-ca', flags.tlsCa) }),
      ...(flags.tlsCert === undefined ? {} : { certificate: readPem('--tls-cert', flags.tlsCert) }),
      ...(flags.tlsKey === undefined ? {} : { key: readPem('--tls-key', flags.tlsKey) }),
    };
  }

  /** @throws AtelierError `refused` when the server is not of this token's cluster */
  async check(): Promise<ServerTrust | { unreachable: string }> {
    if (this.trust !== null) return this.trust;
    const answer = await serverTrust(this.url, this.token, this.material);
    if (!('unreachable' in answer)) this.trust = answer;
    return answer;
  }
}

function readPem(flag: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AtelierError('usage', `${flag} ${file}: ${messageOf(cause)}`, { cause });
  }
}
