import { z } from 'zod';
import { addInPlace } from './gradient-sum.js';
import { bytesOf, float32Of } from './protocol/frame.js';
import { runKernel } from './vector/memory.js';

/*
 * With bf16 every parameter and gradient of a training step is the upper half of a float32: 8 bits of exponent as before, 8 of
 * mantissa instead of 24, rounded to nearest, ties to even (https://en.wikipedia.org/wiki/Bfloat16_floating-point_format).
 * So that the bits do not depend on who adds what, everything that might be sent is rounded whether it is or not: the gradient
 * of each micro-batch, each sum along the tree, and the parameters that a step computes with. The optimizer's own parameters and state, and
 * those of evaluations, are float32.
 */

/** How the parameters and gradients of training steps cross the wire. */
export const WireFormat = z.enum(['float32', 'bf16']);
export type WireFormat = z.infer<typeof WireFormat>;

export interface Wire {
  /** Of a value on the wire. */
  readonly bytesPerValue: number;
  /** Nothing is rounded: `round` and `packInPlace` leave the values as they are. */
  readonly isExact: boolean;
  /** In place: what the wire leaves of each value. */
  round(values: Float32Array): Float32Array;
  /** left = what the wire leaves of left + right, in place. */
  readonly add: (left: Float32Array, right: Float32Array) => Float32Array;
  /** The values as they are sent, rounded, in their own memory: they are gone. */
  packInPlace(values: Float32Array): Uint8Array;
  /** Where in the memory of the values to be a payload can be received, from which `unpack` then makes them. */
  placeIn(values: Float32Array): Uint8Array;
  /** @param payload may be at `placeIn` of the target */
  unpack(payload: Uint8Array, target: Float32Array): Float32Array;
  /** The values of a payload: a view of it where that will do, else unpacked into a target. */
  valuesOf(payload: Uint8Array, target: () => Float32Array): Float32Array;
}

const FLOAT32: Wire = {
  bytesPerValue: 4,
  isExact: true,
  round: (values) => values,
  add: addInPlace,
  packInPlace: bytesOf,
  placeIn: bytesOf,
  unpack: (payload, target) => {
    const isInPlace = payload.buffer === target.buffer && payload.byteOffset === target.byteOffset;
    if (!isInPlace) bytesOf(target).set(payload);
    return target;
  },
  valuesOf: float32Of,
};

/** The bits of a float32 rounded to a bfloat16, in the upper half; infinity stays what it is, and so does the NaN of arithmetic. */
const rounded = (bits: number): number => (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;

const BF16: Wire = {
  bytesPerValue: 2,
  isExact: false,
  round: (values) => {
    const { done } = runKernel('roundBf16', [values], []);
    const rest = bitsOf(values);
    for (let i = done; i < rest.length; i++) rest[i] = rounded(rest[i] as number);
    return values;
  },
  add: (left, right) => {
    const { done } = runKernel('addBf16', [left, right], []);
    const bits = bitsOf(left);
    for (let i = done; i < left.length; i++) {
      left[i] = (left[i] as number) + (right[i] as number);
      bits[i] = rounded(bits[i] as number);
    }
    return left;
  },
  packInPlace: (values) => {
    const target = bytesOf(values).subarray(0, 2 * values.length);
    const halves = halvesOf(target);
    const bits = bitsOf(values);
    // Forwards: what is written over has been read.
    const { done } = runKernel('pack', [halves, values], []);
    for (let i = done; i < bits.length; i++) halves[i] = rounded(bits[i] as number) >>> 16;
    return target;
  },
  placeIn: (values) => bytesOf(values).subarray(2 * values.length),
  unpack: (payload, target) => {
    const halves = halvesOf(payload.byteOffset % 2 === 0 ? payload : payload.slice());
    const bits = bitsOf(target);
    // Forwards too: at the end of the target's memory, what is written over has been read.
    const { done } = runKernel('unpack', [target, halves], []);
    for (let i = done; i < bits.length; i++) bits[i] = (halves[i] as number) << 16;
    return target;
  },
  valuesOf: (payload, target) => BF16.unpack(payload, target()),
};

const bitsOf = ({ buffer, byteOffset, length }: Float32Array): Uint32Array =>
  new Uint32Array(buffer, byteOffset, length);
const halvesOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Uint16Array =>
  new Uint16Array(buffer, byteOffset, byteLength / 2);

const WIRES: Readonly<Record<WireFormat, Wire>> = { float32: FLOAT32, bf16: BF16 };

/** @param format left out: float32 */
export const wireOf = (format: WireFormat = 'float32'): Wire => WIRES[format];
