import type { Clock } from '../../shared/clock.js';

/** A small fast generator (sfc32, Doty-Humphrey 2010): everything that happens in a simulation follows from its seed. */
export class Chance {
  private a: number;
  private b = 0x9e3779b9;
  private c = 0x243f6a88;
  private counter = 1;

  constructor(seed: number) {
    this.a = seed >>> 0;
    for (let i = 0; i < 12; i++) this.uint32();
  }

  uint32(): number {
    const t = (this.a + this.b + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + t;
    return t >>> 0;
  }

  /** In [0, 1). */
  uniform(): number {
    return this.uint32() / 2 ** 32;
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** Of `low` .. `high`, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low + 1));
  }

  hits(probability: number): boolean {
    return this.uniform() < probability;
  }

  pick<Item>(items: readonly Item[]): Item {
    const item = items[Math.floor(this.uniform() * items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}

interface Happening {
  readonly at: number;
  readonly order: number;
  readonly owner: SimProcess | undefined;
  action: (() => void) | undefined;
}

/** Fake time, and everything that is going to happen in it, in one order. */
export class World {
  now = 1_000_000;
  /** Happenings so far. */
  happened = 0;
  private order = 0;
  /** A binary heap, the next first. */
  private readonly queue: Happening[] = [];

  /** @param owner the process it happens to: a dead one notices nothing, a stopped one later */
  after(delayMs: number, action: () => void, owner?: SimProcess): () => void {
    return this.push({ at: this.now + Math.max(0, delayMs), order: this.order++, owner, action });
  }

  /** The next thing happens. Returns whether there was one. */
  step(): boolean {
    const next = this.pop();
    if (next === undefined) return false;
    this.now = Math.max(this.now, next.at);
    const { owner, action } = next;
    if (action === undefined || owner?.isAlive === false) return true;
    if (owner !== undefined && owner.stoppedUntil > this.now) {
      this.push({ at: owner.stoppedUntil, order: next.order, owner, action });
      return true;
    }
    this.happened++;
    action();
    return true;
  }

  private push(happening: Happening): () => void {
    const { queue } = this;
    let i = queue.push(happening) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(happening, queue[parent] as Happening)) break;
      queue[i] = queue[parent] as Happening;
      i = parent;
    }
    queue[i] = happening;
    return () => (happening.action = undefined);
  }

  private pop(): Happening | undefined {
    const { queue } = this;
    const top = queue[0];
    const last = queue.pop();
    if (top === undefined || last === undefined || queue.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && isBefore(queue[child + 1] as Happening, queue[child] as Happening))
        child++;
      if (!isBefore(queue[child] as Happening, last)) break;
      queue[i] = queue[child] as Happening;
      i = child;
    }
    queue[i] = last;
    return top;
  }
}

const isBefore = (a: Happening, b: Happening): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);

const HOUR_MS = 3_600_000;

/** A process of the simulated machines: it can be stopped for a while (SIGSTOP), and die. */
export class SimProcess {
  readonly world: World;
  readonly clock: Clock;
  isAlive = true;
  stoppedUntil = 0;
  private readonly mourners: (() => void)[] = [];

  constructor(world: World) {
    this.world = world;
    this.clock = {
      // Somebody sets it forward and back all the time: nothing that is decided may depend on it.
      now: () => world.now + (Math.floor(world.now / 1_000) % 2) * HOUR_MS,
      monotonic: () => world.now,
      after: (delayMs, callback) => world.after(delayMs, callback, this),
    };
  }

  /** Until then nothing happens to it; then all that was due does, in its order. */
  stop(forMs: number): void {
    this.stoppedUntil = Math.max(this.stoppedUntil, this.world.now + forMs);
  }

  onDeath(mourner: () => void): void {
    this.mourners.push(mourner);
  }

  die(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    for (const mourner of this.mourners) mourner();
  }
}
