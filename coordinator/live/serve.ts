import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http';
import { loadAssets, type Asset } from './assets.js';

/** Scripts, styles and requests of this origin alone; nothing inline, no frame around it. `data:` is the empty icon. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADERS: OutgoingHttpHeaders = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  // Asked for again each time, and answered with 304: a new version of Atelier shows at once.
  'cache-control': 'no-cache',
  vary: 'accept-encoding',
};

/** What to send. */
export interface PageAnswer {
  readonly status: 200 | 304;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer;
}

let assets: Promise<ReadonlyMap<string, Asset>> | undefined;

/**
 * The answer to a request for a file of the live page; null when there is none at this path. The files hold no secret:
 * they are for everyone, and what they show comes from the API, behind its login.
 */
export async function livePageAnswer(path: string, headers: IncomingHttpHeaders): Promise<PageAnswer | null> {
  assets ??= loadAssets();
  const asset = (await assets).get(path);
  if (asset === undefined) return null;
  const common = { ...HEADERS, etag: asset.etag };
  if (headers['if-none-match'] === asset.etag) {
    return { status: 304, headers: common, body: Buffer.alloc(0) };
  }
  const zipped = /\bgzip\b/.test(headers['accept-encoding']?.toString() ?? '');
  const body = zipped ? asset.gzipped : asset.bytes;
  return {
    status: 200,
    headers: {
      ...common,
      'content-type': asset.contentType,
      'content-length': body.byteLength,
      ...(zipped ? { 'content-encoding': 'gzip' } : {}),
    },
    body,
  };
}
