import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer as createPlainServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { isIP } from 'node:net';
import { AtelierError, messageOf } from '../shared/errors.js';
import type { Exposition } from '../shared/metrics/metrics.js';

/** More than Prometheus and a person need. */
const MAX_CONNECTIONS = 16;
const REQUEST_TIMEOUT_MS = 5_000;
const MAX_HEADER_BYTES = 8 * 1024;

export interface MetricsServerOptions {
  readonly host: string;
  readonly port: number;
  /** Who scrapes shows it; null: anyone who reaches the address may. */
  readonly token: string | null;
  /** Certificate chain and key as PEM; null for plain HTTP. */
  readonly tls: { readonly cert: Buffer; readonly key: Buffer } | null;
  readonly render: () => Promise<Exposition>;
}

/** Answers `GET /metrics` and nothing else. */
export interface MetricsServer {
  readonly port: number;
  close(): void;
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** @throws AtelierError `usage` when the address is taken or not ours */
export async function serveMetrics(options: MetricsServerOptions): Promise<MetricsServer> {
  const { host, port, token, tls, render } = options;
  const wanted = token === null ? null : digest(`Bearer ${token}`);
  const answer = async (request: IncomingMessage): Promise<{ status: number; page: Exposition }> => {
    const text = (status: number, message: string): { status: number; page: Exposition } => ({
      ...{ status, page: { contentType: 'text/plain', text: `${message}\n` } },
    });
    // A page of the web whose name was made to lead here (DNS rebinding) comes with that name.
    if (request.headers.origin !== undefined || !isOurs(request.headers.host))
      return text(403, 'Not for web pages.');
    if (wanted !== null && !timingSafeEqual(digest(request.headers.authorization ?? ''), wanted)) {
      return text(401, 'The token is missing or wrong: see --metrics-token-file of this worker.');
    }
    if (request.method !== 'GET' || request.url !== '/metrics') return text(404, 'There is /metrics.');
    return { status: 200, page: await render() };
  };
  const respond = (request: IncomingMessage, response: ServerResponse): void => {
    answer(request).then(
      ({ status, page }) => {
        response.writeHead(status, { 'content-type': page.contentType, 'cache-control': 'no-store' });
        response.end(page.text);
      },
      () => response.writeHead(500).end(),
    );
  };
  const limits = {
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: REQUEST_TIMEOUT_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
  };
  const server =
    tls === null
      ? createPlainServer(limits, respond)
      : createTlsServer({ ...limits, ...tls, minVersion: 'TLSv1.3' }, respond);
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new AtelierError(
          'usage',
          `cannot listen on ${host}:${port}: ${messageOf(cause)}. Choose another --metrics-listen`,
          {
            cause,
          },
        ),
      ),
    );
    server.listen(port, host, resolve);
  });
  // It never keeps a worker from ending.
  server.unref();
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Addresses cannot be rebound, and a certificate's names are checked by the client: only plain names are doubtful. */
function isOurs(host: string | undefined): boolean {
  const name = /^(?:\[([^\]]+)\]|([^:]+))(?::\d+)?$/.exec(host ?? '');
  const plain = name?.[1] ?? name?.[2] ?? '';
  return isIP(plain) !== 0 || plain === 'localhost';
}
