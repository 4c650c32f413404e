/** Waits between attempts to join: full jitter (Brooker, "Exponential backoff and jitter", AWS 2015). */
export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
}

export const JOIN_BACKOFF: BackoffOptions = { baseMs: 250, maxMs: 30_000 };

/**
 * @param attempt failures so far, from 1
 * @param random a number in [0, 1); only spreads workers in time, never reaches a result
 */
export function backoffMs(attempt: number, random: number, options: BackoffOptions = JOIN_BACKOFF): number {
  const ceiling = Math.min(options.maxMs, options.baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(random * ceiling);
}
