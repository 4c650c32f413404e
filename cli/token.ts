import { join } from 'node:path';
import { Option, type Command } from 'commander';
import Table from 'cli-table3';
import { writeFileAtomic } from '../coordinator/files.js';
import { ensureAuthority, issueClientCertificate, pinOf } from '../coordinator/security/certificates.js';
import {
  clusterFolderPath,
  openClusterFolder,
  PRIVATE_FILE_MODE,
  type ClusterFolder,
} from '../coordinator/security/cluster-folder.js';
import { TokenStore, type NewToken } from '../coordinator/security/token-store.js';
import { AtelierError } from '../shared/errors.js';
import { parseJoinToken, SCOPES, type Scope } from '../shared/join-token.js';

const UNITS_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const MAX_NOTE_CHARS = 200;

interface StateFlags {
  readonly stateDir?: string;
}

interface CreateFlags extends StateFlags {
  readonly scope: Scope;
  readonly expires: string;
  readonly note: string;
  readonly out?: string;
  readonly ownCertificate?: boolean;
}

export function addTokenCommand(program: Command): void {
  const token = program.command('token').description('who may join a cluster: create, list, revoke, rotate');
  const stateDir = ['--state-dir <folder>', 'folder of the cluster (default: ~/.config/atelier)'] as const;

  token
    .command('create')
    .description("make a token; it is shown once. The cluster's CA is made with the first")
    .addOption(new Option('--scope <scope>', 'what it is for').choices(SCOPES).default('worker'))
    .option('--expires <time>', 'how long it holds: 90m, 12h, 30d, never', '30d')
    .option('--note <text>', 'a word for the list', '')
    .option('--out <file>', 'write it to a file (0600) instead of the terminal')
    .option('--own-certificate', 'for a coordinator with --tls-cert: its name is checked, not the CA')
    .option(...stateDir)
    .action(async (flags: CreateFlags) => {
      await create(flags);
    });
  token
    .command('list')
    .description('the tokens of the cluster; secrets are not kept')
    .option(...stateDir)
    .option('--json', 'as JSON')
    .action((flags: StateFlags & { json?: boolean }) => list(flags));
  token
    .command('revoke')
    .description('a token opens nothing any more; connections made with it end within seconds')
    .argument('<id>', 'as "atelier token list" shows it; a whole token will do')
    .option(...stateDir)
    .action((id: string, flags: StateFlags) => {
      const { store } = open(flags);
      say(`Revoked ${store.revoke(idOf(id)).id}`);
    });
  token
    .command('rotate')
    .description('make a new token like an old one, which goes on until it is revoked')
    .argument('<id>', 'the old one')
    .option('--expires <time>', 'how long the new one holds', '30d')
    .option('--out <file>', 'write it to a file (0600) instead of the terminal')
    .option('--revoke', 'revoke the old one now')
    .option(...stateDir)
    .action(async (id: string, flags: CreateFlags & { revoke?: boolean }) => {
      const { store } = open(flags);
      const old = store.require(idOf(id));
      await create({ ...flags, scope: old.scope, note: old.note });
      if (flags.revoke === true) store.revoke(old.id);
      else say(`When every worker has the new one: atelier token revoke ${old.id}`);
    });
  token
    .command('certificate')
    .description('make a client certificate for a worker (mutual TLS, signed by the CA of the cluster)')
    .argument('<name>', 'name of the worker')
    .option('--out <folder>', 'where NAME.pem and NAME-key.pem go', '.')
    .option(...stateDir)
    .action(async (name: string, flags: StateFlags & { out: string }) => {
      await certificate(name, flags);
    });
}

async function create(flags: CreateFlags): Promise<void> {
  const { folder, store } = open(flags);
  if (flags.note.length > MAX_NOTE_CHARS) {
    throw new AtelierError('usage', `--note is longer than ${MAX_NOTE_CHARS} characters`);
  }
  const wanted: NewToken = { scope: flags.scope, note: flags.note, lifetimeMs: lifetime(flags.expires) };
  const authority = await ensureAuthority(folder, Date.now());
  const pin = flags.ownCertificate === true ? null : pinOf(authority.certificate);
  const { text, stored } = store.create(wanted, pin);
  const until = stored.expiresAt === null ? 'without end' : `until ${stored.expiresAt}`;
  say(
    `Token ${stored.id}, scope ${stored.scope}, ${until}. It is not kept: this is the only time it is shown.`,
  );
  if (flags.out !== undefined) {
    writeFileAtomic(flags.out, `${text}\n`, PRIVATE_FILE_MODE);
    say(`On each machine: atelier worker --join wss://HOST:7077 --token-file ${flags.out}`);
    return;
  }
  if (process.stdout.isTTY) {
    const line = stored.scope === 'worker' ? 'atelier worker --join wss://HOST:7077' : 'atelier status';
    process.stdout.write(`ATELIER_TOKEN=${text} ${line}\n`);
  } else process.stdout.write(`${text}\n`);
}

function list(flags: StateFlags & { json?: boolean }): void {
  const { store } = open(flags);
  const tokens = store.list().map((token) => {
    const { id, scope, note, createdAt, expiresAt, revokedAt } = token;
    return { id, scope, note, createdAt, expiresAt, revokedAt, status: store.status(token) };
  });
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify(tokens)}\n`);
    return;
  }
  const table = new Table({
    head: ['id', 'scope', 'status', 'created', 'expires', 'note'],
    style: { head: [] },
  });
  for (const { id, scope, status, createdAt, expiresAt, note } of tokens) {
    table.push([id, scope, status, createdAt, expiresAt ?? 'never', note]);
  }
  process.stdout.write(`${table.toString()}\n`);
}

async function certificate(name: string, flags: StateFlags & { out: string }): Promise<void> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) {
    throw new AtelierError('usage', `${name}: a name has letters, digits, dots and dashes, 63 at most`);
  }
  const { folder } = open(flags);
  const pair = await issueClientCertificate(folder, name, Date.now());
  const [certificateFile, keyFile] = [join(flags.out, `${name}.pem`), join(flags.out, `${name}-key.pem`)];
  writeFileAtomic(keyFile, pair.key, PRIVATE_FILE_MODE);
  writeFileAtomic(certificateFile, pair.certificate);
  say(`Coordinator: --tls-client-ca ${folder.caCertificate}`);
  say(`Worker: --tls-cert ${certificateFile} --tls-key ${keyFile}`);
}

function open(flags: StateFlags): { folder: ClusterFolder; store: TokenStore } {
  const folder = openClusterFolder(clusterFolderPath(flags.stateDir, process.env));
  return { folder, store: new TokenStore(folder, () => Date.now()) };
}

/** The id in what somebody pasted: an id, or a whole token. */
const idOf = (text: string): string => parseJoinToken(text)?.id ?? text;

/**
 * Milliseconds of a time such as `12h`; null for `never`.
 * @throws AtelierError `usage`
 */
export function lifetime(text: string): number | null {
  if (text === 'never') return null;
  const match = /^([1-9]\d{0,5})([mhd])$/.exec(text);
  if (match === null) {
    throw new AtelierError('usage', `--expires ${text}: expected a time such as 90m, 12h or 30d, or never`);
  }
  return Number(match[1]) * UNITS_MS[match[2] as keyof typeof UNITS_MS];
}

const say = (text: string): boolean => process.stderr.write(`${text}\n`);
