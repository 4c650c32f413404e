import { performance } from 'node:perf_hooks';

/** Where the time of a step went, in milliseconds; the parts add up to `total`. */
export interface StepTimes {
  /** Of the slots that computed longest: what their answers report, for each slot of the worker. */
  readonly compute: number;
  /** What is left: behind other trials, on the way, and at the barrier for the slowest. */
  readonly wait: number;
  /** Adding partials along the tree, and checking their rows. */
  readonly reduce: number;
  readonly optimizer: number;
  /** Encoding the parameters and handing them to the sockets. */
  readonly broadcast: number;
  readonly total: number;
}

interface Share {
  computeMs: number;
  units: number;
  readonly slots: number;
}

/** Measures one step from the opening of its round to the updated weights. */
export class StepTimer {
  readonly openedAt = performance.now();
  private broadcastMs = 0;
  private reduceMs = 0;
  /** What each worker has computed, by its number. */
  private readonly shares = new Map<number, Share>();

  sent(milliseconds: number): void {
    this.broadcastMs += milliseconds;
  }

  /**
   * An answer that counted has been taken in.
   * @param computeMs summed over its units
   * @param takenMs what taking it in has cost
   */
  answered(
    worker: { readonly number: number; readonly slots: number },
    units: number,
    computeMs: number,
    takenMs: number,
  ): void {
    this.reduceMs += takenMs;
    const share = this.shares.get(worker.number);
    if (share === undefined) this.shares.set(worker.number, { computeMs, units, slots: worker.slots });
    else {
      share.computeMs += computeMs;
      share.units += units;
    }
  }

  /** @param optimizerMs of the update, which the last answer's `takenMs` holds too */
  finish(optimizerMs: number): StepTimes {
    const total = performance.now() - this.openedAt;
    const reduce = Math.max(0, this.reduceMs - optimizerMs);
    const rest = Math.max(0, total - reduce - optimizerMs - this.broadcastMs);
    let compute = 0;
    for (const { computeMs, units, slots } of this.shares.values()) {
      compute = Math.max(compute, computeMs / Math.max(1, Math.min(slots, units)));
    }
    // Clocks of other machines, and units that waited for each other in a slot, may say more than there was.
    compute = Math.min(compute, rest);
    return {
      compute,
      wait: rest - compute,
      reduce,
      optimizer: optimizerMs,
      broadcast: total - reduce - optimizerMs - rest,
      total,
    };
  }
}
