import { createHash, timingSafeEqual } from 'node:crypto';
import type { Scope } from '../../shared/join-token.js';

/** Who somebody turned out to be. `tokenId` is not secret. */
export interface Grant {
  readonly tokenId: string;
  readonly scopes: readonly Scope[];
  /** Whether it still holds: false once it has expired or been revoked. */
  readonly isLive: () => boolean;
  /** Started by the coordinator itself: needs no client certificate. */
  readonly isLocal: boolean;
}

/** Why somebody was not let in; for people, and never with anything of what they sent. */
export interface Denial {
  readonly denied: string;
}

/** Knows the bearers of tokens. */
export interface Authenticator {
  authenticate(token: string): Grant | Denial;
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Compares hashes, which have one length: it takes the same time whatever was sent. */
export const sameText = (one: string, other: string): boolean => timingSafeEqual(digest(one), digest(other));

export const WRONG_TOKEN = 'The token is missing or wrong. Give the worker the token of this cluster.';

/** One secret that every worker knows. */
export class SharedSecret implements Authenticator {
  private readonly secret: string;
  private readonly grant: Grant;

  constructor(secret: string, grant: Partial<Grant> = {}) {
    this.secret = secret;
    this.grant = {
      tokenId: 'shared-secret',
      scopes: ['worker'],
      isLive: () => true,
      isLocal: false,
      ...grant,
    };
  }

  authenticate(token: string): Grant | Denial {
    return sameText(token, this.secret) ? this.grant : { denied: WRONG_TOKEN };
  }
}

/** Lets in whom any of several lets in; else says what the last of them says. */
export class AnyOf implements Authenticator {
  private readonly members: readonly Authenticator[];

  constructor(members: readonly Authenticator[]) {
    this.members = members;
  }

  authenticate(token: string): Grant | Denial {
    let denial: Denial = { denied: WRONG_TOKEN };
    for (const member of this.members) {
      const answer = member.authenticate(token);
      if (!('denied' in answer)) return answer;
      denial = answer;
    }
    return denial;
  }
}
