import { performance } from 'node:perf_hooks';

/** Time as the program sees it; tests pass their own. */
export interface Clock {
  /** Milliseconds since the epoch, for what people read. It jumps when somebody sets the host's clock. */
  now(): number;
  /** Milliseconds from anywhere that do nothing but pass, for durations and deadlines. */
  monotonic(): number;
  /** Calls `callback` after `delayMs`; returns a function that cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

/** Milliseconds from anywhere: a monotonic clock that all threads of a host share. */
export function hostTimeMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
