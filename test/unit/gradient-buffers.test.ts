import { describe, expect, it } from 'vitest';
import { GradientBuffers } from '../../coordinator/gradient-buffers.js';
import type { LeftGradients } from '../../shared/exchange.js';
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

/** A worker's places; what is mapped there is told by the values that it has. */
class Left implements LeftGradients {
  isClosed = false;
  readonly mapped: (readonly [offset: number, values: Float32Array])[] = [];
  private readonly canMap: boolean;

  constructor(canMap = true) {
    this.canMap = canMap;
  }

  mapOver(offset: number, values: Float32Array): boolean {
    if (this.canMap) this.mapped.push([offset, values.fill(offset)]);
    return this.canMap;
  }

  unmap(values: Float32Array): void {
    values.fill(0);
  }

  read(offset: number, target: Uint8Array): void {
    new Float32Array(target.buffer, target.byteOffset, SIZE).fill(offset);
  }

  close(): void {
    this.isClosed = true;
  }
}

const PLACES = 2;
const heldAt = (buffers: GradientBuffers, left: LeftGradients, offset: number): Float32Array => {
  const place = buffers.placeLeft(offset, left);
  const { bytes } = place;
  const { values } = buffers.hold(sumOf(new Float32Array(bytes.buffer, bytes.byteOffset, SIZE)));
  place.giveBack();
  if (values === null) throw new Error('it has values');
  return values;
};

describe('gradients that were left by workers of this host', () => {
  const make = (places = PLACES): GradientBuffers =>
    new GradientBuffers(new VectorMemory(PLACES + 2, SIZE), { size: SIZE, places });

  it('are held where they lie, and each place is mapped once', () => {
    const [buffers, left] = [make(), new Left()];
    for (let step = 0; step < 3; step++) {
      buffers.reset();
      expect(heldAt(buffers, left, 1)).toBe(left.mapped[0]?.[1]);
      expect(heldAt(buffers, left, 2)).toBe(left.mapped[1]?.[1]);
    }
    expect(left.mapped).toHaveLength(2);
  });

  it.each([
    ['cannot be mapped', new Left(false), PLACES],
    ['are not to be mapped', new Left(), 0],
  ])('are read where they %s', (_, left, places) => {
    const buffers = make(places);
    expect([...heldAt(buffers, left, 7)]).toEqual(Array<number>(SIZE).fill(7));
    expect(left.mapped).toEqual([]);
  });

  it('are read where more lie than may be mapped', () => {
    const [buffers, left] = [make(), new Left()];
    const held = [1, 2, 3].map((offset) => heldAt(buffers, left, offset)[0]);
    expect(held).toEqual([1, 2, 3]);
    expect(left.mapped).toHaveLength(PLACES);
  });

  it('of a worker that has gone stay until the step is over, and their memory is used for others then', () => {
    const [buffers, gone, other] = [make(1), new Left(), new Left()];
    const held = heldAt(buffers, gone, 5);
    gone.close();
    expect([...held]).toEqual(Array<number>(SIZE).fill(5));
    buffers.reset();
    expect(heldAt(buffers, other, 6)).toBe(other.mapped[0]?.[1]);
    expect(other.mapped[0]?.[1]).toBe(held);
  });

  it('are never lent to whoever receives', () => {
    const [buffers, left] = [make(), new Left()];
    const [first, second] = [heldAt(buffers, left, 1), heldAt(buffers, left, 2)];
    buffers.combine(sumOf(first), sumOf(second));
    buffers.reset();
    const received = [buffers.borrow(), buffers.borrow(), buffers.borrow()];
    expect(received).not.toContain(first);
    expect(received).not.toContain(second);
  });
});
