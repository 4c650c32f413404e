import {
  createServer as createPlainServer,
  STATUS_CODES,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { hostname } from 'node:os';
import type { Duplex } from 'node:stream';
import { TLSSocket, type Server as TlsServer } from 'node:tls';
import { WebSocketServer, type WebSocket } from 'ws';
import type { Clock } from '../shared/clock.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import type { Scope } from '../shared/join-token.js';
import type { ListenAddress } from '../shared/listen.js';
import {
  CloseCode,
  HANDSHAKE_TIMEOUT_MS,
  MAX_FRAME_BYTES,
  MAX_PENDING_HANDSHAKES,
  MAX_REQUEST_HEADER_BYTES,
  MAX_WORKERS,
  SHORT_SESSION_MS,
  SUBPROTOCOL,
  TOKEN_CHECK_INTERVAL_MS,
} from '../shared/protocol/limits.js';
import { Counts } from '../shared/counts.js';
import { Admission, type LoginRefusal } from './security/admission.js';
import { WRONG_TOKEN, type Authenticator, type Grant } from './security/authenticator.js';
import { refuseEarly } from './security/early-refusal.js';
import { RequestGuard, type Refusal } from './security/request-guard.js';
import type { TlsIdentity } from './security/tls-identity.js';
import { buildApp, type App, type RoutePlugin } from './http/app.js';
import { healthRoutes } from './http/health.js';
import { LargeFrames } from './large-frames.js';
import { readIntoOneBuffer } from './one-buffer.js';
import { ReceiveGate } from './receive-gate.js';
import { Session, type SessionListener } from './session.js';

/** How a coordinator keeps its door. */
export interface ServerSecurity {
  /** Who may join; null lets any local process in. */
  readonly authenticator: Authenticator | null;
  /** Null for plain `ws`. */
  readonly tls: TlsIdentity | null;
  /** Names by which workers call the coordinator, beyond localhost and this machine's name. */
  readonly hostNames: readonly string[];
}

/** A door for processes of this machine. */
export const OPEN_TO_LOCAL: ServerSecurity = { authenticator: null, tls: null, hostNames: [] };

export interface ServerOptions {
  readonly listen: ListenAddress;
  readonly security: ServerSecurity;
  readonly listener: SessionListener;
  readonly clock: Clock;
  /** What it answers besides upgrades; without it, whether it is there. */
  readonly routes?: readonly RoutePlugin[];
  /** Told what is wrong with the door while it is open, such as a certificate that cannot be reloaded. */
  readonly onTrouble?: (message: string) => void;
  /** Where refused requests are counted. */
  readonly refusals?: Counts<LoginRefusal>;
}

/**
 * Where workers join and people ask: a server, over TLS 1.3 or not, that upgrades to `atelier.v1` and hands every other
 * request that is fit to be seen to the app (http/app.ts).
 */
export class CoordinatorServer {
  private readonly options: ServerOptions;
  private readonly http: Server;
  private readonly sockets: WebSocketServer;
  private readonly guard: RequestGuard;
  private readonly admission: Admission;
  private readonly refusals: Counts<LoginRefusal>;
  /** Ends the wait for a connection's request, by the peer's address and port. */
  private readonly awaiting = new Map<string, () => void>();
  private readonly cleanUp: (() => void)[] = [];
  private app: App | undefined;
  private readonly gate = new ReceiveGate();

  private constructor(options: ServerOptions) {
    this.options = options;
    this.guard = new RequestGuard(options.security.hostNames);
    this.refusals = options.refusals ?? new Counts();
    this.admission = new Admission(options.clock, this.refusals);
    this.http = this.createServer();
    this.http.maxConnections = MAX_WORKERS + MAX_PENDING_HANDSHAKES;
    this.sockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_FRAME_BYTES,
      handleProtocols: () => SUBPROTOCOL,
    });
    // Who is cut here has cost no TLS handshake yet: Node's own listeners begin it.
    const listeners = this.http.listeners('connection') as ((socket: Socket) => void)[];
    this.http.removeAllListeners('connection');
    this.http.on('connection', (socket: Socket) => {
      if (!this.onConnection(socket)) return;
      for (const listener of listeners) listener.call(this.http, socket);
    });
    this.http.on('upgrade', (request, socket, head) => this.onUpgrade(request, socket, head));
  }

  /** @throws AtelierError `usage` when the address is taken or not ours */
  static async listen(options: ServerOptions): Promise<CoordinatorServer> {
    const server = new CoordinatorServer(options);
    const door = { refuse: server.refuse.bind(server) };
    server.app = await buildApp(door, options.routes ?? [healthRoutes(() => null)]);
    const { host, port } = options.listen;
    await new Promise<void>((resolve, reject) => {
      server.http.once('error', (cause) =>
        reject(
          new AtelierError(
            'usage',
            `cannot listen on ${host}:${port}: ${messageOf(cause)}. Choose another address with --listen, or port 0 for a free one.`,
            { cause },
          ),
        ),
      );
      server.http.listen(port, host, resolve);
    });
    refuseEarly(server.http, (address) => server.admission.hasPlace(address));
    server.watchCertificate();
    return server;
  }

  /** The address workers join, such as `ws://127.0.0.1:41233` or `wss://10.0.0.5:7077`. */
  get url(): string {
    const { address, family, port } = this.http.address() as AddressInfo;
    const scheme = this.options.security.tls === null ? 'ws' : 'wss';
    return `${scheme}://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  /** The same for people on other machines: an address that stands for all of ours is no use to them. */
  get joinUrl(): string {
    return this.url.replace(/\/\/(0\.0\.0\.0|\[::\]):/, `//${hostname()}:`);
  }

  /** Takes no more connections and ends those that are still open. */
  async close(): Promise<void> {
    for (const undo of this.cleanUp) undo();
    this.sockets.close();
    for (const socket of this.sockets.clients) socket.terminate();
    await this.app?.close();
    await new Promise<void>((resolve) => {
      this.http.close(() => resolve());
      this.http.closeAllConnections();
    });
  }

  private createServer(): Server {
    const limits = {
      headersTimeout: HANDSHAKE_TIMEOUT_MS,
      requestTimeout: HANDSHAKE_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: MAX_REQUEST_HEADER_BYTES,
    };
    const { tls } = this.options.security;
    if (tls === null)
      return createPlainServer(limits, (request, response) => this.onRequest(request, response));
    return createTlsServer(
      {
        ...limits,
        ...tls.context,
        minVersion: 'TLSv1.3',
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
        requestCert: tls.wantsClientCertificate,
        // Who has none is told so, instead of finding the connection cut.
        rejectUnauthorized: false,
      },
      (request, response) => this.onRequest(request, response),
    );
  }

  private watchCertificate(): void {
    const { tls } = this.options.security;
    if (tls === null) return;
    const server = this.http as unknown as TlsServer;
    this.cleanUp.push(
      tls.watch(
        (context) => server.setSecureContext({ ...context, minVersion: 'TLSv1.3' }),
        (message) => this.options.onTrouble?.(message),
      ),
    );
  }

  /**
   * From here a peer has a place and a time limit until its request has come and been let through.
   * @returns false for one that has been cut at once
   */
  private onConnection(socket: Socket): boolean {
    const address = socket.remoteAddress ?? '';
    const leave = this.admission.enter(address);
    if (leave === null) {
      socket.destroy();
      return false;
    }
    const key = peerOf(socket);
    const cancelDeadline = this.options.clock.after(HANDSHAKE_TIMEOUT_MS, () => socket.destroy());
    const done = (): void => {
      cancelDeadline();
      leave();
      this.awaiting.delete(key);
    };
    this.awaiting.set(key, done);
    socket.once('close', () => {
      if (this.awaiting.get(key) === done) this.cameToNothing(address);
      done();
    });
    return true;
  }

  /** Who leaves soon has come for nothing; who stays gets back what its look at our certificate has cost. */
  private judge(webSocket: WebSocket, address: string): void {
    let isShort = true;
    const cancel = this.options.clock.after(SHORT_SESSION_MS, () => {
      isShort = false;
      this.admission.cameIn(address);
    });
    webSocket.once('close', () => {
      cancel();
      if (isShort) this.cameToNothing(address);
    });
  }

  private cameToNothing(address: string): void {
    // Where nobody has to show a token, whoever comes is welcome.
    if (this.options.security.authenticator !== null) this.admission.cameToNothing(address);
  }

  private onRequest(request: IncomingMessage, response: ServerResponse): void {
    const refusal = this.guarded(request, this.options.security.tls === null ? 'http' : 'https');
    if (refusal === undefined) this.app?.routing(request, response);
    else answer(response, refusal);
  }

  /** Undefined for a request with a token of one of these scopes: its connection may then stay as long as it needs. */
  private refuse(request: IncomingMessage, wanted: readonly Scope[]): Refusal | undefined {
    const login = this.login(request, wanted);
    if ('status' in login) return login;
    this.awaiting.get(peerOf(request.socket))?.();
    return undefined;
  }

  private onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    const address = request.socket.remoteAddress ?? '';
    const answer = this.admit(request);
    if ('status' in answer) {
      refuse(socket, answer.status, answer.message);
      return;
    }
    this.sockets.handleUpgrade(request, socket, head, (webSocket) => {
      this.awaiting.get(peerOf(request.socket))?.();
      const session = new Session(webSocket, this.options.listener, this.options.clock, address, socket);
      this.takeLargeFrames(socket, webSocket, session);
      this.judge(webSocket, address);
      if (answer.grant !== null) this.keepChecking(webSocket, session, answer.grant);
    });
  }

  /** From now on the socket's bytes come to us, and those of large frames do not reach ws. */
  private takeLargeFrames(socket: Duplex, webSocket: WebSocket, session: Session): void {
    const listeners = socket.listeners('data') as ((this: Duplex, chunk: Buffer) => void)[];
    socket.removeAllListeners('data');
    let isShared = false;
    const frames = new LargeFrames({
      pass: (bytes) => {
        // ws keeps what it gets until the frame is whole.
        const kept = isShared ? Buffer.from(bytes) : bytes;
        for (const listener of listeners) listener.call(socket, kept);
      },
      arriving: (head, payloadBytes) => session.arriving(head, payloadBytes, this.gate),
      pause: () => webSocket.pause(),
      resume: () => webSocket.resume(),
    });
    const take = (chunk: Buffer): void => {
      session.heard();
      frames.feed(chunk);
    };
    socket.on('data', take);
    isShared = readIntoOneBuffer(socket, take, (common) => frames.target(common));
    socket.once('close', () => frames.close());
  }

  private admit(request: IncomingMessage): { grant: Grant | null } | Refusal {
    const refusal = this.guarded(request, null);
    if (refusal !== undefined) return refusal;
    const login = this.login(request, ['worker']);
    if ('status' in login) return login;
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    if (!offered.includes(SUBPROTOCOL)) {
      return {
        status: 426,
        message: `This coordinator speaks ${SUBPROTOCOL}, not ${offered.join(', ') || 'nothing'}. Install the same version of Atelier on both.`,
      };
    }
    if (this.sockets.clients.size >= MAX_WORKERS) return { status: 503, message: 'Too many workers.' };
    return login;
  }

  private guarded(request: IncomingMessage, pages: 'http' | 'https' | null): Refusal | undefined {
    const refusal = this.guard.refusal(request, pages);
    if (refusal?.status === 421) this.refusals.add('host');
    else if (refusal?.status === 403) this.refusals.add('origin');
    return refusal;
  }

  private login(request: IncomingMessage, wanted: readonly Scope[]): { grant: Grant | null } | Refusal {
    const { authenticator } = this.options.security;
    if (authenticator === null) return { grant: null };
    const address = request.socket.remoteAddress ?? '';
    if (!this.admission.mayTry(address)) {
      this.refusals.add('throttled');
      return { status: 503, message: 'Too many wrong tokens came from this address: try again later.' };
    }
    const token = /^Bearer (\S+)$/.exec(request.headers.authorization ?? '')?.[1];
    const answer = token === undefined ? { denied: WRONG_TOKEN } : authenticator.authenticate(token);
    if ('denied' in answer) {
      this.admission.wasRefused(address, 'token');
      return { status: 401, message: answer.denied };
    }
    if (!answer.scopes.some((scope) => wanted.includes(scope))) {
      this.admission.wasRefused(address, 'scope');
      return {
        status: 403,
        message: `This token is for ${answer.scopes.join(', ')}: this needs one of scope ${wanted.join(' or ')}.`,
      };
    }
    if (!answer.isLocal && !this.hasCertificate(request)) {
      this.admission.wasRefused(address, 'certificate');
      return {
        status: 401,
        message: 'This coordinator wants a client certificate: give the worker --tls-cert and --tls-key.',
      };
    }
    return { grant: answer };
  }

  /** Whether the peer has shown a valid client certificate, where one is wanted. */
  private hasCertificate(request: IncomingMessage): boolean {
    if (this.options.security.tls?.wantsClientCertificate !== true) return true;
    return request.socket instanceof TLSSocket && request.socket.authorized;
  }

  /** A connection ends soon after its token has expired or been revoked. */
  private keepChecking(webSocket: WebSocket, session: Session, grant: Grant): void {
    const check = (): void => {
      if (grant.isLive()) cancel = this.options.clock.after(TOKEN_CHECK_INTERVAL_MS, check);
      else session.close(CloseCode.unauthorized, 'the token has expired or was revoked');
    };
    let cancel = this.options.clock.after(TOKEN_CHECK_INTERVAL_MS, check);
    webSocket.once('close', () => cancel());
  }
}

/** TLS sockets have the address and port of the TCP socket under them. */
const peerOf = (socket: Socket): string => `${socket.remoteAddress ?? ''} ${socket.remotePort ?? 0}`;

function answer(response: ServerResponse, { status, message }: Refusal): void {
  response.writeHead(status, {
    'content-type': 'text/plain',
    'content-length': Buffer.byteLength(message),
    'cache-control': 'no-store',
    connection: 'close',
  });
  response.end(message);
}

function refuse(socket: Duplex, status: number, message: string): void {
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n` +
      `Connection: close\r\nContent-Type: text/plain\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n` +
      `Content-Length: ${Buffer.byteLength(message)}\r\n\r\n${message}`,
  );
}
