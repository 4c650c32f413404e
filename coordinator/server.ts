import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, STATUS_CODES, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { Clock } from '../shared/clock.js';
import { AtelierError, messageOf } from '../shared/errors.js';
import {
  HANDSHAKE_TIMEOUT_MS,
  MAX_FRAME_BYTES,
  MAX_PENDING_HANDSHAKES,
  MAX_WORKERS,
  SUBPROTOCOL,
} from '../shared/protocol/limits.js';
import { Session, type SessionListener } from './session.js';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads `host:port` (IPv6 as `[::1]:7077`).
 * @throws AtelierError `usage`
 */
export function parseListen(text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new AtelierError('usage', `--listen ${text}: expected host:port, such as 127.0.0.1:7077`);
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\./.test(host);

export interface ServerOptions {
  readonly listen: ListenAddress;
  /** Workers must present it as `Authorization: Bearer`; null lets any local process in. */
  readonly token: string | null;
  readonly listener: SessionListener;
  readonly clock: Clock;
}

/** Where workers join: an HTTP server that does nothing but upgrade to `atelier.v1`. */
export class CoordinatorServer {
  private readonly options: ServerOptions;
  private readonly http: Server;
  private readonly sockets: WebSocketServer;

  private constructor(options: ServerOptions) {
    this.options = options;
    this.http = createServer({ headersTimeout: HANDSHAKE_TIMEOUT_MS }, (_request, response) => {
      response.writeHead(426, { 'content-type': 'text/plain', upgrade: 'websocket' });
      response.end('This is an Atelier coordinator. Join it with: atelier worker --join ws://HOST:PORT\n');
    });
    this.http.maxConnections = MAX_WORKERS + MAX_PENDING_HANDSHAKES;
    this.sockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_FRAME_BYTES,
      handleProtocols: () => SUBPROTOCOL,
    });
    this.http.on('upgrade', (request, socket, head) => this.onUpgrade(request, socket, head));
  }

  /** @throws AtelierError `usage` when the address is taken or not ours */
  static async listen(options: ServerOptions): Promise<CoordinatorServer> {
    const server = new CoordinatorServer(options);
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
    return server;
  }

  /** The address workers join, such as `ws://127.0.0.1:41233`. */
  get url(): string {
    const { address, family, port } = this.http.address() as AddressInfo;
    return `ws://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  /** Takes no more connections and ends those that are still open. */
  async close(): Promise<void> {
    this.sockets.close();
    for (const socket of this.sockets.clients) socket.terminate();
    await new Promise<void>((resolve) => {
      this.http.close(() => resolve());
      this.http.closeAllConnections();
    });
  }

  private onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    const refusal = this.refusal(request);
    if (refusal !== undefined) {
      refuse(socket, refusal.status, refusal.message);
      return;
    }
    this.sockets.handleUpgrade(request, socket, head, (webSocket) => {
      new Session(webSocket, this.options.listener, this.options.clock);
    });
  }

  private refusal(request: IncomingMessage): { status: number; message: string } | undefined {
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    if (request.headers.origin !== undefined) {
      return { status: 403, message: 'Web pages may not connect to a coordinator.' };
    }
    if (!this.authorized(request.headers.authorization)) {
      return {
        status: 401,
        message: 'The token is missing or wrong. Give the worker the token of this run.',
      };
    }
    if (!offered.includes(SUBPROTOCOL)) {
      return {
        status: 426,
        message: `This coordinator speaks ${SUBPROTOCOL}, not ${offered.join(', ') || 'nothing'}. Install the same version of Atelier on both.`,
      };
    }
    if (this.sockets.clients.size >= MAX_WORKERS) return { status: 503, message: 'Too many workers.' };
    return undefined;
  }

  private authorized(header: string | undefined): boolean {
    if (this.options.token === null) return true;
    // Hashes have one length: the comparison takes the same time whatever was sent.
    const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
    return timingSafeEqual(digest(header ?? ''), digest(`Bearer ${this.options.token}`));
  }
}

function refuse(socket: Duplex, status: number, message: string): void {
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n` +
      `Connection: close\r\nContent-Type: text/plain\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n` +
      `Content-Length: ${Buffer.byteLength(message)}\r\n\r\n${message}`,
  );
}
