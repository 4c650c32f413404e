import { expect, test } from 'vitest';
import { nativeMemory } from '../../shared/native-memory.js';
import { gatherRows, gatherRowsPlainly } from '../../worker/gather-rows.js';

const ROWS = 50;
const BYTES = 13;
const source = new Uint8Array(new SharedArrayBuffer(ROWS * BYTES));
for (let i = 0; i < source.length; i++) source[i] = i * 7;

test.each([
  ['by the addon or, where it cannot, by the loop', gatherRows],
  ['by the loop', gatherRowsPlainly],
])('rows are copied in the order that they are asked for, twice if they are: %s', (_name, gather) => {
  const rows = Uint32Array.of(49, 0, 7, 7);
  const target = new Uint8Array(rows.length * BYTES);
  gather(source, rows, target);
  for (const [i, row] of rows.entries()) {
    const expected = Array.from({ length: BYTES }, (_, j) => ((row * BYTES + j) * 7) & 0xff);
    expect([...target.subarray(i * BYTES, (i + 1) * BYTES)]).toEqual(expected);
  }
});

test('no rows are no bytes', () => {
  expect(() => gatherRows(source, new Uint32Array(0), new Uint8Array(0))).not.toThrow();
});

test('the addon reads nothing beyond the last row', ({ skip }) => {
  skip(nativeMemory === null, 'the addon was not compiled here');
  const gather = (row: number) => () =>
    nativeMemory?.gatherRows(source, Uint32Array.of(row), new Uint8Array(BYTES));
  expect(gather(ROWS - 1)).not.toThrow();
  expect(gather(ROWS)).toThrow('there is no row 50');
  expect(gather(0xffff_ffff)).toThrow('there is no row');
});
