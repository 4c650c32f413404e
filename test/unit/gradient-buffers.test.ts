import { describe, expect, it } from 'vitest';
import { GradientBuffers } from '../../coordinator/gradient-buffers.js';
import { VectorMemory } from '../../shared/vector/memory.js';

const SIZE = 8;
const sumOf = (values: Float32Array) => ({ rows: 1, lossSum: 0, correct: 0, values });
const viewOf = ({ buffer, byteOffset, length }: Float32Array): Float32Array =>
  new Float32Array(buffer, byteOffset, length);

describe.each([
  ['in one memory', new VectorMemory(4, SIZE)],
  ['in memories of their own', new VectorMemory(0, 0)],
])('buffers of gradients, %s', (_, memory) => {
  it('hold what was received into them without a copy', () => {
    const buffers = new GradientBuffers(memory, { size: SIZE });
    const lent = buffers.borrow().fill(1);
    const held = buffers.hold(sumOf(viewOf(lent)));
    expect(held.values).toBe(lent);
    buffers.giveBack(lent);
    expect(buffers.borrow()).not.toBe(lent);
  });

  it('hold a copy of what lies elsewhere', () => {
    const buffers = new GradientBuffers(memory, { size: SIZE });
    const elsewhere = new Float32Array(SIZE).fill(2);
    const { values } = buffers.hold(sumOf(elsewhere));
    expect(values).toEqual(elsewhere);
    expect(values).not.toBe(elsewhere);
  });

  it('that are being received into are nobody else’s, be the step over', () => {
    const buffers = new GradientBuffers(memory, { size: SIZE });
    const lent = buffers.borrow();
    buffers.reset();
    const others = [buffers.borrow(), buffers.borrow()];
    expect(others).not.toContain(lent);
    buffers.giveBack(lent);
    expect(buffers.borrow()).toBe(lent);
  });

  it('are used again in the next step', () => {
    const buffers = new GradientBuffers(memory, { size: SIZE });
    const seen = new Set<Float32Array | null>();
    for (let step = 0; step < 5; step++) {
      buffers.reset();
      const [left, right] = [1, 2].map((value) => buffers.hold(sumOf(new Float32Array(SIZE).fill(value))));
      if (left === undefined || right === undefined) throw new Error('two were held');
      seen.add(left.values).add(right.values);
      expect(buffers.combine(left, right).values?.[0]).toBe(3);
    }
    expect(seen.size).toBe(2);
  });
});
