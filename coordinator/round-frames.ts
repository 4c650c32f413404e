import { bytesOf, encodeFrameAround, HEAD_ROOM_BYTES } from '../shared/protocol/frame.js';
import { encodeToWorker, type CoordinatorToWorker } from '../shared/protocol/messages.js';

type RoundMessage = Omit<Extract<CoordinatorToWorker, { type: 'round' }>, 'left'>;

/** One round's frames, made when they are first asked for and used as long as somebody holds them. */
export interface HeldFrame {
  /** With the parameters as its payload. */
  readonly full: Buffer;
  /** Word that the parameters are left in the exchange, or the full frame when there is no room there. */
  readonly light: Buffer;
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
  private readonly leave: (weights: Float32Array) => boolean;
  private readonly free: Uint8Array[] = [];

  /** @param leave leaves the parameters in the exchange; returns whether it could */
  constructor(payloadBytes: number, leave: (weights: Float32Array) => boolean) {
    this.payloadBytes = payloadBytes;
    this.leave = leave;
  }

  /** @param weights must stay as they are until the round is closed: they are copied when a frame is asked for */
  encode(message: RoundMessage, weights: Float32Array): HeldFrame {
    let holders = 1;
    let payload: Uint8Array | undefined;
    let full: Buffer | undefined;
    let light: Buffer | undefined;
    const { leave } = this;
    const makeFull = (): Buffer => {
      payload = this.free.pop() ?? this.make();
      payload.set(bytesOf(weights));
      return encodeFrameAround({ ...message, left: false }, payload);
    };
    return {
      get full() {
        return (full ??= makeFull());
      },
      get light() {
        return (light ??= leave(weights) ? encodeToWorker({ ...message, left: true }) : this.full);
      },
      hold: () => holders++,
      release: () => {
        if (--holders === 0 && payload !== undefined) this.free.push(payload);
      },
    };
  }

  private make(): Uint8Array {
    const { buffer } = Buffer.allocUnsafeSlow(HEAD_ROOM_BYTES + this.payloadBytes);
    return new Uint8Array(buffer, HEAD_ROOM_BYTES);
  }
}
