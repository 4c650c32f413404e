import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { WebSocket } from 'ws';
import { SharedSecret } from '../../coordinator/security/authenticator.js';
import { openClusterFolder, type ClusterFolder } from '../../coordinator/security/cluster-folder.js';
import { TlsIdentity } from '../../coordinator/security/tls-identity.js';
import { TokenStore } from '../../coordinator/security/token-store.js';
import { CoordinatorServer, type ServerSecurity } from '../../coordinator/server.js';
import type { Session, SessionListener } from '../../coordinator/session.js';
import { Traffic } from '../../coordinator/traffic.js';
import { PROTOCOL_VERSION } from '../../shared/protocol/limits.js';
import { decodeFromCoordinator, encodeToCoordinator } from '../../shared/protocol/messages.js';
import { serverTrust } from '../../worker/server-trust.js';
import { openSocket, parseJoinUrl } from '../../worker/session.js';
import { FakeClock } from './fake-clock.js';

const nothing = (): void => undefined;

/** Takes every worker in and asks nothing of it. */
class Doorman implements SessionListener {
  readonly traffic = new Traffic();
  readonly joinedSessions: Session[] = [];

  greeted(): ReturnType<SessionListener['greeted']> {
    const worker = this.joinedSessions.length;
    return { credential: { worker, epoch: 0, secret: '0'.repeat(64) }, resumed: false, exchange: null };
  }
  joined(session: Session): void {
    this.joinedSessions.push(session);
  }
  received = nothing;
  closed = nothing;
}

export interface TestDoor {
  readonly url: string;
  readonly port: number;
  readonly clock: FakeClock;
  readonly folder: ClusterFolder;
  readonly store: TokenStore;
  readonly doorman: Doorman;
  readonly server: CoordinatorServer;
  /** What the tokens of this cluster pin. */
  readonly pin: string | null;
}

let made = 0;

/** A coordinator's door on loopback, with tokens, and nothing behind it. */
export async function startDoor(
  temporary: string,
  {
    tls = true,
    secret,
    clientAuthority = null,
    hostNames = [],
  }: { tls?: boolean; secret?: string; clientAuthority?: string | null; hostNames?: string[] } = {},
): Promise<TestDoor> {
  const clock = new FakeClock();
  clock.advance(Date.now());
  const folder = openClusterFolder(join(temporary, `cluster-${made++}`));
  const store = new TokenStore(folder, () => clock.now());
  const identity = tls
    ? await TlsIdentity.load({ kind: 'cluster', folder, names: [] }, clientAuthority, clock)
    : null;
  const authenticator = secret === undefined ? store : new SharedSecret(secret);
  const security: ServerSecurity = { authenticator, tls: identity, hostNames };
  const doorman = new Doorman();
  const server = await CoordinatorServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    security,
    listener: doorman,
    clock,
  });
  onTestFinished(() => server.close());
  const port = Number(new URL(server.url).port);
  return { url: server.url, port, clock, folder, store, doorman, server, pin: identity?.pin ?? null };
}

export const workerToken = (door: TestDoor, lifetimeMs: number | null = null): string =>
  door.store.create({ scope: 'worker', note: '', lifetimeMs }, door.pin).text;

/** Joins as a worker does. @returns the socket, welcomed, and how it ends */
export async function joinDoor(
  url: string,
  token: string | null,
): Promise<{ socket: WebSocket; closed: Promise<number> }> {
  const trust = await serverTrust(parseJoinUrl(url), token, {});
  if ('unreachable' in trust) throw new Error(trust.unreachable);
  const socket = openSocket(url, token, trust);
  onTestFinished(() => socket.terminate());
  const closed = new Promise<number>((resolve) => socket.once('close', resolve));
  await new Promise<void>((resolve, reject) => {
    socket.once('unexpected-response', (request, response) => {
      request.destroy();
      reject(new Error(`HTTP ${response.statusCode ?? 0}`));
    });
    socket.once('error', reject);
    socket.once('open', resolve);
  });
  socket.on('error', nothing);
  const welcome = new Promise<void>((resolve, reject) => {
    socket.once('message', (data: Buffer) => {
      const { type } = decodeFromCoordinator(data).message;
      if (type === 'welcome') resolve();
      else reject(new Error(type));
    });
  });
  socket.send(
    encodeToCoordinator({
      type: 'hello',
      protocolVersion: PROTOCOL_VERSION,
      name: 'tester',
      host: 'here',
      pid: 1,
      slots: 1,
      versions: { atelier: '0', node: 'v20', tensorflow: '2' },
      credential: null,
    }),
  );
  await welcome;
  return { socket, closed };
}
