import { expect, test } from 'vitest';
import { MAX_REMEMBERED, SessionCredentials } from '../../coordinator/session-credentials.js';

const nobody = (): boolean => false;

test('a worker that shows its credential is the one it was, with a new secret', () => {
  const credentials = new SessionCredentials();
  const first = credentials.renew(null, nobody);
  const second = credentials.renew(first.credential, nobody);
  expect(first).toMatchObject({ credential: { worker: 0, epoch: 1 }, resumed: false });
  expect(second).toMatchObject({ credential: { worker: 0, epoch: 2 }, resumed: true });
  expect(second.credential.secret).not.toBe(first.credential.secret);
  expect(credentials.epochOf(0)).toBe(2);
});

test('a credential that was used before is worth nothing', () => {
  const credentials = new SessionCredentials();
  const first = credentials.renew(null, nobody);
  credentials.renew(first.credential, nobody);
  expect(credentials.renew(first.credential, nobody)).toMatchObject({
    credential: { worker: 1, epoch: 1 },
    resumed: false,
  });
});

test('a credential that was made up is worth nothing', () => {
  const credentials = new SessionCredentials();
  const { credential } = credentials.renew(null, nobody);
  const secret = 'f'.repeat(credential.secret.length);
  expect(credentials.renew({ ...credential, secret }, nobody).resumed).toBe(false);
  expect(credentials.renew({ worker: 99, epoch: 1, secret }, nobody).resumed).toBe(false);
});

test('so many are remembered, the latest and those that are here', () => {
  const credentials = new SessionCredentials();
  const isHere = (worker: number): boolean => worker === 0;
  const all = Array.from({ length: MAX_REMEMBERED + 2 }, () => credentials.renew(null, isHere).credential);
  const known = all.filter(({ worker }) => credentials.epochOf(worker) !== undefined);
  expect(known.map(({ worker }) => worker)).toEqual([
    0,
    ...Array.from({ length: MAX_REMEMBERED - 1 }, (_, i) => i + 3),
  ]);
});
