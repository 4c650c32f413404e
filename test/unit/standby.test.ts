import { expect, test } from 'vitest';
import { StandbyCells } from '../../worker/standby.js';

const cells = (): StandbyCells => new StandbyCells(StandbyCells.memory(2));

function taken(from: StandbyCells): number {
  const cell = from.take();
  if (cell === null) throw new Error('there is a cell');
  return cell;
}

test('who sees what is expected begins, and nobody can drop it then', () => {
  const all = cells();
  const cell = taken(all);
  let looks = 0;
  const expected = { haveCome: () => ++looks === 3, wait: () => undefined };
  expect(all.wait(cell, expected)).toBe(true);
  expect(looks).toBe(3);
  expect(all.drop(cell)).toBe(false);
  // Others on the same cell begin with it.
  expect(all.wait(cell)).toBe(true);
});

test.each([
  ['begin', true],
  ['drop', false],
] as const)('a word that is said before counts, whatever comes: %s', (word, begins) => {
  const all = cells();
  const cell = taken(all);
  const expected = { haveCome: () => false, wait: () => void all[word](cell) };
  expect(all.wait(cell, expected)).toBe(begins);
  expect(all.begin(cell)).toBe(false);
});

test('a cell that was given back waits anew', () => {
  const all = cells();
  const [first, second] = [taken(all), taken(all)];
  expect(all.take()).toBeNull();
  all.drop(first);
  all.giveBack(first);
  expect(taken(all)).toBe(first);
  expect(all.begin(first)).toBe(true);
  expect(all.begin(second)).toBe(true);
});
