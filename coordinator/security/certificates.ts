// tsyringe, which @peculiar/x509 is built on, wants it loaded first.
import 'reflect-metadata';
import { createPrivateKey, randomBytes, webcrypto, X509Certificate as NodeCertificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import * as x509 from '@peculiar/x509';
import { AtelierError, messageOf } from '../../shared/errors.js';
import { writePrivateFile, writePublicFile, type ClusterFolder } from './cluster-folder.js';

const DAY_MS = 24 * 60 * 60 * 1000;
const CA_DAYS = 3_650;
const LEAF_DAYS = 365;
/** A certificate with less than this left is made anew. */
const RENEW_BEFORE_MS = 30 * DAY_MS;
/** Clocks of a cluster may differ by this much. */
const CLOCK_SKEW_MS = 60 * 60 * 1000;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

x509.cryptoProvider.set(webcrypto);

/** A certificate chain, leaf first, and the leaf's key; both PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** SHA-256 of the DER form of a PEM certificate, in hexadecimal digits: what a join token pins. */
export const pinOf = (certificate: string): string =>
  new NodeCertificate(certificate).fingerprint256.replaceAll(':', '').toLowerCase();

/**
 * The cluster's CA: P-256, ten years, made when there is none. It can sign nothing but end certificates.
 * @throws AtelierError `usage` when the files are there but damaged, or half of them
 */
export async function ensureAuthority(folder: ClusterFolder, now: number): Promise<KeyPair> {
  const there = [folder.caCertificate, folder.caKey].map((file) => existsSync(file));
  if (there.every(Boolean)) return readKeyPair(folder.caCertificate, folder.caKey);
  if (there.some(Boolean)) {
    throw new AtelierError(
      'usage',
      `${folder.path} has only one of ca.pem and ca-key.pem: put the other back, or start a new cluster in an empty ` +
        `--state-dir (its tokens must be made anew)`,
    );
  }
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=Atelier cluster ${randomBytes(4).toString('hex')}`,
    notBefore: new Date(now - CLOCK_SKEW_MS),
    notAfter: new Date(now + CA_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys: keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const made = { certificate: `${certificate.toString('pem')}\n`, key: await privateKeyPem(keys.privateKey) };
  writePrivateFile(folder, folder.caKey, made.key);
  writePublicFile(folder, folder.caCertificate, made.certificate);
  return made;
}

/**
 * The coordinator's certificate, followed by the CA. Made anew when there is none, when it ends within 30 days, when
 * another CA signed it, or when a name is missing.
 * @param names host names and IP addresses by which workers call it, beyond those this machine knows itself
 */
export async function ensureServerCertificate(
  folder: ClusterFolder,
  names: readonly string[],
  now: number,
): Promise<KeyPair> {
  const authority = await ensureAuthority(folder, now);
  const wanted = [...new Set([...ownNames(), ...names])];
  if (existsSync(folder.serverCertificate) && existsSync(folder.serverKey)) {
    const present = readKeyPair(folder.serverCertificate, folder.serverKey);
    if (isGood(present.certificate, authority.certificate, wanted, now)) return present;
  }
  const made = await issue(authority, 'Atelier coordinator', wanted, x509.ExtendedKeyUsage.serverAuth, now);
  writePrivateFile(folder, folder.serverKey, made.key);
  writePublicFile(folder, folder.serverCertificate, made.certificate);
  return made;
}

/** A certificate with which a worker shows who it is (mutual TLS). It cannot be used by a server. */
export async function issueClientCertificate(
  folder: ClusterFolder,
  name: string,
  now: number,
): Promise<KeyPair> {
  return issue(await ensureAuthority(folder, now), name, [name], x509.ExtendedKeyUsage.clientAuth, now);
}

/**
 * Reads a certificate and its key.
 * @throws AtelierError `usage` when they cannot be read or do not belong together
 */
export function readKeyPair(certificateFile: string, keyFile: string): KeyPair {
  try {
    const pair = { certificate: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
    if (new NodeCertificate(pair.certificate).checkPrivateKey(createPrivateKey(pair.key))) return pair;
  } catch (cause) {
    throw new AtelierError('usage', `${certificateFile} and ${keyFile}: ${messageOf(cause)}`, { cause });
  }
  throw new AtelierError('usage', `${keyFile} is not the key of ${certificateFile}`);
}

function isGood(chain: string, authority: string, names: readonly string[], now: number): boolean {
  const leaf = new NodeCertificate(chain);
  const issuer = new NodeCertificate(authority);
  return (
    Date.parse(leaf.validTo) - now > RENEW_BEFORE_MS &&
    leaf.verify(issuer.publicKey) &&
    names.every((name) => (isIP(name) === 0 ? leaf.checkHost(name) : leaf.checkIP(name)) !== undefined)
  );
}

async function issue(
  authority: KeyPair,
  commonName: string,
  names: readonly string[],
  usage: x509.ExtendedKeyUsage,
  now: number,
): Promise<KeyPair> {
  const issuer = new x509.X509Certificate(authority.certificate);
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [{ CN: [commonName] }],
    issuer: issuer.subject,
    notBefore: new Date(now - CLOCK_SKEW_MS),
    notAfter: new Date(now + LEAF_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: await importPrivateKey(authority.key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([usage]),
      new x509.SubjectAlternativeNameExtension(
        names.map((value) => ({ type: isIP(value) === 0 ? ('dns' as const) : ('ip' as const), value })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return {
    certificate: `${certificate.toString('pem')}\n${authority.certificate}`,
    key: await privateKeyPem(keys.privateKey),
  };
}

/** What this machine may be called: localhost, its name, its addresses. */
function ownNames(): string[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .map(({ address }) => address)
    .filter((address) => !address.startsWith('fe80:'));
  return ['localhost', hostname(), '127.0.0.1', '::1', ...addresses];
}

/** RFC 5280, 4.1.2.2: positive, at most 20 octets. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
  return bytes.toString('hex');
}

async function privateKeyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key);
  return `${x509.PemConverter.encode(der, x509.PemConverter.PrivateKeyTag)}\n`;
}

async function importPrivateKey(pem: string): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' });
  return webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
}
