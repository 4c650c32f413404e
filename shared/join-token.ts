/** What a token lets its bearer do. */
export const SCOPES = ['worker', 'admin', 'read'] as const;
export type Scope = (typeof SCOPES)[number];

/**
 * A token as people pass it on: `atelier1.<pin>.<id>.<secret>`.
 *
 * `pin` is the SHA-256 of the DER form of the cluster's CA, so that the bearer can check the server before it sends the
 * token (k3s and kubeadm do the same). `-` stands for a server with a certificate of its own, which is checked as
 * browsers do.
 */
export interface JoinToken {
  /** 64 hexadecimal digits, or null. */
  readonly pin: string | null;
  /** Not secret: names the token in lists and logs. */
  readonly id: string;
  /** 256 random bits. */
  readonly secret: string;
}

const PREFIX = 'atelier1';
const SHAPE = /^atelier1\.([0-9a-f]{64}|-)\.([0-9a-f]{12})\.([A-Za-z0-9_-]{43})$/;
const ID_SHAPE = /^[0-9a-f]{12}$/;

export const isTokenId = (text: string): boolean => ID_SHAPE.test(text);

export const formatJoinToken = ({ pin, id, secret }: JoinToken): string =>
  `${PREFIX}.${pin ?? '-'}.${id}.${secret}`;

/** The parts of a token; null for any other text, such as a shared secret. */
export function parseJoinToken(text: string): JoinToken | null {
  const match = SHAPE.exec(text);
  if (match === null) return null;
  const [, pin = '-', id = '', secret = ''] = match;
  return { pin: pin === '-' ? null : pin, id, secret };
}
