import { describe, expect, test } from 'vitest';
import { Admission } from '../../coordinator/security/admission.js';
import { hostOf } from '../../coordinator/security/request-guard.js';
import {
  LOGIN_REFILL_MS,
  MAX_PENDING_HANDSHAKES,
  MAX_PENDING_PER_ADDRESS,
  MAX_REFUSED_LOGINS,
} from '../../shared/protocol/limits.js';
import { FakeClock } from '../support/fake-clock.js';

describe('connections that have not shown a token', () => {
  test('are bounded for each address and in all; one that leaves makes room, once', () => {
    const admission = new Admission(new FakeClock());
    const leaves = Array.from({ length: MAX_PENDING_PER_ADDRESS }, () => admission.enter('a'));
    expect(leaves).not.toContain(null);
    expect(admission.enter('a')).toBeNull();
    leaves[0]?.();
    leaves[0]?.();
    expect(admission.enter('a')).not.toBeNull();
    expect(admission.enter('a')).toBeNull();
    for (let i = MAX_PENDING_PER_ADDRESS; i < MAX_PENDING_HANDSHAKES; i++) {
      expect(admission.enter(`b${i}`)).not.toBeNull();
    }
    expect(admission.enter('c')).toBeNull();
    leaves[1]?.();
    expect(admission.enter('c')).not.toBeNull();
  });
});

describe('wrong tokens', () => {
  test('of one address are bounded, and do not touch another', () => {
    const clock = new FakeClock();
    const admission = new Admission(clock);
    for (let i = 0; i < MAX_REFUSED_LOGINS; i++) {
      expect(admission.mayTry('a')).toBe(true);
      admission.wasRefused('a', 'token');
    }
    expect(admission.mayTry('a')).toBe(false);
    expect(admission.mayTry('b')).toBe(true);
    clock.advance(LOGIN_REFILL_MS);
    expect(admission.mayTry('a')).toBe(true);
    admission.wasRefused('a', 'token');
    expect(admission.mayTry('a')).toBe(false);
  });
});

test.each([
  ['127.0.0.1:7077', '127.0.0.1'],
  ['[::1]:7077', '::1'],
  ['Node1.Example', 'node1.example'],
  ['a@b', null],
  ['a:b', null],
  ['a/b', null],
  ['', null],
  [undefined, null],
])('the host of %j is %j', (header, host) => {
  expect(hostOf(header)).toBe(host);
});
