import type { LeftGradients } from '../shared/exchange.js';
import { addGradientSums, type GradientSum } from '../shared/gradient-sum.js';
import { copyBytes } from '../shared/native-memory.js';
import { bytesOf, float32Of } from '../shared/protocol/frame.js';
import type { PartialMessage } from '../shared/protocol/messages.js';
import type { VectorMemory } from '../shared/vector/memory.js';
import { wireOf, type Wire } from '../shared/wire.js';

/** Memory for a payload. */
export interface Place {
  readonly bytes: Uint8Array;
  /** What is done with it is done. */
  giveBack(): void;
}

interface GradientBuffersOptions {
  /** Floats of a gradient. */
  readonly size: number;
  /** Floats before each gradient, for the header of the frame that sends it; left out: none. */
  readonly headRoom?: number;
  /** Left out: float32. */
  readonly wire?: Wire;
  /** So many places where gradients are left may be mapped; left out: none. */
  readonly places?: number;
}

/**
 * Where a step's partials are held until they are added: beside the weights and the optimizer's state, where the
 * vector kernels reach them. There are as many buffers as partials were ever held at once, at most one for each shard, and as many
 * as were received at once. What workers of this host leave is held where it lies: each place is mapped into that memory once.
 */
export class GradientBuffers {
  private readonly memory: VectorMemory;
  private readonly size: number;
  private readonly headRoom: number;
  private readonly wire: Wire;
  private readonly maxPlaces: number;
  /** By whose they are and where they lie. */
  private readonly places = new Map<LeftGradients, Map<number, Float32Array>>();
  /** The same, and those that nothing is mapped over any more. */
  private readonly mapped = new Set<Float32Array>();
  private readonly unmapped: Float32Array[] = [];
  private readonly free: Float32Array[] = [];
  /** Of this step. */
  private held = new Set<Float32Array>();
  /** By where they begin: what is received into them comes back as another view. */
  private readonly lent = new Map<ArrayBufferLike, Map<number, Float32Array>>();

  constructor(
    memory: VectorMemory,
    { size, headRoom = 0, wire = wireOf(), places = 0 }: GradientBuffersOptions,
  ) {
    this.memory = memory;
    this.size = size;
    this.headRoom = headRoom;
    this.wire = wire;
    this.maxPlaces = places;
  }

  /** Bytes that the payload of this partial has, be it sent or left. */
  payloadBytes({ rows, leftAt }: PartialMessage): number {
    if (rows === 0) return 0;
    return this.size * (leftAt === null ? this.wire.bytesPerValue : Float32Array.BYTES_PER_ELEMENT);
  }

  /** Where its payload is to be received, in a borrowed buffer. */
  placeToReceive(): Place {
    const buffer = this.borrow();
    return { bytes: this.wire.placeIn(buffer), giveBack: () => this.giveBack(buffer) };
  }

  /**
   * The payload that was left at an offset: where it lies, or read into a borrowed buffer.
   * @throws AtelierError `protocol` when there is none
   */
  placeLeft(offset: number, left: LeftGradients): Place {
    const mapped = this.mappedAt(offset, left);
    const buffer = mapped === undefined ? this.borrow() : this.lend(mapped);
    const place = { bytes: bytesOf(buffer), giveBack: () => this.giveBack(buffer) };
    if (mapped !== undefined) return place;
    try {
      left.read(offset, place.bytes);
      return place;
    } catch (error) {
      place.giveBack();
      throw error;
    }
  }

  /** Undefined where it cannot be mapped. */
  private mappedAt(offset: number, left: LeftGradients): Float32Array | undefined {
    const places = this.places.get(left) ?? new Map<number, Float32Array>();
    const known = places.get(offset);
    if (known !== undefined) return known;
    const isFull = this.mapped.size >= this.maxPlaces;
    const values = this.unmapped.pop() ?? (isFull ? null : this.memory.pages(this.size));
    if (values === null) return undefined;
    this.mapped.add(values);
    if (!left.mapOver(offset, values)) {
      this.unmapped.push(values);
      return undefined;
    }
    this.places.set(left, places.set(offset, values));
    return values;
  }

  /** What its payload, of `payloadBytes`, says: in the buffer that it was received in, if it was. Null when it has no rows. */
  valuesOf({ rows, leftAt }: PartialMessage, payload: Uint8Array): Float32Array | null {
    if (rows === 0) return null;
    if (leftAt !== null) return float32Of(payload);
    return this.wire.valuesOf(payload, () => this.bufferWith(payload) ?? new Float32Array(this.size));
  }

  /** Forgets what was held: a new step begins. */
  reset(): void {
    for (const buffer of this.held) this.setFree(buffer);
    this.held = new Set();
    for (const [left, places] of this.places) {
      if (!left.isClosed) continue;
      // Not before: until now sums were held there.
      this.places.delete(left);
      for (const values of places.values()) {
        left.unmap(values);
        this.unmapped.push(values);
      }
    }
  }

  /** A buffer to receive a partial into. Until it is held or given back nobody else has it. */
  borrow(): Float32Array {
    return this.lend(this.take());
  }

  private lend(buffer: Float32Array): Float32Array {
    const ofMemory = this.lent.get(buffer.buffer) ?? new Map<number, Float32Array>();
    this.lent.set(buffer.buffer, ofMemory.set(buffer.byteOffset, buffer));
    return buffer;
  }

  /** Ends the loan; nothing to do for a buffer that is held by now. */
  giveBack(buffer: Float32Array): void {
    if (this.endLoan(buffer) !== undefined) this.setFree(buffer);
  }

  /** The same sum, in a buffer of its own: the borrowed one that it is in, or a copy. */
  hold(sum: GradientSum): GradientSum {
    if (sum.values === null) return sum;
    let values = this.endLoan(sum.values);
    if (values === undefined) {
      values = this.take();
      copyBytes(bytesOf(values), bytesOf(sum.values));
    }
    this.held.add(values);
    const { rows, lossSum, correct } = sum;
    return { rows, lossSum, correct, values };
  }

  /** A sum that was held is not needed any more. */
  release(values: Float32Array): void {
    if (this.held.delete(values)) this.setFree(values);
  }

  /** Left plus right, both of them held; the right one's buffer becomes free. The `combine` of a `TreeSum`. */
  readonly combine = (left: GradientSum, right: GradientSum): GradientSum => {
    if (left.values !== null && right.values !== null) {
      this.held.delete(right.values);
      this.setFree(right.values);
    }
    return addGradientSums(left, right, this.wire.add);
  };

  /** The buffer that this is, or a view of, if it is lent. */
  private endLoan({ buffer, byteOffset }: Float32Array): Float32Array | undefined {
    const ofMemory = this.lent.get(buffer);
    const lent = ofMemory?.get(byteOffset);
    ofMemory?.delete(byteOffset);
    if (ofMemory?.size === 0) this.lent.delete(buffer);
    return lent;
  }

  /** The lent buffer that a payload was received in. */
  private bufferWith({ buffer, byteOffset }: Uint8Array): Float32Array | undefined {
    const lent = this.lent.get(buffer)?.values() ?? [];
    return [...lent].find((each) => this.wire.placeIn(each).byteOffset === byteOffset);
  }

  private setFree(buffer: Float32Array): void {
    if (!this.mapped.has(buffer)) this.free.push(buffer);
  }

  private take(): Float32Array {
    return this.free.pop() ?? this.memory.array(this.headRoom + this.size).subarray(this.headRoom);
  }
}
