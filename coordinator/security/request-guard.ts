import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';

/** Why a request goes no further. */
export interface Refusal {
  readonly status: number;
  readonly message: string;
}

/** All that a query may hold: a place in a log. */
const POSITION = /^[^?&]*\?after=\d{1,15}$/;

/**
 * What a request must be before anyone looks at what it wants: sent to a name that is ours, and not by a web page.
 *
 * A page of another origin says so in `Origin`. DNS rebinding makes the browser believe that the page's own name is our
 * address: then `Host` is that name. Addresses are safe: nobody can rebind them.
 */
export class RequestGuard {
  private readonly names: ReadonlySet<string>;

  /** @param names by which workers call the coordinator, beyond localhost and this machine's name */
  constructor(names: readonly string[]) {
    this.names = new Set(['localhost', hostname(), ...names].map((name) => name.toLowerCase()));
  }

  /**
   * Undefined for a request that may go on.
   * @param scheme that the coordinator's own pages (the live page) come by; null where no page has any business
   */
  refusal(request: IncomingMessage, scheme: 'http' | 'https' | null): Refusal | undefined {
    const { headers } = request;
    const host = hostOf(headers.host);
    if (host === null || (isIP(host) === 0 && !this.names.has(host))) {
      return {
        status: 421,
        message: 'This coordinator does not answer to that name: add it with --host-name, or use an address.',
      };
    }
    // What has no Origin may be a foreign page's too: an image, a script. Typing or following the address is fine.
    const site = headers['sec-fetch-site'];
    const isForeign =
      (site === 'cross-site' || site === 'same-site') && headers['sec-fetch-mode'] !== 'navigate';
    const isOwn = scheme !== null && headers.origin === `${scheme}://${headers.host ?? ''}`;
    if (isForeign || (headers.origin !== undefined && !isOwn)) {
      return { status: 403, message: 'Web pages may not connect to a coordinator.' };
    }
    if (/[?&]/.test(request.url ?? '') && !POSITION.test(request.url ?? '')) {
      return {
        status: 400,
        message:
          'Nothing is read from the query but after=NUMBER. A token in a URL ends up in logs: make another one.',
      };
    }
    return undefined;
  }
}

/** The host of a `Host` header without its port, in lower case; null when it is not one. */
export function hostOf(header: string | undefined): string | null {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?$/i.exec(header ?? '');
  return (match?.[1] ?? match?.[2])?.toLowerCase() ?? null;
}
