/** What identifies a lease to both sides. */
export interface LeaseNumbers {
  readonly run: number;
  readonly trial: number;
  readonly round: number;
  /** Left out by relays, whose leases are their own. */
  readonly lease?: number | undefined;
}

/** What a lease, and the answers to it, are called in the logs of both sides: run, trial, round and lease as the coordinator numbers them. */
export const leaseName = ({ run, trial, round, lease }: LeaseNumbers): string =>
  `${run}/${trial}/${round}/${lease ?? '-'}`;
