import type { Clock } from '../../shared/clock.js';
import { Counts } from '../../shared/counts.js';
import {
  LOGIN_REFILL_MS,
  MAX_PENDING_HANDSHAKES,
  MAX_PENDING_PER_ADDRESS,
  MAX_REFUSED_LOGINS,
} from '../../shared/protocol/limits.js';

/** Addresses whose refused logins are remembered; the longest silent ones are forgotten first. */
const MAX_REMEMBERED_ADDRESSES = 4_096;

/**
 * Why somebody was not let in: a wrong token or none, a token for something else, no client certificate, too many
 * attempts, a web page, or a name that is not ours.
 */
export const LOGIN_REFUSALS = ['token', 'scope', 'certificate', 'throttled', 'origin', 'host'] as const;
export type LoginRefusal = (typeof LOGIN_REFUSALS)[number];

/** Refused logins of an address: `used` of the allowance at `time`; it refills as time passes. */
interface Allowance {
  readonly used: number;
  readonly time: number;
}

/**
 * Bounds what those may cost who have not shown a token: connections in all and for each address, and how often an
 * address may try tokens.
 */
export class Admission {
  private readonly clock: Clock;
  private readonly pending = new Map<string, number>();
  private pendingInAll = 0;
  private readonly refused = new Map<string, Allowance>();
  private readonly refusals: Counts<LoginRefusal>;

  /** @param refusals where refused logins of all addresses are counted */
  constructor(clock: Clock, refusals: Counts<LoginRefusal> = new Counts()) {
    this.clock = clock;
    this.refusals = refusals;
  }

  /** A connection has come. @returns what frees its place; null when there is none */
  enter(address: string): (() => void) | null {
    const ofAddress = this.pending.get(address) ?? 0;
    if (this.pendingInAll >= MAX_PENDING_HANDSHAKES || ofAddress >= MAX_PENDING_PER_ADDRESS) return null;
    this.pending.set(address, ofAddress + 1);
    this.pendingInAll++;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.pendingInAll--;
      const rest = (this.pending.get(address) ?? 1) - 1;
      if (rest === 0) this.pending.delete(address);
      else this.pending.set(address, rest);
    };
  }

  /** Whether this address may try another token. */
  mayTry(address: string): boolean {
    return this.usedBy(address) + 1 <= MAX_REFUSED_LOGINS;
  }

  /** A login of this address has been refused. */
  wasRefused(address: string, reason: LoginRefusal): void {
    this.refusals.add(reason);
    const used = this.usedBy(address) + 1;
    // Put last: the map's order is the order of the last refusals.
    this.refused.delete(address);
    this.refused.set(address, { used, time: this.clock.now() });
    const [oldest] = this.refused.keys();
    if (this.refused.size > MAX_REMEMBERED_ADDRESSES && oldest !== undefined) this.refused.delete(oldest);
  }

  private usedBy(address: string): number {
    const allowance = this.refused.get(address);
    if (allowance === undefined) return 0;
    return Math.max(0, allowance.used - (this.clock.now() - allowance.time) / LOGIN_REFILL_MS);
  }
}
