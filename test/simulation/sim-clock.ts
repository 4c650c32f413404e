import type { Clock } from '../../shared/clock.js';

interface Timer {
  readonly due: number;
  /** Among timers of the same time, the order in which they were set. */
  readonly order: number;
  callback: (() => void) | undefined;
}

/** Simulated time: it jumps from one timer to the next. A binary heap of timers. */
export class SimClock implements Clock {
  private time = 0;
  private set = 0;
  private readonly heap: Timer[] = [];

  now(): number {
    return this.time;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer: Timer = { due: this.time + Math.max(0, delayMs), order: this.set++, callback };
    this.push(timer);
    return () => (timer.callback = undefined);
  }

  /** Goes to the next timer and calls it. Returns false when there is none. */
  step(): boolean {
    for (;;) {
      const timer = this.pop();
      if (timer === undefined) return false;
      if (timer.callback === undefined) continue;
      this.time = timer.due;
      timer.callback();
      return true;
    }
  }

  private push(timer: Timer): void {
    const { heap } = this;
    let i = heap.push(timer) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(timer, heap[parent] as Timer)) break;
      heap[i] = heap[parent] as Timer;
      i = parent;
    }
    heap[i] = timer;
  }

  private pop(): Timer | undefined {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Timer, heap[child] as Timer)) child++;
      if (!before(heap[child] as Timer, last)) break;
      heap[i] = heap[child] as Timer;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

const before = (a: Timer, b: Timer): boolean => a.due < b.due || (a.due === b.due && a.order < b.order);

/** Time as one process sees it: it may be stopped (SIGSTOP), and ends with the process. */
export class ProcessClock implements Clock {
  private readonly clock: SimClock;
  private stopped = false;
  private dead = false;
  private missed: (() => void)[] = [];

  constructor(clock: SimClock) {
    this.clock = clock;
  }

  now(): number {
    return this.clock.now();
  }

  after(delayMs: number, callback: () => void): () => void {
    let cancelled = false;
    const cancel = this.clock.after(delayMs, () => {
      if (!cancelled) this.run(callback, () => cancelled);
    });
    return () => {
      cancelled = true;
      cancel();
    };
  }

  /** Calls back now, or when the process goes on, or never if it is dead. */
  run(callback: () => void, isCancelled: () => boolean = () => false): void {
    if (this.dead) return;
    if (this.stopped) this.missed.push(() => (isCancelled() ? undefined : callback()));
    else callback();
  }

  stop(): void {
    this.stopped = true;
  }

  /** Goes on: what was missed comes at once, in its order. */
  resume(): void {
    this.stopped = false;
    const { missed } = this;
    this.missed = [];
    missed.forEach((callback, i) => this.clock.after(i * 1e-6, () => this.run(callback)));
  }

  die(): void {
    this.dead = true;
    this.missed = [];
  }

  get isDead(): boolean {
    return this.dead;
  }
}
