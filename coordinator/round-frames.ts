import { bytesOf, encodeFrameAround, HEAD_ROOM_BYTES } from '../shared/protocol/frame.js';
import type { CoordinatorToWorker } from '../shared/protocol/messages.js';

/** One encoded round, as long as somebody holds it. */
export interface HeldFrame {
  readonly bytes: Buffer;
  /** Takes part in holding it; the one who made it already does. */
  hold(): void;
  /** The last one to let it go lets the next frame have its memory. */
  release(): void;
}

/**
 * Frames of one trial's rounds, in memory that is used again: the pages of a new buffer for every step cost more than what
 * is copied into them. A steady state needs two: one being sent to the last worker, one being filled.
 */
export class RoundFrames {
  private readonly payloadBytes: number;
  private readonly free: Uint8Array[] = [];

  constructor(payloadBytes: number) {
    this.payloadBytes = payloadBytes;
  }

  /** @param weights copied */
  encode(message: Extract<CoordinatorToWorker, { type: 'round' }>, weights: Float32Array): HeldFrame {
    const payload = this.free.pop() ?? this.make();
    payload.set(bytesOf(weights));
    let holders = 1;
    return {
      bytes: encodeFrameAround(message, payload),
      hold: () => holders++,
      release: () => {
        if (--holders === 0) this.free.push(payload);
      },
    };
  }

  private make(): Uint8Array {
    const { buffer } = Buffer.allocUnsafeSlow(HEAD_ROOM_BYTES + this.payloadBytes);
    return new Uint8Array(buffer, HEAD_ROOM_BYTES);
  }
}
