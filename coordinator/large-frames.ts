import { copyBytes } from '../shared/native-memory.js';
import { frameHeadBytes, MIN_HEAD_BYTES } from '../shared/protocol/frame.js';
import { MAX_FRAME_BYTES } from '../shared/protocol/limits.js';

/*
 * Gradients are most of what a coordinator reads. ws would collect a frame's chunks, copy them into a new buffer and give that away; we
 * would copy it once more to where it is added. Here the chunks of a large frame go where they are added at once, or are read there
 * in the first place, and everything else goes on to ws, byte by byte as it came.
 *
 * The frames: RFC 6455, section 5.2.
 */

/** What is read of a frame before it is known what it is. */
const FIRST_READ_BYTES = 16 * 1024;

/** Smaller frames are left to ws: they are in one or two chunks anyway. */
export const MIN_LARGE_BYTES = 64 * 1024;
/** A large frame whose header is longer is left to ws too. */
const MAX_LARGE_HEAD_BYTES = 64 * 1024;

const FINAL_BINARY = 0x82;
const FINAL = 0x80;
const OPCODE = 0x0f;
const FIRST_CONTROL_OPCODE = 0x08;
const MASKED = 0x80;
const LENGTH = 0x7f;
const LENGTH_IN_2_BYTES = 126;
const LENGTH_IN_8_BYTES = 127;
const MASK_BYTES = 4;
/** First two bytes, length, mask. */
const LARGE_HEADER_BYTES = 2 + 8 + MASK_BYTES;

const NOTHING = Buffer.alloc(0);

/** A large message of which only the header has come. */
export interface Arrival {
  /**
   * Asks for the payload's place, which is given as soon as there is one, perhaps at once. Until then nothing more is read.
   * @param given null: nobody needs the payload, it is read and forgotten
   */
  place(given: (place: Uint8Array | null) => void): void;
  /** The whole payload is where it belongs. */
  complete(): void;
  /** The connection has gone. */
  abandon(): void;
}

export interface LargeFramesOptions {
  /** Bytes that are ws's. */
  readonly pass: (bytes: Buffer) => void;
  /** @returns null when ws is to have the frame, whatever is wrong with it */
  readonly arriving: (head: Buffer, payloadBytes: number) => Arrival | null;
  /** Stops and continues the flow of chunks. */
  readonly pause: () => void;
  readonly resume: () => void;
}

type State =
  /** The next byte begins a WebSocket frame. */
  | { kind: 'between' }
  /** So many bytes are ws's. */
  | { kind: 'passing'; left: number }
  | { kind: 'waiting'; arrival: Arrival; payloadBytes: number }
  | { kind: 'receiving'; arrival: Arrival; place: Uint8Array | null; at: number; payloadBytes: number }
  | { kind: 'closed' };

/** Looks at what a worker sends, before ws does, and takes the large frames out. */
export class LargeFrames {
  private readonly options: LargeFramesOptions;
  private state: State = { kind: 'between' };
  /** What cannot be used yet. */
  private held: Buffer = NOTHING;
  /** A message in several WebSocket frames has begun. */
  private inFragments = false;

  constructor(options: LargeFramesOptions) {
    this.options = options;
  }

  /** Where the next bytes are best read to: the rest of a payload where it belongs, else into `common`. They are fed all the same. */
  target(common: Uint8Array): Uint8Array {
    const { state } = this;
    if (state.kind === 'receiving' && state.place !== null)
      return state.place.subarray(state.at, state.payloadBytes);
    // Who has to wait for a place holds what was read of its payload.
    return state.kind === 'between' ? common.subarray(0, FIRST_READ_BYTES) : common;
  }

  feed(chunk: Buffer): void {
    let bytes = this.held.byteLength === 0 ? chunk : Buffer.concat([this.held, chunk]);
    this.held = NOTHING;
    while (bytes.byteLength > 0) {
      const used = this.take(bytes);
      if (used === 0) {
        // The rest of a chunk would keep the whole chunk in memory.
        this.held = Buffer.from(bytes);
        return;
      }
      bytes = bytes.subarray(used);
    }
  }

  close(): void {
    const { state } = this;
    this.state = { kind: 'closed' };
    this.held = NOTHING;
    if (state.kind === 'waiting' || state.kind === 'receiving') state.arrival.abandon();
  }

  /** Returns how many of these bytes have been used; 0 when more are needed first. */
  private take(bytes: Buffer): number {
    const { state } = this;
    switch (state.kind) {
      case 'between':
        return this.begin(bytes);
      case 'passing': {
        const used = Math.min(state.left, bytes.byteLength);
        this.state = used === state.left ? { kind: 'between' } : { kind: 'passing', left: state.left - used };
        this.options.pass(bytes.subarray(0, used));
        return used;
      }
      case 'receiving': {
        const used = Math.min(state.payloadBytes - state.at, bytes.byteLength);
        if (state.place !== null && !isAt(state.place, state.at, bytes))
          copyBytes(state.place.subarray(state.at, state.at + used), bytes.subarray(0, used));
        state.at += used;
        if (state.at === state.payloadBytes) {
          this.state = { kind: 'between' };
          state.arrival.complete();
        }
        return used;
      }
      case 'waiting':
        return 0;
      case 'closed':
        return bytes.byteLength;
    }
  }

  private begin(bytes: Buffer): number {
    const [first, second] = bytes;
    if (first === undefined || second === undefined) return 0;
    const code = second & LENGTH;
    const isLarge = first === FINAL_BINARY && second === (MASKED | LENGTH_IN_8_BYTES) && !this.inFragments;
    if (!isLarge) {
      const lengthBytes = code === LENGTH_IN_8_BYTES ? 8 : code === LENGTH_IN_2_BYTES ? 2 : 0;
      if (bytes.byteLength < 2 + lengthBytes) return 0;
      const length = lengthBytes === 8 ? lengthAt2(bytes) : lengthBytes === 2 ? bytes.readUInt16BE(2) : code;
      if ((first & OPCODE) < FIRST_CONTROL_OPCODE) this.inFragments = (first & FINAL) === 0;
      return this.pass(bytes, 2 + lengthBytes + ((second & MASKED) === 0 ? 0 : MASK_BYTES) + length);
    }
    if (bytes.byteLength < LARGE_HEADER_BYTES + MIN_HEAD_BYTES) return 0;
    const length = lengthAt2(bytes);
    const all = LARGE_HEADER_BYTES + length;
    const headBytes = frameHeadBytes(bytes.subarray(LARGE_HEADER_BYTES));
    const isMasked = bytes.readUInt32LE(LARGE_HEADER_BYTES - MASK_BYTES) !== 0;
    if (isMasked || length < MIN_LARGE_BYTES || length > MAX_FRAME_BYTES) return this.pass(bytes, all);
    if (headBytes > Math.min(MAX_LARGE_HEAD_BYTES, length)) return this.pass(bytes, all);
    if (bytes.byteLength < LARGE_HEADER_BYTES + headBytes) return 0;
    const payloadBytes = length - headBytes;
    const head = bytes.subarray(LARGE_HEADER_BYTES, LARGE_HEADER_BYTES + headBytes);
    const arrival = payloadBytes === 0 ? null : this.options.arriving(head, payloadBytes);
    if (arrival === null) return this.pass(bytes, all);
    this.waitFor(arrival, payloadBytes);
    return LARGE_HEADER_BYTES + headBytes;
  }

  private pass(bytes: Buffer, left: number): number {
    this.state = { kind: 'passing', left };
    return this.take(bytes);
  }

  private waitFor(arrival: Arrival, payloadBytes: number): void {
    const waiting: State = { kind: 'waiting', arrival, payloadBytes };
    this.state = waiting;
    let isPaused = false;
    arrival.place((place) => {
      if (this.state !== waiting) return;
      this.state = { kind: 'receiving', arrival, place, at: 0, payloadBytes };
      if (!isPaused) return;
      this.feed(NOTHING);
      this.options.resume();
    });
    if (this.state !== waiting) return;
    isPaused = true;
    this.options.pause();
  }
}

/** Have the bytes been read to where they belong? */
const isAt = (place: Uint8Array, at: number, { buffer, byteOffset }: Buffer): boolean =>
  buffer === place.buffer && byteOffset === place.byteOffset + at;

/** A length of 8 bytes; one that is beyond all limits may lose its last digits. */
const lengthAt2 = (bytes: Buffer): number => bytes.readUInt32BE(2) * 2 ** 32 + bytes.readUInt32BE(6);
