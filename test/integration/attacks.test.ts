import { readdirSync, readFileSync, statSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect as tcpConnect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { issueClientCertificate } from '../../coordinator/security/certificates.js';
import { openClusterFolder } from '../../coordinator/security/cluster-folder.js';
import { parseJoinToken } from '../../shared/join-token.js';
import {
  CloseCode,
  FRUITLESS_REFILL_MS,
  HANDSHAKE_TIMEOUT_MS,
  LOGIN_REFILL_MS,
  MAX_FRUITLESS_CONNECTIONS,
  MAX_GREETING_BYTES,
  MAX_PENDING_PER_ADDRESS,
  MAX_REFUSED_LOGINS,
  SUBPROTOCOL,
  TOKEN_CHECK_INTERVAL_MS,
} from '../../shared/protocol/limits.js';
import { serverTrust } from '../../worker/server-trust.js';
import { openSocket } from '../../worker/session.js';
import { joinDoor, startDoor, workerToken, type TestDoor } from '../support/door.js';
import { atelierRejection } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const SECRET = 'correct-horse-battery-staple';
const HOUR_MS = 3_600_000;

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: IncomingHttpHeaders;
}

/** What the door answers to an upgrade, or to a request of another method. 101 is: in. */
function ask(
  door: TestDoor,
  {
    headers = {},
    path = '/',
    method = 'UPGRADE',
  }: { headers?: Record<string, string>; path?: string; method?: string } = {},
): Promise<Answer> {
  const upgrade = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'MDEyMzQ1Njc4OWFiY2RlZg==',
    'sec-websocket-protocol': SUBPROTOCOL,
  };
  const isUpgrade = method === 'UPGRADE';
  const options = {
    host: '127.0.0.1',
    port: door.port,
    path,
    method: isUpgrade ? 'GET' : method,
    headers: { ...(isUpgrade ? upgrade : {}), ...headers },
    agent: false,
  };
  return new Promise((resolve, reject) => {
    const request = door.url.startsWith('wss')
      ? httpsRequest({ ...options, rejectUnauthorized: false })
      : httpRequest(options);
    request.once('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: 101, text: '', headers: response.headers });
    });
    request.once('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text, headers: response.headers }),
      );
    });
    request.once('error', reject);
    request.end();
  });
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

const closing = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.on('error', () => undefined);
    if (socket.closed) resolve();
    socket.once('close', () => resolve());
    socket.resume();
  });

/** A connection that the door has accepted. */
/** Resolves when it is connected; or closed, if the door was quicker. */
async function tcp(door: TestDoor): Promise<Socket> {
  const socket = tcpConnect(door.port, '127.0.0.1');
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve));
  return socket;
}

describe('a worker with a token of the cluster', () => {
  test('gets in over TLS 1.3, and its token is nowhere on the disk', async () => {
    const door = await startDoor(folder);
    const token = workerToken(door);
    await joinDoor(door.url, token);
    expect(door.doorman.joinedSessions).toHaveLength(1);
    const secret = parseJoinToken(token)?.secret ?? '';
    const files = readdirSync(door.folder.path, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    expect(files.map(({ name }) => name)).toContain('ca.pem');
    for (const { parentPath, name } of files) {
      const path = join(parentPath, name);
      expect(readFileSync(path, 'utf8')).not.toContain(secret);
      if (!['ca.pem', 'server.pem'].includes(name))
        expect([name, statSync(path).mode & 0o777]).toEqual([name, 0o600]);
    }
  });

  test('gets in by a name that no certificate bears, since only the CA counts', async () => {
    const door = await startDoor(folder, { hostNames: ['localhost.localdomain'] });
    const trust = await serverTrust(new URL(door.url), workerToken(door), {});
    expect(trust).toMatchObject({ minVersion: 'TLSv1.3' });
  });
});

describe('nobody gets in', () => {
  test.each<[string, (door: TestDoor) => string | undefined, number]>([
    ['without a token', () => undefined, 401],
    ['with an empty token', () => '', 401],
    ['with a wrong secret', (door) => workerToken(door).slice(0, -4) + 'AAAA', 401],
    ['with an unknown token', (door) => workerToken(door).replace(/\.[0-9a-f]{12}\./, '.0123456789ab.'), 401],
    ['with a token that would be a path', () => `atelier1.-.../../../../a.${'A'.repeat(43)}`, 401],
    ['with an expired token', (door) => expired(door), 401],
    ['with a revoked token', (door) => revoked(door), 401],
    ['with a token to read', (door) => scoped(door, 'read'), 403],
    ['with a token to administer', (door) => scoped(door, 'admin'), 403],
  ])('%s', async (_name, tokenOf, status) => {
    const door = await startDoor(folder);
    const token = tokenOf(door);
    const answer = await ask(door, { headers: token === undefined ? {} : bearer(token) });
    expect(answer.status).toBe(status);
    if (token !== undefined && token !== '') expect(answer.text).not.toContain(token);
    expect(door.doorman.joinedSessions).toEqual([]);
  });

  test('with the token in the query, right as it may be', async () => {
    const door = await startDoor(folder);
    const token = workerToken(door);
    expect((await ask(door, { path: `/?token=${token}` })).status).toBe(400);
    expect((await ask(door, { path: `/?token=${token}`, headers: bearer(token) })).status).toBe(400);
    expect((await ask(door, { headers: bearer(token) })).status).toBe(101);
  });

  test.each([['UPGRADE'], ['GET'], ['POST'], ['PUT'], ['DELETE'], ['OPTIONS']])(
    'from a page of another origin, by %s',
    async (method) => {
      const door = await startDoor(folder);
      const headers = { ...bearer(workerToken(door)), origin: 'https://evil.example' };
      const { status, headers: answered } = await ask(door, { method, headers });
      expect(status).toBe(403);
      expect(answered['access-control-allow-origin']).toBeUndefined();
    },
  );

  test.each([['UPGRADE'], ['GET'], ['POST']])(
    'by %s from a page whose name was rebound to our address',
    async (method) => {
      const door = await startDoor(folder, { hostNames: ['trainer.example'] });
      const to = (host: string): Promise<Answer> =>
        ask(door, { method, headers: { ...bearer(token), host } });
      const token = workerToken(door);
      expect((await to(`evil.example:${door.port}`)).status).toBe(421);
      expect((await to('127.0.0.1.evil.example')).status).toBe(421);
      expect((await to('evil@127.0.0.1')).status).toBe(421);
      const welcome = method === 'UPGRADE' ? 101 : 426;
      for (const host of [`127.0.0.1:${door.port}`, '[::1]:7077', 'localhost', 'TRAINER.example:7077']) {
        expect([host, (await to(host)).status]).toEqual([host, welcome]);
      }
    },
  );

  test('over plain ws on a port with TLS', async () => {
    const door = await startDoor(folder);
    const socket = new WebSocket(door.url.replace('wss:', 'ws:'), SUBPROTOCOL, {
      headers: bearer(workerToken(door)),
    });
    const error = await new Promise<Error>((resolve) => socket.once('error', resolve));
    expect(error.message).toMatch(/hang up|ECONNRESET/);
  });

  test('over TLS 1.2', async () => {
    const door = await startDoor(folder);
    const socket = tlsConnect({
      host: '127.0.0.1',
      port: door.port,
      maxVersion: 'TLSv1.2',
      rejectUnauthorized: false,
    });
    const error = await new Promise<Error>((resolve) => socket.once('error', resolve));
    expect(error.message).toMatch(/protocol version/i);
  });

  test('without a client certificate where one is wanted', async () => {
    const issuer = openClusterFolder(join(folder, 'client-ca'));
    const client = await issueClientCertificate(issuer, 'w1', Date.now());
    const door = await startDoor(folder, { clientAuthority: issuer.caCertificate });
    const token = workerToken(door);
    await expect(joinDoor(door.url, token)).rejects.toThrow('401');

    const other = await issueClientCertificate(openClusterFolder(join(folder, 'other-ca')), 'w1', Date.now());
    for (const [pair, outcome] of [
      [other, 'refused'],
      [client, 'in'],
    ] as const) {
      const trust = await serverTrust(new URL(door.url), token, {
        certificate: pair.certificate,
        key: pair.key,
      });
      if ('unreachable' in trust) throw new Error(trust.unreachable);
      const socket = openSocket(door.url, token, trust);
      onTestFinished(() => socket.terminate());
      const got = await new Promise((resolve) => {
        socket.once('open', () => resolve('in'));
        socket.once('unexpected-response', () => resolve('refused'));
        socket.on('error', () => resolve('refused'));
      });
      expect(got).toBe(outcome);
    }
  });
});

describe('a worker sends its token to nobody', () => {
  test('who has the certificate of another cluster', async () => {
    const [ours, theirs] = [await startDoor(folder), await startDoor(folder)];
    const error = await atelierRejection('refused', serverTrust(new URL(theirs.url), workerToken(ours), {}));
    expect(error.message).toContain('Nothing was sent');
  });

  test('who shows the right CA without a certificate from it', async () => {
    const [ours, theirs] = [await startDoor(folder), await startDoor(folder)];
    const token = workerToken(ours);
    const trust = await serverTrust(new URL(ours.url), token, {});
    if ('unreachable' in trust) throw new Error(trust.unreachable);
    const socket = openSocket(theirs.url, token, trust);
    const error = await new Promise<Error>((resolve) => socket.once('error', resolve));
    expect(error.message).toMatch(/certificate/);
    expect(theirs.doorman.joinedSessions).toEqual([]);
  });

  test('over a connection in clear', async () => {
    const door = await startDoor(folder);
    const plain = new URL(door.url.replace('wss:', 'ws:'));
    await atelierRejection('usage', serverTrust(plain, workerToken(door), {}));
  });

  test('when it pins nothing and the certificate is not one of a known CA', async () => {
    const door = await startDoor(folder, { secret: SECRET });
    await expect(joinDoor(door.url, SECRET)).rejects.toThrow(/certificate/);
  });
});

describe('a token that stops being good', () => {
  test('by being revoked ends the connections made with it', async () => {
    const door = await startDoor(folder);
    const token = workerToken(door);
    const { closed } = await joinDoor(door.url, token);
    door.store.revoke(parseJoinToken(token)?.id ?? '');
    door.clock.advance(TOKEN_CHECK_INTERVAL_MS);
    expect(await closed).toBe(CloseCode.unauthorized);
  });

  test('by expiring ends them too, and others stay', async () => {
    const door = await startDoor(folder);
    const [short, long] = [
      await joinDoor(door.url, workerToken(door, TOKEN_CHECK_INTERVAL_MS)),
      await joinDoor(door.url, workerToken(door)),
    ];
    door.clock.advance(TOKEN_CHECK_INTERVAL_MS);
    expect(await short.closed).toBe(CloseCode.unauthorized);
    expect(long.socket.readyState).toBe(WebSocket.OPEN);
  });
});

describe('what a peer without a token can cost is bounded:', () => {
  test.each([
    ['a connection that says nothing', true, ''],
    ['a request whose headers never end', false, 'GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n'],
    ['a TLS handshake that stops', true, '\x16\x03\x01\x02'],
  ])('%s is cut', async (_name, tls, bytes) => {
    const door = await startDoor(folder, { tls });
    const socket = await tcp(door);
    socket.write(bytes, 'latin1');
    await ask(door); // by now the door knows of both
    door.clock.advance(HANDSHAKE_TIMEOUT_MS);
    await closing(socket);
  });

  test('headers without end are refused', async () => {
    const door = await startDoor(folder, { tls: false });
    const { status } = await ask(door, { headers: { 'x-long': 'x'.repeat(10_000) } });
    expect(status).toBe(431);
  });

  test('the first frame is small', async () => {
    const door = await startDoor(folder);
    const token = workerToken(door);
    const trust = await serverTrust(new URL(door.url), token, {});
    if ('unreachable' in trust) throw new Error(trust.unreachable);
    const socket = openSocket(door.url, token, trust);
    await new Promise((resolve) => socket.once('open', resolve));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.send(Buffer.alloc(MAX_GREETING_BYTES + 1));
    expect(await closed).toBe(CloseCode.badFrame);
  });

  test('connections of one address, and they free their places', async () => {
    const door = await startDoor(folder);
    const idle: Socket[] = [];
    for (let i = 0; i < MAX_PENDING_PER_ADDRESS; i++) idle.push(await tcp(door));
    await closing(await tcp(door));
    const gone = idle.map((socket) => closing(socket));
    door.clock.advance(HANDSHAKE_TIMEOUT_MS);
    await Promise.all(gone);
    // They came to nothing, too: a worker is let in when the address may have more of those again. The door hears of the
    // end of the last ones a moment after we do, and counts from then on.
    const join = async (triesLeft: number): Promise<unknown> => {
      door.clock.advance(MAX_FRUITLESS_CONNECTIONS * FRUITLESS_REFILL_MS);
      return joinDoor(door.url, workerToken(door)).catch((error: unknown) => {
        if (triesLeft === 0) throw error;
        return join(triesLeft - 1);
      });
    };
    await join(2);
  });

  test('wrong tokens of one address; later it may try again', async () => {
    const door = await startDoor(folder);
    const token = workerToken(door);
    for (let i = 0; i < MAX_REFUSED_LOGINS; i++) {
      expect((await ask(door, { headers: bearer('wrong') })).status).toBe(401);
    }
    expect((await ask(door, { headers: bearer(token) })).status).toBe(503);
    door.clock.advance(LOGIN_REFILL_MS);
    expect((await ask(door, { headers: bearer(token) })).status).toBe(101);
  });

  test.each([
    ['without a token', 1, (door: TestDoor) => ask(door).then(() => undefined)],
    // One connection to look at the certificate, and one to come in.
    ['of workers that leave at once', 2, (door: TestDoor) => leaveAtOnce(door)],
  ])(
    'connections %s: after 64 of an address they are cut as they come; later it may come again',
    async (_name, each, come) => {
      const door = await startDoor(folder);
      let came = 0;
      while (came <= 2 * MAX_FRUITLESS_CONNECTIONS) {
        try {
          await come(door);
        } catch {
          break;
        }
        came++;
      }
      expect(came).toBeGreaterThanOrEqual(MAX_FRUITLESS_CONNECTIONS / each);
      // The door may hear of the end of the last ones a moment later.
      expect(came).toBeLessThan(MAX_FRUITLESS_CONNECTIONS / each + 10);
      door.clock.advance(Math.max(FRUITLESS_REFILL_MS, MAX_REFUSED_LOGINS * LOGIN_REFILL_MS));
      await joinDoor(door.url, workerToken(door));
    },
  );

  test('10,000 connections leave a worker that is in undisturbed, and the door works after them', async () => {
    const door = await startDoor(folder);
    const token = workerToken(door, HOUR_MS);
    const { socket } = await joinDoor(door.url, token);
    const waves = 100;
    for (let wave = 0; wave < waves; wave++) {
      const sockets = await Promise.all(Array.from({ length: 100 }, () => tcp(door)));
      // Those beyond the bound are cut by the door; the rest leave with the wave.
      for (const one of sockets) one.destroy();
    }
    const answered = new Promise((resolve) => socket.once('pong', resolve));
    socket.ping();
    await answered;
    expect(socket.readyState).toBe(WebSocket.OPEN);
    // As a worker does, which tries again: one connection to look at the certificate, and one to come in.
    const comesIn = async (): Promise<boolean> => {
      door.clock.advance(2 * FRUITLESS_REFILL_MS);
      return joinDoor(door.url, token).then(
        () => true,
        () => false,
      );
    };
    await expect.poll(comesIn).toBe(true);
    expect(door.doorman.joinedSessions).toHaveLength(2);
  });
});

async function leaveAtOnce(door: TestDoor): Promise<void> {
  const { socket } = await joinDoor(door.url, workerToken(door));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.close();
  await closed;
}

function expired(door: TestDoor): string {
  const token = workerToken(door, HOUR_MS);
  door.clock.advance(HOUR_MS);
  return token;
}

function revoked(door: TestDoor): string {
  const token = workerToken(door);
  door.store.revoke(parseJoinToken(token)?.id ?? '');
  return token;
}

const scoped = (door: TestDoor, scope: 'read' | 'admin'): string =>
  door.store.create({ scope, note: '', lifetimeMs: null }, door.pin).text;
