import { describe, expect, it } from 'vitest';
import { ReceiveGate } from '../../coordinator/receive-gate.js';

/** Asks for each of these, and says who is in. */
function crowd(gate: ReceiveGate, asks: readonly (readonly [bytes: number, order: number])[]) {
  const entered: number[] = [];
  const tickets = asks.map(([bytes, order]) => gate.ask(bytes, order, () => entered.push(order)));
  return { entered, leave: (i: number) => tickets[i]?.leave() };
}

describe('the gate of what is received', () => {
  it('lets in as much as there is room for, and the others by their order', () => {
    const { entered, leave } = crowd(new ReceiveGate(10), [
      [5, 9],
      [5, 8],
      [5, 7],
      [5, 3],
    ]);
    expect(entered).toEqual([9, 8]);
    leave(0);
    expect(entered).toEqual([9, 8, 3]);
    leave(1);
    expect(entered).toEqual([9, 8, 3, 7]);
  });

  it('lets in one that is larger than all the room, alone', () => {
    const { entered, leave } = crowd(new ReceiveGate(10), [
      [50, 1],
      [1, 2],
    ]);
    expect(entered).toEqual([1]);
    leave(0);
    expect(entered).toEqual([1, 2]);
  });

  it('forgets who no longer waits', () => {
    const { entered, leave } = crowd(new ReceiveGate(10), [
      [10, 1],
      [10, 2],
      [10, 3],
    ]);
    leave(1);
    leave(0);
    expect(entered).toEqual([1, 3]);
  });
});
