import { X509Certificate } from 'node:crypto';
import { chownSync, copyFileSync, lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type PeerCertificate } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { serverSecurity, type SecurityFlags } from '../../cli/security.js';
import { ensureAuthority, ensureServerCertificate, pinOf } from '../../coordinator/security/certificates.js';
import { openClusterFolder } from '../../coordinator/security/cluster-folder.js';
import { TlsIdentity } from '../../coordinator/security/tls-identity.js';
import { TokenStore } from '../../coordinator/security/token-store.js';
import { CoordinatorServer } from '../../coordinator/server.js';
import { Traffic } from '../../coordinator/traffic.js';
import { systemClock } from '../../shared/clock.js';
import { parseJoinToken } from '../../shared/join-token.js';
import { startDoor, workerToken } from '../support/door.js';
import { atelierError, atelierRejection } from '../support/errors.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const temporary = temporaryFolder();
const DAY_MS = 86_400_000;
let made = 0;
const newFolder = (): string => join(temporary, `state-${made++}`);

describe('a coordinator', () => {
  const NETWORK = { host: '10.0.0.5', port: 7077 };
  const LOOPBACK = { host: '127.0.0.1', port: 0 };
  const secret = 'x'.repeat(32);
  const open = (listen: typeof NETWORK, flags: SecurityFlags, env: NodeJS.ProcessEnv = {}) =>
    serverSecurity(listen, { stateDir: newFolder(), ...flags }, env, systemClock);

  test('on loopback is open to this machine, in clear', async () => {
    const { security, localToken } = await open(LOOPBACK, {});
    expect({ ...security, localToken }).toEqual({
      authenticator: null,
      tls: null,
      hostNames: [],
      localToken: null,
    });
  });

  test('on loopback wants a token when there is one', async () => {
    const { security, localToken } = await open(LOOPBACK, {}, { ATELIER_TOKEN: secret });
    expect(localToken).toBe(secret);
    expect(security.authenticator?.authenticate(secret)).toMatchObject({ scopes: ['worker'] });
    expect(security.authenticator?.authenticate('y'.repeat(32))).toHaveProperty('denied');
  });

  test.each<[string, SecurityFlags, RegExp]>([
    ['without a token', {}, /atelier token create/],
    ['in clear without a token', { insecure: true }, /workers need a token/],
    ['both in clear and over TLS', { insecure: true, tls: true }, /opposite/],
    ['with a certificate and no key', { tlsCert: 'a.pem' }, /go together/],
  ])('on a network is refused %s', async (_name, flags, message) => {
    expect((await atelierRejection('usage', open(NETWORK, flags))).message).toMatch(message);
  });

  test('on a network has TLS and knows the tokens of its cluster, and its own workers', async () => {
    const stateDir = newFolder();
    const folder = openClusterFolder(stateDir);
    const pin = pinOf((await ensureAuthority(folder, Date.now())).certificate);
    const store = new TokenStore(folder, () => Date.now());
    const { text } = store.create({ scope: 'worker', note: '', lifetimeMs: DAY_MS }, pin);
    const { security, localToken } = await open(NETWORK, { stateDir });
    expect(security.tls?.pin).toBe(pin);
    expect(security.authenticator?.authenticate(text)).toMatchObject({ scopes: ['worker'], isLocal: false });
    expect(security.authenticator?.authenticate(localToken ?? '')).toMatchObject({ isLocal: true });
    expect(parseJoinToken(localToken ?? '')?.pin).toBe(pin);
  });

  test('is not started with a token of another cluster', async () => {
    const other = await startDoor(temporary);
    const error = await atelierRejection('usage', open(NETWORK, {}, { ATELIER_TOKEN: workerToken(other) }));
    expect(error.message).toContain('another certificate authority');
  });
});

describe('the certificate', () => {
  test('is kept, until it nears its end or a name is missing; the CA stays', async () => {
    const folder = openClusterFolder(newFolder());
    const now = Date.now();
    const first = await ensureServerCertificate(folder, [], now);
    expect(await ensureServerCertificate(folder, [], now + 300 * DAY_MS)).toEqual(first);
    const later = await ensureServerCertificate(folder, [], now + 340 * DAY_MS);
    expect(later).not.toEqual(first);
    const named = await ensureServerCertificate(folder, ['trainer.example', '10.0.0.5'], now + 340 * DAY_MS);
    const leaf = new X509Certificate(named.certificate);
    expect([leaf.checkHost('trainer.example'), leaf.checkIP('10.0.0.5')]).not.toContain(undefined);
    expect(leaf.verify(new X509Certificate(readFileSync(folder.caCertificate)).publicKey)).toBe(true);
    expect(leaf.ca).toBe(false);
  });

  test('without its CA key is refused with what to do', async () => {
    const folder = openClusterFolder(newFolder());
    writeFileSync(folder.caCertificate, 'x');
    const error = await atelierRejection('usage', ensureAuthority(folder, Date.now()));
    expect(error.message).toContain('ca-key.pem');
  });

  test('of one with the key of another is refused', async () => {
    const [one, other] = [openClusterFolder(newFolder()), openClusterFolder(newFolder())];
    await ensureServerCertificate(one, [], Date.now());
    await ensureServerCertificate(other, [], Date.now());
    const source = { kind: 'files', certificate: one.serverCertificate, key: other.serverKey } as const;
    const error = await atelierRejection('usage', TlsIdentity.load(source, null, systemClock));
    expect(error.message).toContain('is not the key of');
  });

  test('that has changed on the disk is used without a restart; a damaged one is reported and not used', async () => {
    const clock = new FakeClock();
    const [one, other] = [openClusterFolder(newFolder()), openClusterFolder(newFolder())];
    await ensureServerCertificate(one, [], Date.now());
    await ensureServerCertificate(other, [], Date.now());
    const source = { kind: 'files', certificate: one.serverCertificate, key: one.serverKey } as const;
    const tls = await TlsIdentity.load(source, null, clock);
    const troubles: string[] = [];
    let changed = (): void => undefined;
    const server = await CoordinatorServer.listen({
      listen: { host: '127.0.0.1', port: 0 },
      security: { authenticator: new TokenStore(one, () => clock.now()), tls, hostNames: [] },
      listener: {
        ...{ traffic: new Traffic(), greeted: () => ({ refused: '' }) },
        ...{ joined: changed, received: changed, closed: changed },
      },
      clock,
      onTrouble: (message) => {
        troubles.push(message);
        changed();
      },
    });
    onTestFinished(() => server.close());
    const shown = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect({
          host: '127.0.0.1',
          port: Number(new URL(server.url).port),
          rejectUnauthorized: false,
        });
        socket.once('error', reject);
        socket.once('secureConnect', () => {
          const certificate: PeerCertificate = socket.getPeerCertificate();
          socket.destroy();
          resolve(certificate.fingerprint256);
        });
      });
    const fingerprint = (file: string): string => new X509Certificate(readFileSync(file)).fingerprint256;
    expect(await shown()).toBe(fingerprint(one.serverCertificate));

    const trouble = new Promise<void>((resolve) => (changed = resolve));
    copyFileSync(other.serverCertificate, one.serverCertificate);
    clock.advance(60_000);
    await trouble;
    expect(troubles).toEqual([expect.stringContaining('was not reloaded')]);
    expect(await shown()).not.toBe(fingerprint(other.serverCertificate));

    copyFileSync(other.serverKey, one.serverKey);
    await expect
      .poll(async () => {
        clock.advance(60_000);
        return shown();
      })
      .toBe(fingerprint(other.serverCertificate));
  });
});

describe.skipIf(process.getuid?.() !== 0)('a cluster folder of another user', () => {
  test('holds nothing that this user cannot read, when root makes tokens and certificates in it', async () => {
    const user = 12_345;
    const path = newFolder();
    openClusterFolder(path);
    chownSync(path, user, user);
    chownSync(join(path, 'tokens'), user, user);
    const folder = openClusterFolder(path);
    await ensureServerCertificate(folder, [], Date.now());
    const store = new TokenStore(folder, () => Date.now());
    const [kept, revoked] = [0, 1].map(() =>
      store.create({ scope: 'worker', note: '', lifetimeMs: null }, null),
    );
    store.revoke(revoked?.stored.id ?? '');
    const files = readdirSync(path, { recursive: true, encoding: 'utf8' });
    expect(files).toContain(`tokens/${kept?.stored.id ?? ''}.json`);
    expect(files.map((file) => [file, lstatSync(join(path, file)).uid])).toEqual(
      files.map((file) => [file, user]),
    );
  });
});

describe('tokens', () => {
  test('are listed without their secrets, and revoked by id', async () => {
    const door = await startDoor(temporary);
    const token = workerToken(door, DAY_MS);
    const id = parseJoinToken(token)?.id ?? '';
    expect(door.store.list().map((stored) => [stored.id, door.store.status(stored)])).toEqual([[id, 'live']]);
    expect(JSON.stringify(door.store.list())).not.toContain(parseJoinToken(token)?.secret);
    door.clock.advance(DAY_MS);
    expect(door.store.status(door.store.require(id))).toBe('expired');
    expect(door.store.status(door.store.revoke(id))).toBe('revoked');
    atelierError('usage', () => door.store.revoke('../../etc/x'));
  });

  test('whose file is damaged let nobody in', async () => {
    const door = await startDoor(temporary);
    const token = workerToken(door);
    writeFileSync(join(door.folder.tokens, `${parseJoinToken(token)?.id ?? ''}.json`), '{"id":');
    expect(door.store.authenticate(token)).toHaveProperty('denied');
  });
});
