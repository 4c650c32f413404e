import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { connect as tlsConnect, createServer as createTlsServer } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readIntoOneBuffer } from '../../coordinator/one-buffer.js';
import { ensureAuthority } from '../../coordinator/security/certificates.js';
import { openClusterFolder } from '../../coordinator/security/cluster-folder.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const MESSAGE = Buffer.from(Uint8Array.from({ length: 3_000_000 }, (_, i) => i * 31));

/** What TLS has decrypted by then comes although the socket is paused: no more than it reads at a time. */
const MOST_WHILE_PAUSED = 64 * 1024;

/** Both ends of a connection: who was accepted first. */
async function connected(isTls: boolean): Promise<[Socket, Socket]> {
  const authority = await ensureAuthority(openClusterFolder(folder), Date.now());
  const server: Server = isTls
    ? createTlsServer({ cert: authority.certificate, key: authority.key })
    : createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const accepted = once(server, isTls ? 'secureConnection' : 'connection') as Promise<[Socket]>;
  const client = isTls
    ? tlsConnect({ host: '127.0.0.1', port, rejectUnauthorized: false })
    : connect({ host: '127.0.0.1', port });
  const [socket] = await accepted;
  onTestFinished(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  return [socket, client];
}

describe.each([
  ['TCP', false],
  ['TLS', true],
])('a socket that a server has accepted: %s', (_name, isTls) => {
  test('reads into one buffer from then on, whole and in order, and stops where it is told to', async () => {
    const [socket, client] = await connected(isTls);
    const memories = new Set<ArrayBufferLike>();
    const parts: Buffer[] = [];
    let isPaused = false;
    let received = 0;
    let whilePaused = 0;
    let mostWhilePaused = 0;
    const whole = new Promise<void>((resolve) => {
      const take = (bytes: Buffer): void => {
        whilePaused = isPaused ? whilePaused + bytes.length : 0;
        mostWhilePaused = Math.max(mostWhilePaused, whilePaused);
        memories.add(bytes.buffer);
        parts.push(Buffer.from(bytes));
        received += bytes.length;
        if (received === MESSAGE.length) resolve();
        if (isPaused) return;
        isPaused = true;
        socket.pause();
        setImmediate(() => {
          isPaused = false;
          socket.resume();
        });
      };
      socket.on('data', take);
      expect(readIntoOneBuffer(socket, take)).toBe(true);
    });
    client.write(MESSAGE);
    await whole;
    expect(Buffer.concat(parts).equals(MESSAGE)).toBe(true);
    expect(memories.size).toBe(1);
    expect(mostWhilePaused).toBeLessThanOrEqual(isTls ? MOST_WHILE_PAUSED : 0);
    const ended = once(socket, 'end');
    client.end();
    await ended;
  });
});

test('another stream is left as it is', () => {
  expect(readIntoOneBuffer(new PassThrough(), () => undefined)).toBe(false);
});
