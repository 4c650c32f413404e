import type { Clock } from '../../shared/clock.js';
import { Counts } from '../../shared/counts.js';
import {
  FRUITLESS_REFILL_MS,
  LOGIN_REFILL_MS,
  MAX_FRUITLESS_CONNECTIONS,
  MAX_PENDING_HANDSHAKES,
  MAX_PENDING_PER_ADDRESS,
  MAX_REFUSED_LOGINS,
} from '../../shared/protocol/limits.js';

/** Addresses that are remembered; the longest silent ones are forgotten first. */
const MAX_REMEMBERED_ADDRESSES = 4_096;

/**
 * Why somebody was not let in: a wrong token or none, a token for something else, no client certificate, too many
 * attempts, a web page, or a name that is not ours.
 */
export const LOGIN_REFUSALS = ['token', 'scope', 'certificate', 'throttled', 'origin', 'host'] as const;
export type LoginRefusal = (typeof LOGIN_REFUSALS)[number];

/** What each address has used of an allowance, which refills as time passes. */
class Allowance {
  private readonly most: number;
  private readonly refillMs: number;
  private readonly clock: Clock;
  private readonly used = new Map<string, { readonly used: number; readonly time: number }>();

  /** @param refillMs after which one more is allowed */
  constructor(most: number, refillMs: number, clock: Clock) {
    this.most = most;
    this.refillMs = refillMs;
    this.clock = clock;
  }

  has(address: string): boolean {
    return this.usedBy(address) + 1 <= this.most;
  }

  /** @param count -1 gives one back */
  use(address: string, count: 1 | -1 = 1): void {
    const used = Math.max(0, Math.min(this.most, this.usedBy(address) + count));
    // Put last: the map's order is the order of the last uses.
    this.used.delete(address);
    this.used.set(address, { used, time: this.clock.monotonic() });
    const [oldest] = this.used.keys();
    if (this.used.size > MAX_REMEMBERED_ADDRESSES && oldest !== undefined) this.used.delete(oldest);
  }

  private usedBy(address: string): number {
    const known = this.used.get(address);
    if (known === undefined) return 0;
    return Math.max(0, known.used - (this.clock.monotonic() - known.time) / this.refillMs);
  }
}

/**
 * Bounds what those may cost who have not shown a token: connections in all and for each address, how many of an address
 * come to nothing, and how often it may try tokens.
 */
export class Admission {
  private readonly pending = new Map<string, number>();
  private pendingInAll = 0;
  private readonly logins: Allowance;
  private readonly fruitless: Allowance;
  private readonly refusals: Counts<LoginRefusal>;

  /** @param refusals where refused logins of all addresses are counted */
  constructor(clock: Clock, refusals: Counts<LoginRefusal> = new Counts()) {
    this.logins = new Allowance(MAX_REFUSED_LOGINS, LOGIN_REFILL_MS, clock);
    this.fruitless = new Allowance(MAX_FRUITLESS_CONNECTIONS, FRUITLESS_REFILL_MS, clock);
    this.refusals = refusals;
  }

  /** Whether there is a place for a connection of this address. */
  hasPlace(address: string): boolean {
    if (this.pendingInAll >= MAX_PENDING_HANDSHAKES) return false;
    if ((this.pending.get(address) ?? 0) >= MAX_PENDING_PER_ADDRESS) return false;
    if (this.fruitless.has(address)) return true;
    this.refusals.add('throttled');
    return false;
  }

  /** A connection has come. @returns what frees its place; null when there is none */
  enter(address: string): (() => void) | null {
    if (!this.hasPlace(address)) return null;
    this.pending.set(address, (this.pending.get(address) ?? 0) + 1);
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

  /** A connection of this address has come to nothing. */
  cameToNothing(address: string): void {
    this.fruitless.use(address);
  }

  /** Somebody of this address came in and stayed: the connection by which it looked at our certificate was none for nothing. */
  cameIn(address: string): void {
    this.fruitless.use(address, -1);
  }

  /** Whether this address may try another token. */
  mayTry(address: string): boolean {
    return this.logins.has(address);
  }

  /** A login of this address has been refused. */
  wasRefused(address: string, reason: LoginRefusal): void {
    this.refusals.add(reason);
    this.logins.use(address);
  }
}
