import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { makeLayout, weightsSha256 } from '../../shared/layout.js';

describe('makeLayout', () => {
  const layout = makeLayout(
    [
      { name: 'conv/kernel', shape: [3, 3, 1, 2] },
      { name: 'conv/bias', shape: [2] },
      { name: 'scale', shape: [] },
    ],
    [{ name: 'norm/moving_mean', shape: [4] }],
  );

  test('places trainable tensors one after the other, then the state', () => {
    expect(layout.tensors.map(({ name, offset, size }) => [name, offset, size])).toEqual([
      ['conv/kernel', 0, 18],
      ['conv/bias', 18, 2],
      ['scale', 20, 1],
      ['norm/moving_mean', 21, 4],
    ]);
  });

  test('counts trainable elements and all elements', () => {
    expect({ trainable: layout.trainable, size: layout.size }).toEqual({ trainable: 21, size: 25 });
  });
});

describe('weightsSha256', () => {
  const values = [0, -0, 1, -2.5, 3.4028234663852886e38, 1.401298464324817e-45, 0.1];

  test('is over little-endian float32 bytes', () => {
    const bytes = Buffer.alloc(4 * values.length);
    values.forEach((value, i) => bytes.writeFloatLE(value, 4 * i));
    expect(weightsSha256(Float32Array.from(values))).toBe(createHash('sha256').update(bytes).digest('hex'));
  });

  test('stays what it was for known weights', () => {
    expect(weightsSha256(Float32Array.of(1, 2, 3))).toBe(
      '8e628779e6a74ee0b36991c10158f63cafec7d340ad4e075592502c8708524dd',
    );
  });

  test('is over the view alone, not the memory around it', () => {
    const memory = Float32Array.of(9, 1, 2, 3, 9);
    expect(weightsSha256(memory.subarray(1, 4))).toBe(weightsSha256(Float32Array.of(1, 2, 3)));
  });

  test('tells 0 from -0', () => {
    expect(weightsSha256(Float32Array.of(0))).not.toBe(weightsSha256(Float32Array.of(-0)));
  });
});
