/** How fast the past is forgotten: after this time it counts 1/e. */
const MEMORY_MS = 10_000;

/** A rate per second, of the last seconds: an exponentially weighted mean. */
export class RateMeter {
  private perMs = 0;
  private updatedAt: number;

  /** @param now milliseconds */
  constructor(now: number) {
    this.updatedAt = now;
  }

  add(amount: number, now: number): void {
    this.forget(now);
    this.perMs += amount / MEMORY_MS;
  }

  perSecond(now: number): number {
    this.forget(now);
    return this.perMs * 1000;
  }

  private forget(now: number): void {
    this.perMs *= Math.exp(-(now - this.updatedAt) / MEMORY_MS);
    this.updatedAt = now;
  }
}
