import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import type { WebSocket } from 'ws';
import { systemClock } from '../../shared/clock.js';
import { CloseCode } from '../../shared/protocol/limits.js';
import type { WireFormat } from '../../shared/wire.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { RunWork, WorkerMemory } from '../../worker/run-work.js';
import { openSocket, WorkerSession } from '../../worker/session.js';
import {
  Client,
  HELLO,
  partialOf,
  SHARDS,
  startCoordinator,
  type TestCoordinator,
} from '../support/coordinator.js';
import { startRelay } from '../support/relay.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
/** Slots keep models by numbers that every `WorkerMemory` gives anew: each kind of run has a pool of its own. */
const pools: Readonly<Record<WireFormat, ComputePool>> = {
  float32: new ComputePool(1),
  bf16: new ComputePool(1),
};
afterAll(() => Promise.all(Object.values(pools).map((pool) => pool.close())));

interface TestWorker {
  /** As SIGKILL does. */
  kill(): void;
}

/** A worker that computes with TensorFlow, on a slot that all of them share, and has no dataset. */
function startWorker(url: string, wire: WireFormat = 'float32'): TestWorker {
  const memory = new WorkerMemory(pools[wire], null);
  let socket: WebSocket | undefined;
  const versions = { atelier: '0', node: 'v20', tensorflow: '2' };
  const session = new WorkerSession({
    ...{ url, token: null, clock: systemClock, onJoined: () => undefined },
    hello: { name: 'worker', host: 'here', pid: 1, slots: 1, versions, credential: null },
    employ: (run, spec, port) => new RunWork(memory, run, spec, port),
    connect: (to, token) => (socket = openSocket(to, token)),
  });
  session.ended.catch(() => undefined);
  const kill = (): void => socket?.terminate();
  onTestFinished(kill);
  return { kill };
}

const startWorkers = (urls: readonly string[], wire?: WireFormat): TestWorker[] =>
  urls.map((url) => startWorker(url, wire));

async function hashOf({ run }: TestCoordinator): Promise<string> {
  expect(await run.ended).toMatchObject({ status: 'done' });
  return run.summary().weightsSha256;
}

const slotsOf = (coordinator: TestCoordinator): number => coordinator.cluster.strength(0).slots;

/** Resolves in the middle of the run. */
async function middleOf({ run }: TestCoordinator): Promise<void> {
  await expect.poll(() => run.roundsDone, { interval: 2, timeout: 20_000 }).toBeGreaterThan(20);
  expect(run.roundsLeft).toBeGreaterThan(20);
}

const EPOCHS = 60;
/** Of what `startCoordinator` trains: 16 rows in batches of 8. */
const STEPS = 2 * EPOCHS;
const settings = { config: { epochs: EPOCHS } };
const direct = async (wire: WireFormat): Promise<string> => {
  const config = { ...settings.config, wire };
  const coordinator = await startCoordinator(folder, { config, minWorkers: 2 });
  startWorkers([coordinator.url, coordinator.url], wire);
  return hashOf(coordinator);
};
/** The same training without a relay; made once. */
const plain = new Map<WireFormat, Promise<string>>();
function expected(wire: WireFormat = 'float32'): Promise<string> {
  const hash = plain.get(wire) ?? direct(wire);
  plain.set(wire, hash);
  return hash;
}

describe.each(['float32', 'bf16'] as const)('two levels of relays, %s', (wire) => {
  test('end in the same bits, with one partial a step into the coordinator and each row once', async () => {
    const coordinator = await startCoordinator(folder, { config: { ...settings.config, wire } });
    const top = await startRelay(coordinator.url, { minWorkers: 2 });
    const [left, right] = await Promise.all([
      startRelay(top.url, { minWorkers: 2 }),
      startRelay(top.url, { minWorkers: 2 }),
    ]);
    startWorkers([left.url, left.url, right.url, right.url], wire);
    const hash = await hashOf(coordinator);
    expect(hash).toBe(await expected(wire));
    const { in: incoming, out } = coordinator.cluster.traffic;
    expect(Object.fromEntries(incoming.frames.entries())['partial']).toBe(STEPS);
    expect(Object.fromEntries(out.frames.entries())['round']).toBeLessThanOrEqual(STEPS + EPOCHS + 1);
    // 24 + 5 rows of 4 pixels, with number and label, and the headers of a few pieces.
    const rows = Object.fromEntries(out.bytes.entries())['rows'];
    const pieces = Object.fromEntries(out.frames.entries())['rows'] ?? 0;
    expect(rows).toBeLessThanOrEqual(29 * (4 + 4 + 1) + pieces * 64);
    expect(await top.over).toBe('the run is done');
    expect(await left.over).toBe('the run is done');
  });
});

describe('in the middle of a run', () => {
  test('a worker of a relay is killed: the rest compute its part', async () => {
    const coordinator = await startCoordinator(folder, settings);
    const relay = await startRelay(coordinator.url, { minWorkers: 2 });
    const [first] = startWorkers([relay.url, relay.url]);
    await middleOf(coordinator);
    first?.kill();
    expect(await hashOf(coordinator)).toBe(await expected());
    expect(coordinator.run.counts.workersLost).toBe(0);
    expect(coordinator.run.summary().workers).toMatchObject([{ name: 'relay', slots: 1 }]);
  });

  test('a relay is killed: another one computes its part', async () => {
    const coordinator = await startCoordinator(folder, { ...settings, minWorkers: 2 });
    const relays = [await startRelay(coordinator.url), await startRelay(coordinator.url)];
    startWorkers(relays.map(({ url }) => url));
    await middleOf(coordinator);
    await relays[0]?.kill();
    expect(await hashOf(coordinator)).toBe(await expected());
    expect(coordinator.run.counts.workersLost).toBe(1);
  });

  test('the connection of a relay breaks: it comes back as who it was, its workers stay', async () => {
    const coordinator = await startCoordinator(folder, settings);
    const relay = await startRelay(coordinator.url, { minWorkers: 2 });
    startWorkers([relay.url, relay.url]);
    await middleOf(coordinator);
    relay.cut();
    expect(await hashOf(coordinator)).toBe(await expected());
    expect(coordinator.run.counts).toMatchObject({ workersLost: 1, reconnects: 1 });
    expect(relay.relay.cluster.counts).toEqual({ workersLost: 0, reconnects: 0 });
  });

  test('the last worker of a relay goes: it hands back, and joins again with the next one', async () => {
    const coordinator = await startCoordinator(folder, settings);
    const relay = await startRelay(coordinator.url);
    const [only] = startWorkers([relay.url]);
    await middleOf(coordinator);
    only?.kill();
    await expect.poll(() => coordinator.cluster.hasWorkers).toBe(false);
    expect(coordinator.cluster.busySlots).toBe(0);
    startWorker(relay.url);
    expect(await hashOf(coordinator)).toBe(await expected());
    expect(coordinator.run.summary().workers).toHaveLength(1);
  });

  test('a relay is asked to leave: it answers what it owes, and its workers are not sent home', async () => {
    const coordinator = await startCoordinator(folder, { ...settings, minWorkers: 2 });
    const relay = await startRelay(coordinator.url);
    const client = await Client.enlist(relay.url);
    await Client.enlist(coordinator.url);
    const { message: round } = await client.next('round');
    const { message: lease } = await client.next('lease');
    relay.relay.drain('SIGTERM');
    const { start, count } = lease;
    client.send(partialOf(coordinator, round, { start, count }), new Uint8Array(4 * coordinator.size));
    expect(await relay.over).toBe('SIGTERM');
    expect(client.socket.readyState).toBe(client.socket.OPEN);
    expect(coordinator.run.counts.workersLost).toBe(0);
  });
});

describe('a relay', () => {
  test('has the slots of its workers, as they come and go', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    const relay = await startRelay(coordinator.url);
    const first = await Client.enlist(relay.url);
    await expect.poll(() => slotsOf(coordinator)).toBe(1);
    const second = await Client.open(relay.url);
    second.send({ ...HELLO, slots: 5 });
    const { run } = (await second.next('run')).message;
    second.send({ type: 'ready', run, fingerprint: 'a'.repeat(64) });
    await expect.poll(() => slotsOf(coordinator)).toBe(6);
    expect(coordinator.cluster.strength(0).workers).toBe(1);
    first.socket.terminate();
    await expect.poll(() => slotsOf(coordinator)).toBe(5);
    second.send({ type: 'leaving', reason: 'enough' });
    await expect.poll(() => slotsOf(coordinator)).toBe(0);
  });

  test('refuses a worker whose numerics differ from those of its first one', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    const relay = await startRelay(coordinator.url);
    await Client.enlist(relay.url);
    await expect.poll(() => slotsOf(coordinator)).toBe(1);
    const other = await Client.enlist(relay.url, { fingerprint: 'b'.repeat(64) });
    const { code, reason } = await other.closed;
    expect(code).toBe(CloseCode.otherNumerics);
    expect(reason).toContain('gradients differ in bits');
    expect(slotsOf(coordinator)).toBe(1);
  });

  test('whose numerics differ from those of the run is refused, and says so', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    await Client.enlist(coordinator.url);
    await expect.poll(() => slotsOf(coordinator)).toBe(1);
    const relay = await startRelay(coordinator.url);
    await Client.enlist(relay.url, { fingerprint: 'b'.repeat(64) });
    await expect(relay.over).rejects.toMatchObject({ code: 'refused' });
  });

  test('cuts off a worker whose answer cannot be right, before the coordinator sees it', async () => {
    const coordinator = await startCoordinator(folder);
    const relay = await startRelay(coordinator.url);
    const client = await Client.enlist(relay.url);
    const { message: round } = await client.next('round');
    await client.next('lease');
    const wrong = {
      ...partialOf(coordinator, round),
      rowDigests: Array(SHARDS).fill([1, 2]) as [number, number][],
    };
    client.send(wrong, new Uint8Array(4 * coordinator.size));
    expect((await client.closed).code).toBe(CloseCode.badFrame);
    expect([...coordinator.cluster.traffic.rejected.entries()]).toEqual([]);
  });

  test('fails when its workers fail again and again', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    const relay = await startRelay(coordinator.url);
    const client = await Client.enlist(relay.url);
    await expect.poll(() => slotsOf(coordinator)).toBe(1);
    for (const message of ['out of memory', 'out of memory again', 'out of memory again and again']) {
      client.send({ type: 'failed', run: null, message });
    }
    await expect(relay.over).rejects.toThrow('tester: out of memory again and again');
  });
});
