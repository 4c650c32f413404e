import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Cluster } from '../../coordinator/cluster.js';
import { coordinatorRoutes } from '../../coordinator/http/routes.js';
import { submissionRoutes } from '../../coordinator/http/submissions.js';
import { queuedState } from '../../coordinator/live-run.js';
import type { RunEnd } from '../../coordinator/run.js';
import { AnyOf, SharedSecret } from '../../coordinator/security/authenticator.js';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { RunsFolder } from '../../coordinator/service/runs-folder.js';
import { RunService, type Execution } from '../../coordinator/service/service.js';
import { FakeClock } from '../support/fake-clock.js';
import { readJson } from '../support/run-files.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
let made = 0;

/** A run in work that ends when it is told to. */
interface Work {
  readonly name: string;
  readonly isBegun: boolean;
  readonly end: (end: RunEnd) => void;
}

interface Answer {
  readonly status: number;
  readonly body: { readonly name?: string; readonly status?: string; readonly error?: string };
  readonly headers: Headers;
}

/** A real service behind its real door; what would train is told how to end. */
async function startService({
  path = join(folder, `runs-${made++}`),
  maxQueued = 2,
  concurrentRuns = 1,
  hasWorkers = (): boolean => true,
} = {}): Promise<{
  service: RunService;
  path: string;
  clock: FakeClock;
  works: Work[];
  ask: (method: string, path: string, body?: unknown, scope?: string) => Promise<Answer>;
}> {
  const runs = RunsFolder.open(path);
  const clock = new FakeClock();
  const works: Work[] = [];
  const execute = (run: string, isBegun: boolean): Execution => {
    writeFileSync(join(run, 'manifest.json'), '{}');
    const { promise, resolve } = withResolvers<RunEnd>();
    works.push({ name: basename(run), isBegun, end: resolve });
    return {
      view: {
        name: basename(run),
        path: run,
        state: () => ({ ...queuedState(basename(run)), status: 'running' }),
      },
      ended: promise,
      stop: (error) => resolve({ status: 'stopped', error }),
    };
  };
  const say = (): void => undefined;
  const service = new RunService({
    folder: runs,
    clock,
    concurrentRuns,
    maxQueued,
    execute,
    hasWorkers,
    say,
  });
  const authenticator = new AnyOf(
    (['read', 'admin', 'worker'] as const).map(
      (scope) => new SharedSecret(`secret-${scope}`, { scopes: [scope] }),
    ),
  );
  const cluster = new Cluster(clock);
  const server = await CoordinatorServer.listen({
    listen: { host: '127.0.0.1', port: 0 },
    security: { ...OPEN_TO_LOCAL, authenticator },
    ...{ listener: cluster, clock },
    routes: [
      ...coordinatorRoutes({ runs: service, cluster, clock, readiness: () => service.trouble }),
      submissionRoutes(service),
    ],
  });
  onTestFinished(async () => {
    await server.close();
    runs.close();
  });
  service.pump();
  const ask = async (method: string, to: string, body?: unknown, scope = 'admin'): Promise<Answer> => {
    const response = await fetch(`${server.url.replace('ws:', 'http:')}${to}`, {
      method,
      headers: {
        authorization: `Bearer secret-${scope}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = text.startsWith('{') ? (JSON.parse(text) as Answer['body']) : {};
    return { status: response.status, body: json, headers: response.headers };
  };
  return { service, path, clock, works, ask };
}

function withResolvers<Value>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => undefined;
  const promise = new Promise<Value>((settle) => (resolve = settle));
  return { promise, resolve };
}

const LENET = { config: { model: 'lenet', epochs: 1 } };
const submit = async ({ ask }: Awaited<ReturnType<typeof startService>>): Promise<string> => {
  const { status, body } = await ask('POST', '/api/v1/runs', LENET);
  expect(status).toBe(201);
  return body.name ?? '';
};

describe('a service', () => {
  test.each([
    ['read', 403],
    ['worker', 403],
    ['nobody', 401],
  ])('takes no run, and ends none, for a token of scope %s', async (scope, refusal) => {
    const service = await startService();
    const name = await submit(service);
    expect((await service.ask('POST', '/api/v1/runs', LENET, scope)).status).toBe(refusal);
    expect((await service.ask('POST', `/api/v1/runs/${name}/cancel`, {}, scope)).status).toBe(refusal);
    expect(service.works).toHaveLength(1);
  });

  test('shows those who follow a queued run how it begins and ends', async () => {
    const service = await startService();
    await submit(service);
    const queued = await submit(service);
    const view = service.service.find(queued);
    expect(view?.state().status).toBe('queued');
    service.works[0]?.end({ status: 'done', error: null });
    await expect.poll(() => view?.state().status).toBe('running');
    service.works[1]?.end({ status: 'failed', error: null });
    await expect.poll(() => view?.state().status).toBe('failed');
  });

  test('begins runs in their order, so many at once', async () => {
    const service = await startService({ concurrentRuns: 2, maxQueued: 8 });
    const names = [
      await submit(service),
      await submit(service),
      await submit(service),
      await submit(service),
    ];
    expect(new Set(names).size).toBe(4);
    const begun = (): string[] => service.works.map(({ name }) => name);
    expect(begun()).toEqual(names.slice(0, 2));
    service.works[1]?.end({ status: 'done', error: null });
    await expect.poll(begun).toEqual(names.slice(0, 3));
  });

  test('begins nothing without workers', async () => {
    let workers = false;
    const service = await startService({ hasWorkers: () => workers });
    await submit(service);
    service.clock.advance(60_000);
    expect(service.works).toEqual([]);
    workers = true;
    service.clock.advance(1_000);
    expect(service.works).toHaveLength(1);
  });

  test('whose queue is full says so, and what to do', async () => {
    const service = await startService({ maxQueued: 1 });
    await submit(service);
    const waiting = await submit(service);
    const full = await service.ask('POST', '/api/v1/runs', LENET);
    expect(full.status).toBe(429);
    expect(full.headers.get('retry-after')).toBe('60');
    expect(full.body.error).toMatch(/atelier cancel RUN.*--queue/);
    await service.ask('POST', `/api/v1/runs/${waiting}/cancel`);
    await submit(service);
  });

  test.each([
    ['an unknown setting', { config: { epoch: 3 } }, /unknown setting epoch/],
    ['a setting out of range', { config: { model: 'lenet', epochs: 0 } }, /--epochs 0/],
    [
      'a file of the coordinator as its network',
      { config: { model: '/etc/passwd.json' } },
      /comes with its topology/,
    ],
    ['a name that is a path', { config: { model: 'lenet', name: '../up' } }, /--name/],
    ['no config', {}, /config/],
  ])('refuses %s', async (_name, body, message) => {
    const service = await startService();
    const { status, body: answer } = await service.ask('POST', '/api/v1/runs', body);
    expect(status).toBe(400);
    expect(answer.error).toMatch(message);
    expect(readdirSync(service.path)).toEqual(['lock']);
  });

  test('keeps the topology that came with a run in its folder', async () => {
    const service = await startService();
    const topology = { class_name: 'Sequential', config: { layers: [] } };
    const { body } = await service.ask('POST', '/api/v1/runs', { config: { model: 'mine.json' }, topology });
    const run = join(service.path, body.name ?? '');
    expect(basename(run)).toMatch(/-mine$/);
    expect(readJson(run, 'topology.json')).toEqual(topology);
    expect(readJson(run, 'config.json')).toMatchObject({ model: join(run, 'topology.json') });
  });

  test('cancels what waits and what goes on, and says of the rest that it is over', async () => {
    const service = await startService();
    const [going, waiting] = [await submit(service), await submit(service)];
    for (const name of [waiting, going]) {
      expect((await service.ask('POST', `/api/v1/runs/${name}/cancel`)).status).toBe(202);
      const state = async (): Promise<unknown> => (await service.ask('GET', `/api/v1/runs/${name}`)).body;
      await expect.poll(state).toMatchObject({ status: 'stopped', reason: 'cancelled' });
      expect((await service.ask('POST', `/api/v1/runs/${name}/cancel`)).status).toBe(409);
    }
    expect((await service.ask('POST', '/api/v1/runs/another/cancel')).status).toBe(404);
  });

  test('does not see links as runs', async () => {
    const service = await startService();
    const outside = join(folder, 'outside');
    mkdirSync(outside, { recursive: true });
    writeFileSync(join(outside, 'config.json'), '{}');
    symlinkSync(outside, join(service.path, 'link'));
    expect((await service.ask('GET', '/api/v1/runs/link')).status).toBe(404);
    expect((await service.ask('GET', '/api/v1/runs/link/files/config.json')).status).toBe(404);
  });
});

describe('a service that starts on the folder of another', () => {
  test('goes on with what was begun, then with what waited, and not with what is over', async () => {
    const path = join(folder, `runs-${made++}`);
    const before = await startService({ path, maxQueued: 8 });
    const names = [await submit(before), await submit(before), await submit(before), await submit(before)];
    const [done = '', begun = '', cancelled = '', waiting = ''] = names;
    before.works[0]?.end({ status: 'done', error: null });
    await expect.poll(() => before.works.length).toBe(2);
    await before.ask('POST', `/api/v1/runs/${cancelled}/cancel`);
    expect(await before.service.stop()).toBe(2);
    expect((await before.ask('GET', '/readyz')).status).toBe(503);
    expect((await before.ask('POST', '/api/v1/runs', LENET)).status).toBe(503);

    mkdirSync(join(path, '.incoming-half'));
    const after = await startService({ path, concurrentRuns: 4 });
    expect(after.works.map(({ name, isBegun }) => ({ name, isBegun }))).toEqual([
      { name: begun, isBegun: true },
      { name: waiting, isBegun: false },
    ]);
    expect((await after.ask('GET', `/api/v1/runs/${done}`)).status).toBe(200);
    expect(existsSync(join(path, '.incoming-half'))).toBe(false);
  });
});
