import type { Clock } from '../clock.js';

/** How long a peer has said nothing. Every frame is noted, but no timer is set for it: a deadline looks when it is due. */
export class Silence {
  private readonly clock: Clock;
  private heardAt: number;

  constructor(clock: Clock) {
    this.clock = clock;
    this.heardAt = clock.monotonic();
  }

  heard(): void {
    this.heardAt = this.clock.monotonic();
  }

  /** Milliseconds since the peer was last heard. */
  get ms(): number {
    return this.clock.monotonic() - this.heardAt;
  }

  /**
   * Calls `onSilent` once, when nothing has been heard for `limitMs`.
   * @returns what ends it
   */
  watch(limitMs: number, onSilent: () => void): () => void {
    let cancel = (): void => undefined;
    const lookAfter = (waitMs: number): void => {
      cancel = this.clock.after(waitMs, () => {
        const left = limitMs - this.ms;
        if (left <= 0) onSilent();
        // Timers know whole milliseconds: less than one would be no time at all, again and again.
        else lookAfter(Math.ceil(left));
      });
    };
    lookAfter(limitMs);
    return () => cancel();
  }
}
