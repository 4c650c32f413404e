import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Bitmap } from '../../shared/bitmap.js';

const sets = fc.integer({ min: 1, max: 300 }).chain((length) =>
  fc.record({
    length: fc.constant(length),
    rows: fc.uniqueArray(fc.integer({ min: 0, max: length - 1 })),
  }),
);

test('a bitmap gives back the rows it was made of, ascending, also over the wire', () => {
  fc.assert(
    fc.property(sets, ({ length, rows }) => {
      const sent = Bitmap.of(length, rows);
      const received = new Bitmap(length, Uint8Array.from(sent.bytes));
      expect([...received.rows()]).toEqual(rows.toSorted((a, b) => a - b));
      expect(sent.bytes.byteLength).toBe(Bitmap.byteLength(length));
    }),
  );
});

test('a bitmap has the rows that were added and no others', () => {
  const bitmap = Bitmap.of(20, [0, 7, 8, 19]);
  const has = Array.from({ length: 20 }, (_, row) => row).filter((row) => bitmap.has(row));
  expect(has).toEqual([0, 7, 8, 19]);
});

test('bits beyond the length are not rows', () => {
  expect([...new Bitmap(3, Uint8Array.of(0xff)).rows()]).toEqual([0, 1, 2]);
});
