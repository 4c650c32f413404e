import { expect, test } from 'vitest';
import { Silence } from '../../shared/protocol/silence.js';
import { FakeClock } from '../support/fake-clock.js';

const LIMIT_MS = 100;

function watched() {
  const clock = new FakeClock();
  const silence = new Silence(clock);
  const silentAt: number[] = [];
  const end = silence.watch(LIMIT_MS, () => silentAt.push(clock.monotonic()));
  return { clock, silence, silentAt, end };
}

test('a peer that says nothing is silent when the time is up, once', () => {
  const { clock, silentAt } = watched();
  clock.advance(10 * LIMIT_MS);
  expect(silentAt).toEqual([LIMIT_MS]);
});

test('the time counts from what was heard last, by a clock that nobody sets', () => {
  const { clock, silence, silentAt } = watched();
  for (const ms of [30, 30.5, 30]) {
    clock.advance(ms);
    silence.heard();
  }
  expect(silence.ms).toBe(0);
  clock.setForwardBy = 1_000 * LIMIT_MS;
  clock.advance(LIMIT_MS - 1);
  expect({ silentAt, ms: silence.ms }).toEqual({ silentAt: [], ms: LIMIT_MS - 1 });
  clock.advance(2);
  expect(silentAt).toHaveLength(1);
});

test('nobody is told when it has ended', () => {
  const { clock, silence, silentAt, end } = watched();
  clock.advance(LIMIT_MS - 1);
  silence.heard();
  clock.advance(LIMIT_MS - 1);
  end();
  clock.advance(LIMIT_MS);
  expect(silentAt).toEqual([]);
});
