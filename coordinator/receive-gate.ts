/** What may be on its way from workers into memory at the same time; one payload may be, however large. */
export const MAX_RECEIVING_BYTES = 64 * 1024 * 1024;

interface Waiting {
  readonly bytes: number;
  readonly order: number;
  readonly enter: () => void;
}

/** Of one who has asked to come in. */
export interface Ticket {
  /** Was there no room when it asked? */
  readonly isWaiting: boolean;
  /** Gives the room back, or the place in the queue; once. */
  readonly leave: () => void;
}

/**
 * Lets so many large payloads in at a time that their memory is bounded, however many workers send at once. Those that wait stay in the
 * sockets' own buffers, at the workers' side for the most part. They come in by their order: partials that
 * belong together in the tree come together, and few have to be held until they can be added.
 */
export class ReceiveGate {
  private readonly limit: number;
  private inside = 0;
  /** Few at any time, but for a moment of each step. */
  private readonly waiting = new Set<Waiting>();

  constructor(limit = MAX_RECEIVING_BYTES) {
    this.limit = limit;
  }

  /**
   * @param enter called once there is room, perhaps at once
   */
  ask(bytes: number, order: number, enter: () => void): Ticket {
    const one: Waiting = { bytes, order, enter };
    const leave = (): void => {
      if (this.waiting.delete(one)) return;
      this.inside -= bytes;
      this.letIn();
    };
    const isWaiting = this.waiting.size > 0 || !this.hasRoom(bytes);
    if (isWaiting) this.waiting.add(one);
    else {
      this.inside += bytes;
      enter();
    }
    return { isWaiting, leave };
  }

  private letIn(): void {
    while (this.waiting.size > 0) {
      let next: Waiting | undefined;
      for (const one of this.waiting) if (next === undefined || one.order < next.order) next = one;
      if (next === undefined || !this.hasRoom(next.bytes)) return;
      this.waiting.delete(next);
      this.inside += next.bytes;
      next.enter();
    }
  }

  private hasRoom(bytes: number): boolean {
    return this.inside === 0 || this.inside + bytes <= this.limit;
  }
}
