import { copyBytes } from '../shared/native-memory.js';
import { bytesOf, encodeFrameAround, HEAD_ROOM_BYTES } from '../shared/protocol/frame.js';
import { encodeToWorker, type CoordinatorToWorker } from '../shared/protocol/messages.js';
import { VectorMemory } from '../shared/vector/memory.js';
import { wireOf, type Wire } from '../shared/wire.js';

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

export interface RoundFrame extends HeldFrame {
  /** Whether the parameters are left in the exchange. */
  readonly isLeft: boolean;
}

/**
 * Frames of one trial's rounds, in memory that is used again: the pages of a new buffer for every step cost more than what
 * is copied into them. A steady state needs two: one being sent to the last worker, one being filled.
 */
export class RoundFrames {
  private readonly size: number;
  private readonly wire: Wire;
  private readonly leave: (round: number, weights: Float32Array) => boolean;
  /** By length. */
  private readonly free = new Map<number, Uint8Array[]>();
  private copy: Float32Array | undefined;
  /** What became of the parameters of the last round that were left ahead. */
  private ahead: { readonly round: number; readonly isLeft: boolean } | undefined;

  /**
   * @param size parameters and state
   * @param wire how the rounds of steps are sent; those of evaluations are float32
   * @param leave leaves the parameters of a round in the exchange; returns whether it could
   */
  constructor(size: number, wire: Wire, leave: (round: number, weights: Float32Array) => boolean) {
    this.size = size;
    this.wire = wire;
    this.leave = leave;
  }

  /** Leaves the parameters of a step's round before its frame is asked for. */
  leaveAhead(round: number, weights: Float32Array): void {
    this.ahead = { round, isLeft: this.leaveBy(this.wire, round, weights) };
  }

  /** @param weights must stay as they are until the round is closed: they are copied when a frame is asked for */
  encode(message: RoundMessage, weights: Float32Array): RoundFrame {
    const wire = message.work.kind === 'step' ? this.wire : wireOf();
    let holders = 1;
    let payload: Uint8Array | undefined;
    let full: Buffer | undefined;
    let light: Buffer | undefined;
    const makeFull = (): Buffer => {
      payload = this.take(this.size * wire.bytesPerValue);
      copyBytes(payload, wire.packInPlace(this.changeable(weights, wire)));
      return encodeFrameAround({ left: false, ...message }, payload);
    };
    let hasLeft = this.ahead?.round === message.round ? this.ahead.isLeft : undefined;
    const leave = (): boolean => (hasLeft ??= this.leaveBy(wire, message.round, weights));
    return {
      get full() {
        return (full ??= makeFull());
      },
      get light() {
        return (light ??= leave() ? encodeToWorker({ left: true, ...message }) : this.full);
      },
      get isLeft() {
        return hasLeft === true;
      },
      hold: () => holders++,
      release: () => {
        if (--holders === 0 && payload !== undefined) this.free.get(payload.byteLength)?.push(payload);
      },
    };
  }

  private leaveBy(wire: Wire, round: number, weights: Float32Array): boolean {
    return this.leave(round, wire.round(this.changeable(weights, wire)));
  }

  /** The weights, or where the wire changes them a copy, until the next one is asked for. */
  private changeable(weights: Float32Array, { isExact }: Wire): Float32Array {
    if (isExact) return weights;
    const copy = (this.copy ??= new VectorMemory(1, this.size).array(this.size));
    copyBytes(bytesOf(copy), bytesOf(weights));
    return copy;
  }

  private take(bytes: number): Uint8Array {
    const free = this.free.get(bytes) ?? [];
    this.free.set(bytes, free);
    const payload = free.pop();
    if (payload !== undefined) return payload;
    const { buffer } = Buffer.allocUnsafeSlow(HEAD_ROOM_BYTES + bytes);
    return new Uint8Array(buffer, HEAD_ROOM_BYTES);
  }
}
