import { once } from 'node:events';
import { connect, createServer, Server, type AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { refuseEarly } from '../../coordinator/security/early-refusal.js';

async function listening(isWelcome: (address: string) => boolean): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.end('welcome'));
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  refuseEarly(server, isWelcome);
  return { server, port: (server.address() as AddressInfo).port };
}

/** What a client reads, or its error's code. */
function visit(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('data', (data: Buffer) => resolve(data.toString()));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
  });
}

test('who is not welcome is reset before there is a socket; who is gets in', async () => {
  const asked: string[] = [];
  let isOpen = false;
  const { server, port } = await listening((address) => {
    asked.push(address);
    return isOpen;
  });
  let sockets = 0;
  server.on('connection', () => sockets++);
  expect(await visit(port)).toBe('ECONNRESET');
  expect(sockets).toBe(0);
  isOpen = true;
  expect(await visit(port)).toBe('welcome');
  expect(sockets).toBe(1);
  expect(asked).toEqual(['127.0.0.1', '127.0.0.1']);
});

test('a server without the inside that it knows is left as it is', () => {
  expect(() => refuseEarly(new Server(), () => false)).not.toThrow();
});
