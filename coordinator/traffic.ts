import { Counts } from '../shared/counts.js';
import type { CoordinatorToWorker, WorkerToCoordinator } from '../shared/protocol/messages.js';

/**
 * Why a frame was not taken:
 * - `malformed`: its bytes or fields are not the protocol;
 * - `unexpected`: a right message where it cannot be right;
 * - `version`: a hello of another version;
 * - `websocket`: not even WebSocket, or too large.
 */
export const REJECTIONS = ['malformed', 'unexpected', 'version', 'websocket'] as const;
export type Rejection = (typeof REJECTIONS)[number];

/** What has crossed the sockets of a coordinator, by type of message. */
export class Traffic {
  readonly in = { frames: new Counts<WorkerToCoordinator['type']>(), bytes: new Counts<string>() };
  readonly out = { frames: new Counts<CoordinatorToWorker['type']>(), bytes: new Counts<string>() };
  readonly rejected = new Counts<Rejection>();

  received(type: WorkerToCoordinator['type'], bytes: number): void {
    this.in.frames.add(type);
    this.in.bytes.add(type, bytes);
  }

  sent(type: CoordinatorToWorker['type'], bytes: number): void {
    this.out.frames.add(type);
    this.out.bytes.add(type, bytes);
  }
}
