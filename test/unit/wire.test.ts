import { describe, expect, test } from 'vitest';
import { Purpose, RandomStream } from '../../shared/rng.js';
import { VectorMemory } from '../../shared/vector/memory.js';
import { wireOf } from '../../shared/wire.js';

const bf16 = wireOf('bf16');
const floatOf = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0] as number;
const bitsOf = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];

/** The nearest bfloat16, ties to even, by its definition: of the two around a value the nearer one. */
function nearest(value: number): number {
  const [bits = 0] = bitsOf(Float32Array.of(value));
  const [below, above] = [floatOf(bits & 0xffff0000), floatOf((bits & 0xffff0000) + 0x10000)];
  if (value === below) return value;
  // Beyond the largest one the next step is as wide as the one before.
  const next = Number.isFinite(above) ? above : 2 * below - floatOf((bits & 0xffff0000) - 0x10000);
  const [toBelow, toAbove] = [Math.abs(value - below), Math.abs(next - value)];
  if (toBelow !== toAbove) return toBelow < toAbove ? below : above;
  return (bits & 0x10000) === 0 ? below : above;
}

/** Of every magnitude, ties among them. */
function values(count: number): Float32Array {
  const stream = new RandomStream({ seed: 3, purpose: Purpose.dropout, trial: 0, epoch: 0, shard: 0 });
  const bits = Uint32Array.from({ length: count }, (_, i) =>
    i % 5 === 0 ? (stream.uint32() & 0xffff0000) | 0x8000 : stream.uint32(),
  );
  return new Float32Array(bits.buffer).map((value) => (Number.isFinite(value) ? value : 1));
}

describe('bf16', () => {
  test('rounds to the nearest bfloat16, ties to even', () => {
    const some = values(10_000);
    expect(bitsOf(bf16.round(some.slice()))).toEqual(bitsOf(some.map(nearest)));
  });

  test('keeps zeros, infinities and what is not a number', () => {
    const some = Float32Array.of(0, -0, Infinity, -Infinity, NaN);
    expect(bf16.round(some.slice())).toEqual(some);
  });

  test('makes what is too large infinite', () => {
    expect(bf16.round(Float32Array.of(3.4e38, -3.4e38))).toEqual(Float32Array.of(Infinity, -Infinity));
  });

  test.each([1, 15, 16, 1_037])('the vector kernels round and add %i values to the same bits', (count) => {
    const memory = new VectorMemory(3, count);
    const placed = (array: Float32Array): Float32Array => {
      const place = memory.array(count);
      place.set(array);
      return place;
    };
    const [left, right] = [values(count), values(count + 7).subarray(7)];
    expect(bitsOf(bf16.round(placed(left)))).toEqual(bitsOf(bf16.round(left.slice())));
    const sum = bf16.add(placed(left), placed(right));
    expect(bitsOf(sum)).toEqual(bitsOf(bf16.round(left.map((value, i) => value + (right[i] as number)))));
    expect(bitsOf(bf16.add(left.slice(), right))).toEqual(bitsOf(sum));
  });

  test.each([9, 16, 101, 1_040])('the vector kernels pack and unpack %i values to the same bits', (count) => {
    const memory = new VectorMemory(2, count);
    const [sent, received] = [memory.array(count), memory.array(count)];
    const some = values(count);
    sent.set(some);
    const payload = bf16.packInPlace(sent).slice();
    expect(payload).toEqual(bf16.packInPlace(some.slice()).slice());
    const place = bf16.placeIn(received);
    place.set(payload);
    expect(bitsOf(bf16.unpack(place, received))).toEqual(bitsOf(bf16.round(some.slice())));
  });
});

describe.each(['float32', 'bf16'] as const)('%s', (format) => {
  const wire = wireOf(format);

  test('what is rounded comes unchanged through the memory of either side', () => {
    const some = wire.round(values(101));
    const payload = wire.packInPlace(some.slice()).slice();
    expect(payload.byteLength).toBe(101 * wire.bytesPerValue);
    const received = new Float32Array(101);
    const place = wire.placeIn(received);
    place.set(payload);
    expect(bitsOf(wire.unpack(place, received))).toEqual(bitsOf(some));
  });

  test('a payload at an odd address is read too', () => {
    const some = wire.round(values(9));
    const frame = new Uint8Array(1 + 9 * wire.bytesPerValue);
    frame.set(wire.packInPlace(some.slice()), 1);
    expect(bitsOf(wire.unpack(frame.subarray(1), new Float32Array(9)))).toEqual(bitsOf(some));
  });
});
