import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CloseCode, LEASE_TIMEOUT_MS, HEARTBEAT_INTERVAL_MS } from '../../shared/protocol/limits.js';
import {
  Client,
  HELLO,
  partialOf,
  SHARDS,
  startCoordinator,
  type TestCoordinator,
} from '../support/coordinator.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const events = ({ directory }: TestCoordinator): Record<string, unknown>[] =>
  readFileSync(join(directory.path, 'events.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
const ready = async ({ cluster }: TestCoordinator, workers: number): Promise<void> => {
  await expect.poll(() => cluster.strength(0).workers).toBe(workers);
};

describe('a worker whose connection broke', () => {
  test('is known again by its credential, and gets a new one', async () => {
    const { url, cluster } = await startCoordinator(folder, { minWorkers: 2 });
    const first = await Client.open(url);
    first.send(HELLO);
    const { credential, resumed } = (await first.next('welcome')).message;
    expect(resumed).toBe(false);
    first.socket.terminate();
    const again = await Client.return(url, credential);
    const welcome = (await again.next('welcome')).message;
    expect(welcome).toMatchObject({ resumed: true, credential: { worker: credential.worker } });
    expect(welcome.credential.epoch).toBeGreaterThan(credential.epoch);
    expect(welcome.credential.secret).not.toBe(credential.secret);
    expect(cluster.counts.reconnects).toBe(1);
  });

  test('and comes with another secret is a new worker', async () => {
    const { url } = await startCoordinator(folder, { minWorkers: 2 });
    const first = await Client.open(url);
    first.send(HELLO);
    const { credential } = (await first.next('welcome')).message;
    const other = await Client.return(url, { ...credential, secret: '0'.repeat(64) });
    const welcome = (await other.next('welcome')).message;
    expect(welcome.resumed).toBe(false);
    expect(welcome.credential.worker).not.toBe(credential.worker);
    expect(first.socket.readyState).toBe(first.socket.OPEN);
  });

  test('and comes with a credential that was used already is a new worker: replaying one takes nothing over', async () => {
    const { url } = await startCoordinator(folder, { minWorkers: 2 });
    const first = await Client.open(url);
    first.send(HELLO);
    const { credential } = (await first.next('welcome')).message;
    const again = await Client.return(url, credential);
    await again.next('welcome');
    const thief = await Client.return(url, credential);
    const welcome = (await thief.next('welcome')).message;
    expect(welcome.resumed).toBe(false);
    expect(welcome.credential.worker).not.toBe(credential.worker);
    expect(again.socket.readyState).toBe(again.socket.OPEN);
  });

  test('is fenced off with 4409 on its old connection when it comes back', async () => {
    const { url } = await startCoordinator(folder, { minWorkers: 2 });
    const first = await Client.open(url);
    first.send(HELLO);
    const { credential } = (await first.next('welcome')).message;
    await (await Client.return(url, credential)).next('welcome');
    expect((await first.closed).code).toBe(CloseCode.superseded);
  });
});

describe('a worker with another fingerprint', () => {
  test('is refused with 4412, and the event says so', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    await Client.enlist(coordinator.url);
    await ready(coordinator, 1);
    const other = await Client.enlist(coordinator.url, { fingerprint: 'b'.repeat(64) });
    const { code, reason } = await other.closed;
    expect(code).toBe(CloseCode.otherNumerics);
    expect(reason).toContain('gradients differ in bits');
    expect(events(coordinator).map(({ type }) => type)).toContain('worker-refused');
    expect(coordinator.cluster.strength(0).workers).toBe(1);
  });

  test('is let in by --allow-mixed-numerics, and the manifest says so', async () => {
    const config = { allowMixedNumerics: true };
    const coordinator = await startCoordinator(folder, { minWorkers: 2, config });
    await Client.enlist(coordinator.url);
    await ready(coordinator, 1);
    const other = await Client.enlist(coordinator.url, { fingerprint: 'b'.repeat(64) });
    await other.next('lease');
    expect(coordinator.directory.readManifest()).toMatchObject({
      numericsFingerprint: 'a'.repeat(64),
      otherFingerprints: ['b'.repeat(64)],
    });
  });
});

describe('a run that wants workers', () => {
  test('fails when they do not come in time', async () => {
    const config = { waitSeconds: 60 };
    const { clock, run } = await startCoordinator(folder, { minWorkers: 2, config });
    clock.advance(60_000);
    expect(await run.ended).toMatchObject({ status: 'failed' });
    expect(run.summary().reason).toBe('fewer than 2 workers for 60 s (--wait-seconds)');
  });

  test('waits when it loses too many, and goes on when one comes', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2, minWorkersToGoOn: 2 });
    const { url } = coordinator;
    const [first, second] = [await Client.enlist(url), await Client.enlist(url)];
    const { message: round } = await first.next('round');
    const { message: lease } = await first.next('lease');
    expect(lease.count).toBe(SHARDS / 2);
    second.socket.terminate();
    await ready(coordinator, 1);
    // What it holds it may answer, but nothing is leased to it.
    const { start, count } = lease;
    first.send(partialOf(coordinator, round, { start, count }), new Uint8Array(4 * coordinator.size));
    await expect.poll(() => coordinator.cluster.busySlots).toBe(0);
    const third = await Client.enlist(url);
    const taken = await Promise.race([first.next('lease'), third.next('lease')]);
    expect(taken.message.round).toBe(0);
    expect(events(coordinator).map(({ type }) => type)).toContain('waiting');
  });
});

describe('a worker that wants to leave', () => {
  test('may answer what it holds, then is let go; the rest goes to others', async () => {
    const coordinator = await startCoordinator(folder);
    const { url, cluster, size } = coordinator;
    const client = await Client.enlist(url);
    const { message: round } = await client.next('round');
    await client.next('lease');
    client.send({ type: 'leaving', reason: 'SIGTERM' });
    client.send(partialOf(coordinator, round), new Uint8Array(4 * size));
    expect((await client.next('finished')).message.reason).toBe('SIGTERM');
    expect((await client.closed).code).toBe(CloseCode.finished);
    const other = await Client.enlist(url);
    expect((await other.next('lease')).message.round).toBe(1);
    expect(cluster.counts.workersLost).toBe(0);
  });

  test('and holds nothing is let go at once', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.enlist(coordinator.url);
    client.send({ type: 'leaving', reason: 'enough' });
    expect(await client.closed).toEqual({ code: CloseCode.finished, reason: 'enough' });
  });
});

test('a worker that lives but never answers is cut off, and its lease goes to another', async () => {
  const coordinator = await startCoordinator(folder);
  const { url, clock } = coordinator;
  const [stuck, other] = [await Client.enlist(url), await Client.enlist(url)];
  await ready(coordinator, 2);
  await stuck.next('lease');
  for (let passed = 0; passed <= LEASE_TIMEOUT_MS + 10_000; passed += HEARTBEAT_INTERVAL_MS) {
    if (stuck.socket.readyState !== stuck.socket.OPEN) break;
    clock.advance(HEARTBEAT_INTERVAL_MS);
    for (const client of [stuck, other]) {
      if (client.socket.readyState !== client.socket.OPEN) continue;
      client.send({ type: 'heartbeat' });
      await Promise.race([client.next('heartbeat'), client.closed]);
    }
  }
  const { code, reason } = await stuck.closed;
  expect((await other.next('lease')).message).toMatchObject({ round: 0, start: 0, count: SHARDS });
  expect({ code, reason }).toEqual({ code: CloseCode.timeout, reason: 'owed an answer for 120 s' });
});
