import { expect, test } from 'vitest';
import { LostWorkers } from '../../coordinator/lost-workers.js';

const MINUTE_MS = 60_000;

test('a lost worker is shown for five minutes', () => {
  const lost = new LostWorkers<string>();
  lost.add(1, 'a', 0);
  lost.add(2, 'b', 2 * MINUTE_MS);
  expect(lost.shownAt(5 * MINUTE_MS).map(({ member }) => member)).toEqual(['a', 'b']);
  expect(lost.shownAt(6 * MINUTE_MS)).toEqual([{ member: 'b', at: 2 * MINUTE_MS }]);
});

test('one that is here again is not shown', () => {
  const lost = new LostWorkers<string>();
  lost.add(1, 'a', 0);
  lost.add(2, 'b', 0);
  lost.found((number, member) => number === 1 || member === 'c');
  expect(lost.shownAt(0)).toEqual([{ member: 'b', at: 0 }]);
});

test('no more than 64 are shown, those that were lost last', () => {
  const lost = new LostWorkers<number>();
  for (let number = 0; number < 70; number++) lost.add(number, number, number);
  const shown = lost.shownAt(70).map(({ member }) => member);
  expect(shown).toEqual(Array.from({ length: 64 }, (_, i) => i + 6));
});
