import type { WorkerReport } from '../shared/protocol/messages.js';

/** Where a worker stands:
 * - `joining`: it is in, and gets ready for a run;
 * - `ready`: it computes, or could;
 * - `leaving`: it gets no more leases;
 * - `lost`: its connection broke; it may come back.
 */
export const WORKER_STATES = ['joining', 'ready', 'leaving', 'lost'] as const;
export type WorkerState = (typeof WORKER_STATES)[number];

/** Why workers are gone; for metrics. */
export type LeaveReason =
  'asked' | 'lost' | 'timeout' | 'bad_frame' | 'superseded' | 'refused' | 'unauthorized' | 'overloaded';

/** What is known of one worker at this moment. */
export interface WorkerFigures {
  readonly number: number;
  /** As it calls itself: any text of up to 128 characters. */
  readonly name: string;
  readonly state: WorkerState;
  readonly slots: number;
  readonly versions: { readonly atelier: string; readonly node: string; readonly tensorflow: string };
  /** Since its last frame, in milliseconds. */
  readonly silentMs: number;
  /** Units that it owes. */
  readonly owedUnits: number;
  /** Waiting to be sent to it. */
  readonly bufferedBytes: number;
  /** What it last said of itself; null before it has. */
  readonly report: WorkerReport | null;
  /** The address it connects from; null when that is not known. */
  readonly address: string | null;
}

/** What is known of the cluster at this moment. */
export interface ClusterFigures {
  /** At most `MAX_WORKERS` that are here, and `MAX_LOST` that were. */
  readonly workers: readonly WorkerFigures[];
  readonly slots: { readonly busy: number; readonly idle: number };
  /** Slots that would have something to do if they were there. */
  readonly demand: number;
  readonly joins: number;
  readonly leaves: Iterable<readonly [LeaveReason, number]>;
}
