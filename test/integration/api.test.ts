import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, onTestFinished, test } from 'vitest';
import { AnyOf, SharedSecret } from '../../coordinator/security/authenticator.js';
import { MAX_STREAMS, STREAM_INTERVAL_MS } from '../../coordinator/http/stream.js';
import { RunState } from '../../shared/api.js';
import type { Scope } from '../../shared/join-token.js';
import {
  Client,
  MICRO_BATCH,
  partialOf,
  startCoordinator,
  type TestCoordinator,
} from '../support/coordinator.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** Asks with a path that nobody tidies up on the way, as `fetch` would. */
function ask(
  { url }: Pick<TestCoordinator, 'url'>,
  path: string,
  {
    token,
    method = 'GET',
    headers = {},
  }: { token?: string; method?: string; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: hostname, port, path, method, headers: { ...authorization, ...headers }, agent: false },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.once('end', () =>
          resolve({ status: response.statusCode ?? 0, text, headers: response.headers }),
        );
        response.once('error', reject);
      },
    );
    sent.once('error', reject).end();
  });
}

const tokenOf = (scope: Scope): string => `a-secret-with-the-scope-${scope}`;
const AUTHENTICATOR = new AnyOf(
  (['read', 'admin', 'worker'] as const).map(
    (scope) => new SharedSecret(tokenOf(scope), { scopes: [scope] }),
  ),
);

describe('the API of a coordinator', () => {
  test('describes itself as OpenAPI 3.1', async () => {
    const coordinator = await startCoordinator(folder);
    const { status, text } = await ask(coordinator, '/openapi.json');
    expect(status).toBe(200);
    const document = JSON.parse(text) as { openapi: string; paths: Record<string, unknown> };
    const { valid, errors } = await new Validator().validate(document);
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining([
        '/api/v1/runs',
        '/api/v1/runs/{run}',
        '/api/v1/workers',
        '/healthz',
        '/readyz',
      ]),
    );
  });

  test.each<[string, Scope | null, number]>([
    ['/healthz', null, 200],
    ['/readyz', null, 200],
    ['/api/v1/runs', null, 401],
    ['/api/v1/runs', 'worker', 403],
    ['/api/v1/runs', 'read', 200],
    ['/api/v1/runs', 'admin', 200],
    ['/api/v1/workers', null, 401],
    ['/api/v1/workers', 'worker', 403],
    ['/api/v1/workers', 'read', 200],
    ['/api/v1/runs/run/files/config.json', null, 401],
    ['/api/v1/runs/run/files/config.json', 'worker', 403],
    ['/api/v1/runs/run/files/config.json', 'read', 200],
    ['/api/v1/runs/run/events', 'worker', 403],
    ['/api/v1/runs/run/stream', 'worker', 403],
    ['/openapi.json', null, 401],
    ['/openapi.json', 'read', 200],
    ['/v1/probe', null, 401],
    ['/v1/probe', 'worker', 200],
    ['/nowhere', null, 404],
  ])('answers %s with a token of scope %s by %i', async (path, scope, status) => {
    const coordinator = await startCoordinator(folder, { authenticator: AUTHENTICATOR });
    const { status: answered } = await ask(
      coordinator,
      path,
      scope === null ? {} : { token: tokenOf(scope) },
    );
    expect(answered).toBe(status);
  });

  test('is open to its own pages, and to no others', async () => {
    const coordinator = await startCoordinator(folder);
    const { host } = new URL(coordinator.url);
    const from = async (headers: Record<string, string>): Promise<number> =>
      (await ask(coordinator, '/api/v1/runs', { headers })).status;
    expect(await from({ origin: `http://${host}` })).toBe(200);
    expect(await from({ origin: `https://${host}` })).toBe(403);
    expect(await from({ origin: 'http://127.0.0.1:1' })).toBe(403);
    expect(await from({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' })).toBe(403);
    expect(await from({ 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' })).toBe(200);
  });

  test('reads nothing from the query but a place in the log', async () => {
    const coordinator = await startCoordinator(folder);
    expect((await ask(coordinator, '/api/v1/runs?token=x')).status).toBe(400);
    expect((await ask(coordinator, '/api/v1/runs/run/events?after=0&token=x')).status).toBe(400);
    expect((await ask(coordinator, '/api/v1/runs/run/events?after=0')).status).toBe(200);
  });
});

describe('a run', () => {
  test('tells how far it has come, and who computes', async () => {
    const coordinator = await startCoordinator(folder);
    const state = async (): Promise<RunState> =>
      RunState.parse(JSON.parse((await ask(coordinator, '/api/v1/runs/run')).text));
    expect(await state()).toMatchObject({ status: 'waiting', progress: 0, workers: [], weightsSha256: null });

    const client = await Client.enlist(coordinator.url);
    const { message } = await client.next('round');
    const payload = new Uint8Array(coordinator.size * Float32Array.BYTES_PER_ELEMENT);
    client.send(partialOf(coordinator, message), payload);
    await client.next('round');
    const { status, trials, workers } = await state();
    expect(status).toBe('running');
    expect(trials).toMatchObject([
      {
        trial: 0,
        fold: null,
        status: 'running',
        epoch: 1,
        epochs: 1,
        step: 1,
        steps: 2,
        loss: 4 / (4 * MICRO_BATCH),
      },
    ]);
    expect(workers).toMatchObject([{ name: 'tester', state: 'ready', slots: 1, busySlots: 1, leases: 1 }]);
    client.socket.terminate();
    await expect.poll(async () => (await state()).workers).toMatchObject([{ name: 'tester', state: 'lost' }]);
  });

  test('that is not there is a 404 which says how to find the others', async () => {
    const coordinator = await startCoordinator(folder);
    const { status, text } = await ask(coordinator, '/api/v1/runs/another');
    expect(status).toBe(404);
    expect(text).toContain('/api/v1/runs names');
  });

  test.each(['..', '.', '..%2f..', '%2e%2e', 'a%00b', 'a%5cb', '.hidden', 'x'.repeat(200)])(
    'cannot be called %s',
    async (name) => {
      const coordinator = await startCoordinator(folder);
      const { status } = await ask(coordinator, `/api/v1/runs/${name}/files/config.json`);
      expect([400, 404, 414]).toContain(status);
    },
  );
});

describe('the files of a run', () => {
  test('can be read, those outside cannot', async () => {
    const coordinator = await startCoordinator(folder);
    const { path } = coordinator.directory;
    writeFileSync(join(path, '..', 'secret'), 'secret');
    mkdirSync(join(path, 'sub'));
    writeFileSync(join(path, 'sub', 'page.html'), '<p>hello');
    symlinkSync(join(path, '..', 'secret'), join(path, 'link'));
    symlinkSync(join(path, '..'), join(path, 'up'));
    symlinkSync(join(path, 'config.json'), join(path, 'sub', 'inside'));
    const read = (name: string): Promise<Answer> => ask(coordinator, `/api/v1/runs/run/files/${name}`);
    const page = await read('sub/page.html');
    expect(page).toMatchObject({ status: 200, text: '<p>hello' });
    expect(page.headers['content-security-policy']).toContain('sandbox');
    for (const name of [
      ...[
        '../secret',
        '..%2fsecret',
        '%2e%2e/secret',
        'sub/../../secret',
        'sub/..%2f..%2fsecret',
        '..%5csecret',
      ],
      ...[
        'link',
        'up/secret',
        'sub/inside',
        'sub',
        '',
        '/etc/passwd',
        '%2fetc/passwd',
        'a%00',
        'nothing',
        './config.json',
      ],
    ]) {
      const { status, text } = await read(name);
      expect([name, status]).toEqual([name, 404]);
      expect(text).not.toContain('secret"');
    }
  });
});

describe('the stream of a run', () => {
  /** The events that have come, and how many there are to come. */
  function listen(coordinator: TestCoordinator): {
    events: () => string[];
    until: (n: number) => Promise<void>;
  } {
    const { hostname, port } = new URL(coordinator.url);
    let text = '';
    const events = (): string[] => text.split('\n\n').slice(0, -1);
    const waiters: (() => void)[] = [];
    const sent = request(
      { host: hostname, port, path: '/api/v1/runs/run/stream', agent: false },
      (response) => {
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
          for (const wake of waiters.splice(0)) wake();
        });
      },
    );
    sent.on('error', () => undefined).end();
    onTestFinished(() => void sent.destroy());
    const until = async (n: number): Promise<void> => {
      while (events().length < n) await new Promise<void>((resolve) => waiters.push(resolve));
    };
    return { events, until };
  }

  test('says what has changed, twice a second at the most', async () => {
    const coordinator = await startCoordinator(folder);
    const { events, until } = listen(coordinator);
    await until(1);
    expect(events()[0]).toMatch(/^event: run\ndata: \{"name":"run","status":"waiting"/);
    coordinator.clock.advance(STREAM_INTERVAL_MS);
    await Client.enlist(coordinator.url);
    await expect.poll(() => coordinator.run.status).toBe('running');
    expect(events()).toHaveLength(1);
    coordinator.clock.advance(STREAM_INTERVAL_MS);
    await until(4);
    expect(events().map((event) => event.split('\n')[0])).toEqual([
      ...['event: run', 'event: log', 'event: log', 'event: run'],
    ]);
    expect(events()[1]).toContain('"type":"worker-joined"');
  });

  test('has few listeners', async () => {
    const coordinator = await startCoordinator(folder);
    const listeners = Array.from({ length: MAX_STREAMS }, () => listen(coordinator));
    await Promise.all(listeners.map(({ until }) => until(1)));
    const { status, headers } = await ask(coordinator, '/api/v1/runs/run/stream');
    expect(status).toBe(503);
    expect(headers['retry-after']).toBe('10');
  });
});
