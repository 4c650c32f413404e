import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { AtelierError, messageOf } from '../../shared/errors.js';
import { formatJoinToken, isTokenId, parseJoinToken, SCOPES, type Scope } from '../../shared/join-token.js';
import { WRONG_TOKEN, type Authenticator, type Denial, type Grant } from './authenticator.js';
import { writePrivateFile, type ClusterFolder } from './cluster-folder.js';

/** The most tokens of a cluster: listing them stays quick. */
const MAX_TOKENS = 10_000;

const StoredToken = z.strictObject({
  id: z.string().refine(isTokenId),
  scope: z.enum(SCOPES),
  /** SHA-256 of the secret, in hexadecimal digits. The secret has 256 random bits: no slow hash is needed. */
  secretSha256: z.string().regex(/^[0-9a-f]{64}$/),
  note: z.string().max(200),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().nullable(),
  revokedAt: z.iso.datetime().nullable(),
});
export type StoredToken = z.infer<typeof StoredToken>;

export type TokenStatus = 'live' | 'expired' | 'revoked';

export interface NewToken {
  readonly scope: Scope;
  readonly note: string;
  /** Milliseconds it holds; null for ever. */
  readonly lifetimeMs: number | null;
}

/**
 * The tokens of a cluster: one file each, with the hash of the secret, readable by the owner alone. A coordinator reads
 * the file at each login, so that what `atelier token` changes holds at once, without a signal or a restart.
 */
export class TokenStore implements Authenticator {
  private readonly folder: ClusterFolder;
  private readonly now: () => number;

  constructor(folder: ClusterFolder, now: () => number) {
    this.folder = folder;
    this.now = now;
  }

  /**
   * @param pin of the server that the bearer must find
   * @returns the token, which is not kept anywhere: it can be shown once
   */
  create({ scope, note, lifetimeMs }: NewToken, pin: string | null): { text: string; stored: StoredToken } {
    if (this.ids().length >= MAX_TOKENS) {
      throw new AtelierError(
        'usage',
        `${this.folder.tokens} holds ${MAX_TOKENS} tokens: delete the files of old ones`,
      );
    }
    const id = randomBytes(6).toString('hex');
    const secret = randomBytes(32).toString('base64url');
    const now = this.now();
    const stored: StoredToken = {
      id,
      scope,
      secretSha256: sha256(secret).toString('hex'),
      note,
      createdAt: new Date(now).toISOString(),
      expiresAt: lifetimeMs === null ? null : new Date(now + lifetimeMs).toISOString(),
      revokedAt: null,
    };
    this.write(stored);
    return { text: formatJoinToken({ pin, id, secret }), stored };
  }

  list(): StoredToken[] {
    return this.ids()
      .map((id) => this.read(id))
      .filter((token) => token !== null)
      .sort((a, b) => a.createdAt.localeCompare(b.createdAt));
  }

  /** @throws AtelierError `usage` when there is no such token */
  revoke(id: string): StoredToken {
    const token = this.require(id);
    if (token.revokedAt !== null) return token;
    const revoked = { ...token, revokedAt: new Date(this.now()).toISOString() };
    this.write(revoked);
    return revoked;
  }

  /** @throws AtelierError `usage` when there is no such token */
  require(id: string): StoredToken {
    const token = isTokenId(id) ? this.read(id) : null;
    if (token === null) throw new AtelierError('usage', `no token ${id}: "atelier token list" shows them`);
    return token;
  }

  status(token: StoredToken): TokenStatus {
    if (token.revokedAt !== null) return 'revoked';
    return token.expiresAt !== null && Date.parse(token.expiresAt) <= this.now() ? 'expired' : 'live';
  }

  authenticate(text: string): Grant | Denial {
    const parsed = parseJoinToken(text);
    const token = parsed === null ? null : this.read(parsed.id);
    // An unknown token costs the same comparison as a wrong secret.
    const expected = token === null ? sha256('') : Buffer.from(token.secretSha256, 'hex');
    const matches = timingSafeEqual(sha256(parsed?.secret ?? ''), expected);
    if (token === null || parsed === null || !matches) return { denied: WRONG_TOKEN };
    const status = this.status(token);
    if (status !== 'live') {
      return { denied: `This token is ${status}: "atelier token create" on the coordinator makes another.` };
    }
    const isLive = (): boolean => {
      const again = this.read(token.id);
      return again !== null && this.status(again) === 'live';
    };
    return { tokenId: token.id, scopes: [token.scope], isLive, isLocal: false };
  }

  private ids(): string[] {
    return readdirSync(this.folder.tokens)
      .map((name) => name.replace(/\.json$/, ''))
      .filter(isTokenId);
  }

  /** Null when there is none, or when its file is damaged: nobody gets in with such a token. */
  private read(id: string): StoredToken | null {
    try {
      return StoredToken.parse(JSON.parse(readFileSync(this.file(id), 'utf8')));
    } catch {
      return null;
    }
  }

  private write(token: StoredToken): void {
    try {
      writePrivateFile(this.folder, this.file(token.id), `${JSON.stringify(token, null, 2)}\n`);
    } catch (cause) {
      throw new AtelierError('usage', `cannot write the token: ${messageOf(cause)}`, { cause });
    }
  }

  private file(id: string): string {
    return join(this.folder.tokens, `${id}.json`);
  }
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
