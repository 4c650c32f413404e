import type { Lease } from '../shared/protocol/messages.js';

/** A worker as leasing sees it. */
export interface LeaseHolder {
  readonly worker: number;
  readonly slots: number;
}

/**
 * Shares `units` (shards of a step, chunks of an evaluation) among workers: contiguous ranges in the order of
 * the holders, in proportion to their slots. A worker that would get none has no lease.
 */
export function shareUnits(units: number, holders: readonly LeaseHolder[]): Lease[] {
  const slots = holders.reduce((sum, holder) => sum + holder.slots, 0);
  const leases: Lease[] = [];
  let before = 0;
  let start = 0;
  for (const holder of holders) {
    before += holder.slots;
    const end = Math.round((units * before) / slots);
    if (end > start) leases.push({ worker: holder.worker, start, count: end - start });
    start = end;
  }
  return leases;
}
