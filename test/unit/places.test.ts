import { expect, test } from 'vitest';
import { Places } from '../../worker/places.js';

test('places do not overlap while they are taken', () => {
  const places = new Places(100);
  expect([places.take(10), places.take(20), places.take(10)]).toEqual([0, 10, 30]);
});

test('a freed place is taken again by what has its length', () => {
  const places = new Places(100);
  places.take(10);
  const second = places.take(20) ?? -1;
  places.free(second);
  expect(places.take(10)).toBe(30);
  expect(places.take(20)).toBe(second);
});

test('there is no room beyond the limit, and room again for any length when all is freed', () => {
  const places = new Places(30);
  const first = places.take(20) ?? -1;
  expect(places.take(20)).toBeNull();
  places.free(first);
  expect(places.take(30)).toBe(0);
});

test('what is freed twice is taken once', () => {
  const places = new Places(100);
  const first = places.take(10) ?? -1;
  places.take(10);
  places.free(first);
  places.free(first);
  expect([places.take(10), places.take(10)]).toEqual([first, 20]);
});
