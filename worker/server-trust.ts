import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { connect, type ConnectionOptions, type DetailedPeerCertificate } from 'node:tls';
import { AtelierError, messageOf } from '../shared/errors.js';
import { parseJoinToken } from '../shared/join-token.js';
import { HANDSHAKE_TIMEOUT_MS } from '../shared/protocol/limits.js';

/** How a worker checks the coordinator's certificate, and the certificate it shows itself. */
export type ServerTrust = Pick<
  ConnectionOptions,
  'ca' | 'cert' | 'key' | 'minVersion' | 'checkServerIdentity' | 'allowPartialTrustChain'
>;

/** PEM texts given by the user. */
export interface TrustMaterial {
  /** CAs to trust instead of the system's, for a coordinator with a certificate of its own. */
  readonly ca?: string;
  /** A client certificate and its key, for a coordinator that wants mutual TLS. */
  readonly certificate?: string;
  readonly key?: string;
}

/** A chain longer than this is not looked through. */
const MAX_CHAIN = 8;

/**
 * What to connect with, so that the token goes to nobody but a coordinator of its cluster. A token that pins a CA is
 * checked by a connection of its own, on which nothing is sent: the CA that the server shows must have the pinned
 * hash; from then on it is the only one trusted. Its certificates are for coordinators of one cluster alone, so any
 * name or address may lead to one.
 *
 * @returns options for every connection to this coordinator, or why nobody answered (trying again may help)
 * @throws AtelierError `refused` when the server is another one, `usage` when the token must not be sent in clear
 */
export async function serverTrust(
  url: URL,
  token: string | null,
  material: TrustMaterial,
): Promise<ServerTrust | { unreachable: string }> {
  const pin = token === null ? null : (parseJoinToken(token)?.pin ?? null);
  if (url.protocol === 'ws:') {
    if (pin === null) return {};
    throw new AtelierError(
      'usage',
      `--join ${url.href}: this token belongs to a cluster with TLS and is not sent in clear: join with wss://`,
    );
  }
  const own: ServerTrust = {
    minVersion: 'TLSv1.3',
    ...(material.certificate === undefined ? {} : { cert: material.certificate }),
    ...(material.key === undefined ? {} : { key: material.key }),
  };
  if (pin === null) return material.ca === undefined ? own : { ...own, ca: material.ca };

  let chain: X509Certificate[];
  try {
    chain = await chainOf(url, own);
  } catch (error) {
    return { unreachable: messageOf(error) };
  }
  const authority = chain.find((certificate) => sha256Of(certificate) === pin);
  if (authority === undefined) {
    throw new AtelierError(
      'refused',
      `${url.host} is not a coordinator of this token's cluster: its certificates do not come from the CA with SHA-256 ` +
        `${pin.slice(0, 16)}... Nothing was sent. Check the address; if the cluster was set up anew, get a new token`,
    );
  }
  const isPinned = { ca: authority.toString(), allowPartialTrustChain: true };
  return { ...own, ...isPinned, checkServerIdentity: () => undefined };
}

const sha256Of = (certificate: X509Certificate): string =>
  certificate.fingerprint256.replaceAll(':', '').toLowerCase();

/** The certificates that a server shows, leaf first, not checked in any way. Nothing is sent to it. */
function chainOf(url: URL, own: ServerTrust): Promise<X509Certificate[]> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return new Promise((resolve, reject) => {
    const socket = connect({
      ...own,
      host,
      port: Number(url.port || 443),
      ...(isIP(host) === 0 ? { servername: host } : {}),
      rejectUnauthorized: false,
    });
    socket.setTimeout(HANDSHAKE_TIMEOUT_MS, () => socket.destroy(new Error('no TLS handshake in time')));
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      const chain: X509Certificate[] = [];
      let next: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
      while (next?.raw !== undefined && chain.length < MAX_CHAIN) {
        chain.push(new X509Certificate(next.raw));
        next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
      }
      socket.destroy();
      resolve(chain);
    });
  });
}
