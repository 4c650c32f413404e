import { AtelierError } from './errors.js';

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads `host:port` (IPv6 as `[::1]:7077`).
 * @throws AtelierError `usage`
 */
export function parseListen(text: string, flag = '--listen'): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new AtelierError('usage', `${flag} ${text}: expected host:port, such as 127.0.0.1:7077`);
  }
  return { host: match[1] ?? match[2] ?? '', port };
}

export const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127\./.test(host);
