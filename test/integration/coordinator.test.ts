import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { Bitmap } from '../../shared/bitmap.js';
import { encodeFrame } from '../../shared/protocol/frame.js';
import {
  CloseCode,
  HANDSHAKE_TIMEOUT_MS,
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_TIMEOUT_MS,
  MAX_GREETING_BYTES,
  PROTOCOL_VERSION,
  SUBPROTOCOL,
} from '../../shared/protocol/limits.js';
import {
  Client,
  FINGERPRINT,
  HELLO,
  partialOf,
  refusedWith,
  SHARDS,
  startCoordinator,
  type TestCoordinator,
} from '../support/coordinator.js';
import { atelierRejection } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const TOKEN = 'correct-horse-battery-staple';

const events = ({ directory }: TestCoordinator): string[] =>
  readFileSync(join(directory.path, 'events.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { type: string }).type);

/** Resolves when so many workers are ready. */
const known = async ({ cluster }: TestCoordinator, workers: number): Promise<void> => {
  await expect.poll(() => cluster.strength(0).workers).toBe(workers);
};

/** A frame whose header is anything at all. */
function frameOf(header: unknown): Buffer {
  const packed = new Packr({ useRecords: false }).pack(header);
  const frame = Buffer.alloc(Math.ceil((4 + packed.byteLength) / 8) * 8);
  frame.writeUInt32LE(packed.byteLength, 0);
  frame.set(packed, 4);
  return frame;
}

describe('an upgrade', () => {
  const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });

  test.each([
    ['from a web page, with 403', [SUBPROTOCOL], { ...bearer(TOKEN), origin: 'http://127.0.0.1' }, 403],
    ['without a token, with 401', [SUBPROTOCOL], {}, 401],
    ['with a wrong token, with 401', [SUBPROTOCOL], bearer(`${TOKEN}x`), 401],
    ['with a token that begins right, with 401', [SUBPROTOCOL], bearer(TOKEN.slice(0, -1)), 401],
    ['with an empty token, with 401', [SUBPROTOCOL], bearer(''), 401],
    ['with another scheme, with 401', [SUBPROTOCOL], { authorization: `Basic ${TOKEN}` }, 401],
    ['with another subprotocol, with 426', ['atelier.v0'], bearer(TOKEN), 426],
    ['without a subprotocol, with 426', [], bearer(TOKEN), 426],
  ])('is refused %s', async (_name, protocols, headers, status) => {
    const { url } = await startCoordinator(folder, { token: TOKEN });
    expect(await refusedWith(url, protocols, headers)).toBe(status);
  });

  test('with the token gets in', async () => {
    const { url } = await startCoordinator(folder, { token: TOKEN });
    const client = await Client.open(url, TOKEN);
    expect(client.socket.protocol).toBe(SUBPROTOCOL);
  });

  test('is what a plain HTTP request that fits no page is told to ask for', async () => {
    const { url } = await startCoordinator(folder);
    const response = await fetch(url.replace('ws:', 'http:'), { method: 'POST' });
    expect(response.status).toBe(426);
    expect(await response.text()).toContain('atelier worker --join');
  });
});

describe('a connection that has not said hello', () => {
  const random = Buffer.from(Array.from({ length: 300 }, (_, i) => (i * 97 + 31) % 256));

  test.each<[string, Buffer | string, number]>([
    ['garbage', random, CloseCode.badFrame],
    ['nothing in a frame', Buffer.alloc(0), CloseCode.badFrame],
    ['text', 'GET / HTTP/1.1', CloseCode.badFrame],
    ['a frame that is too long', Buffer.alloc(MAX_GREETING_BYTES + 1), CloseCode.badFrame],
    ['a hello without its fields', encodeFrame({ type: 'hello' }), CloseCode.badFrame],
    ['an unknown message', encodeFrame({ type: 'ähnlich '.repeat(100) }), CloseCode.badFrame],
    ['a header of odd objects', frameOf({ payloadBytes: { toString: 1, valueOf: 1 } }), CloseCode.badFrame],
    ['a heartbeat', encodeFrame({ type: 'heartbeat' }), CloseCode.badFrame],
    ['a hello of version 0', encodeFrame({ ...HELLO, protocolVersion: 0 }), CloseCode.versionMismatch],
    [
      'a hello of the next version',
      encodeFrame({ ...HELLO, protocolVersion: PROTOCOL_VERSION + 1 }),
      CloseCode.versionMismatch,
    ],
  ])('and says %s is closed with a code, and others still get in', async (_name, frame, code) => {
    const coordinator = await startCoordinator(folder);
    const client = await Client.open(coordinator.url);
    client.socket.send(frame);
    expect((await client.closed).code).toBe(code);
    await Client.join(coordinator.url);
  });

  test('and says nothing is closed when its time is up', async () => {
    const { url, clock } = await startCoordinator(folder);
    const client = await Client.open(url);
    clock.advance(HANDSHAKE_TIMEOUT_MS);
    expect((await client.closed).code).toBe(CloseCode.timeout);
  });
});

describe('a worker that is in', () => {
  test('gets the run and its trial', async () => {
    const { url, dataset, size } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(url);
    const { message } = await client.next('run');
    const { run } = message;
    expect(message.spec).toMatchObject({ shards: SHARDS, layout: { size }, dataset: dataset.info });
    client.send({ type: 'ready', run, fingerprint: FINGERPRINT });
    await Client.enlist(url);
    const bitmaps = (await client.next('trial')).payload;
    expect([...new Bitmap(24, bitmaps.subarray(3)).rows()]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('and says nothing is closed when its time is up', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.enlist(coordinator.url);
    await known(coordinator, 1);
    coordinator.clock.advance(HEARTBEAT_TIMEOUT_MS);
    expect((await client.closed).code).toBe(CloseCode.timeout);
    expect(events(coordinator)).toEqual(['worker-joined', 'worker-left']);
  });

  test('and says that it lives is kept and answered', async () => {
    const { url, clock } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(url);
    for (let passed = 0; passed <= 2 * HEARTBEAT_TIMEOUT_MS; passed += HEARTBEAT_INTERVAL_MS) {
      clock.advance(HEARTBEAT_INTERVAL_MS);
      client.send({ type: 'heartbeat' });
      await client.next('heartbeat');
    }
    expect(client.socket.readyState).toBe(client.socket.OPEN);
  });

  test("and says that it lives is kept though the host's clock is set forward", async () => {
    const { url, clock } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(url);
    clock.advance(HEARTBEAT_INTERVAL_MS);
    client.send({ type: 'heartbeat' });
    await client.next('heartbeat');
    clock.setForwardBy = 10 * HEARTBEAT_TIMEOUT_MS;
    clock.advance(HEARTBEAT_TIMEOUT_MS - HEARTBEAT_INTERVAL_MS);
    client.send({ type: 'heartbeat' });
    await client.next('heartbeat');
  });

  test('and is lost before the run has begun does not end it', async () => {
    const { url } = await startCoordinator(folder, { minWorkers: 2 });
    (await Client.enlist(url)).socket.terminate();
    const [one, two] = [await Client.enlist(url), await Client.enlist(url)];
    await Promise.all([one.next('lease'), two.next('lease')]);
  });

  test('gets the rows it asks for', async () => {
    const { url, dataset } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(url);
    const rows = [1, 7, 28];
    client.send({ type: 'need-rows', run: 0 }, Bitmap.of(29, rows).bytes);
    const { message, payload } = await client.next('rows');
    const bytes = [
      ...new Uint8Array(Uint32Array.from(rows).buffer),
      ...rows.flatMap((row) => [...dataset.images.subarray(4 * row, 4 * row + 4)]),
      ...rows.map((row) => dataset.labels[row]),
    ];
    expect({ count: message.count, payload: [...payload] }).toEqual({ count: 3, payload: bytes });
  });

  test('gets no rows of a run it does not compute for', async () => {
    const { url } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(url);
    client.send({ type: 'need-rows', run: 1 }, Bitmap.of(29, [1, 7]).bytes);
    client.send({ type: 'need-rows', run: 0 }, Bitmap.of(29, [5]).bytes);
    // Answered in order: rows of the other run would come first.
    const { message, payload } = await client.next('rows');
    expect(message).toMatchObject({ run: 0, count: 1 });
    expect([...new Uint32Array(payload.slice(0, 4).buffer)]).toEqual([5]);
  });

  test('and is lost in a run that has begun: what it held is leased to another at once', async () => {
    const coordinator = await startCoordinator(folder);
    const [first, second] = [await Client.enlist(coordinator.url), await Client.enlist(coordinator.url)];
    await known(coordinator, 2);
    const { message: lease } = await first.next('lease');
    expect(lease).toMatchObject({ round: 0, start: 0, count: SHARDS });
    first.socket.terminate();
    // The same units, by another number.
    expect((await second.next('lease')).message).toEqual({ ...lease, lease: 1 });
    expect(events(coordinator)).toContain('worker-left');
  });

  test('and reports a failure before anybody could compute ends the run with its words', async () => {
    const { url, run } = await startCoordinator(folder);
    const client = await Client.join(url);
    client.send({ type: 'failed', run: 0, message: 'the graphics card melted' });
    await run.ended;
    expect(run.summary()).toMatchObject({ status: 'failed' });
    expect(run.summary().reason).toBe('worker tester failed: the graphics card melted');
    expect((await client.closed).code).toBe(CloseCode.finished);
  });

  test('and fails at a step does not end the run; the third failure without a step between does', async () => {
    const { url, run } = await startCoordinator(folder);
    for (let failure = 0; failure < 3; failure++) {
      const client = await Client.enlist(url);
      await client.next('lease');
      client.send({ type: 'failed', run: 0, message: `out of memory, for the ${failure}. time` });
      if (failure < 2) client.socket.terminate();
    }
    expect(await run.ended).toMatchObject({ status: 'failed', error: { code: 'run-failed' } });
    expect(run.summary().reason).toContain('for the 2. time');
  });

  test('and fails at one run of several: the others do not hear of it, and it begins that one afresh, thrice at most', async () => {
    const { url, cluster, dataset } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.enlist(url);
    const { spec } = (await Client.join(url).then((other) => other.next('run'))).message;
    const heard: string[] = [];
    const second = cluster.attach({
      ...{ spec, dataset, refusal: () => null, joined: () => undefined, resized: () => undefined },
      ...{ partialBytes: () => 0, placeToReceive: () => null, placeLeft: () => null },
      warned: (_worker, message) => heard.push(`warned ${message}`),
      failed: (_worker, message) => heard.push(`failed ${message}`),
      left: (_worker, reason) => heard.push(`left ${reason}`),
      answered: () => 'late',
      trialFrame: () => Buffer.alloc(0),
      roundFrame: () => {
        throw new Error('it has no rounds');
      },
      roundSent: () => undefined,
    });
    client.send({ type: 'warning', run: second, message: 'slow' });
    for (let failure = 0; failure < 3; failure++) {
      expect((await client.next('run')).message.run).toBe(second);
      client.send({ type: 'ready', run: second, fingerprint: FINGERPRINT });
      client.send({ type: 'failed', run: second, message: `${failure}` });
      expect((await client.next('run-over')).message.run).toBe(second);
    }
    const failures = ['0', '1', '2'].flatMap((message) => [`failed ${message}`, `left failed: ${message}`]);
    expect(heard).toEqual(['warned slow', ...failures]);
    expect(cluster.strength(second).workers).toBe(0);
    expect(cluster.strength(0).workers).toBe(1);
    client.send({ type: 'warning', run: null, message: 'hot' });
    await expect.poll(() => heard.length).toBe(7);
  });

  test('that comes when the run is over is refused', async () => {
    const { url, run } = await startCoordinator(folder);
    const first = await Client.join(url);
    first.send({ type: 'failed', run: 0, message: 'x' });
    await run.ended;
    const late = await Client.open(url);
    late.send(HELLO);
    expect(await late.closed).toEqual({ code: CloseCode.overloaded, reason: 'worker tester failed: x' });
  });
});

describe('a worker that breaks the protocol in a run', () => {
  const evaluated = {
    ...{ type: 'evaluated', run: 0, trial: 0, round: 0, chunk: 0 },
    ...{ rows: 8, lossSum: 1, computeMs: 1, retries: 0 },
  };
  const floats = (size: number): Uint8Array => new Uint8Array(4 * size);
  type Say = (size: number, partial: ReturnType<typeof partialOf>) => Buffer;

  test.each<[string, Say]>([
    ['of too few rows', (size, partial) => encodeFrame({ ...partial, rows: 7 }, floats(size))],
    [
      'of more rows right than there are',
      (size, partial) => encodeFrame({ ...partial, correct: 9 }, floats(size)),
    ],
    [
      'of shards that are no node',
      (size, partial) =>
        encodeFrame(
          { ...partial, start: 1, count: 2, rows: 4, rowDigests: partial.rowDigests.slice(1, 3) },
          floats(size),
        ),
    ],
    [
      'about other rows',
      (size, partial) =>
        encodeFrame({ ...partial, rowDigests: partial.rowDigests.toReversed() }, floats(size)),
    ],
    [
      'that names rows of too few shards',
      (size, partial) => encodeFrame({ ...partial, rowDigests: partial.rowDigests.slice(1) }, floats(size)),
    ],
    ['of a round to come', (size, partial) => encodeFrame({ ...partial, round: 1 }, floats(size))],
    ['of a trial there is not', (size, partial) => encodeFrame({ ...partial, trial: 1 }, floats(size))],
    ['of too few floats', (size, partial) => encodeFrame(partial, floats(size - 1))],
    ['of too many floats', (size, partial) => encodeFrame(partial, floats(size + 1))],
    ['without its floats', (_size, partial) => encodeFrame(partial)],
    ['of an evaluation nobody asked for', () => encodeFrame({ ...evaluated, round: 1 }, floats(9))],
    ['of a confusion matrix of another size', () => encodeFrame(evaluated, floats(4))],
    ['of a bitmap of another size', () => encodeFrame({ type: 'need-rows', run: 0 }, Buffer.alloc(3))],
    ['of a second hello', () => encodeFrame(HELLO)],
    ['of garbage', () => Buffer.alloc(100, 0xc1)],
  ])('(by an answer %s) is closed with 4400, and the run goes on without it', async (_name, say) => {
    const coordinator = await startCoordinator(folder);
    const { url, size, run } = coordinator;
    const client = await Client.enlist(url);
    const { message } = await client.next('round');
    const weights = run.weights[0]?.weights.slice();
    client.socket.send(say(size, partialOf(coordinator, message)));
    expect((await client.closed).code).toBe(CloseCode.badFrame);
    const other = await Client.enlist(url);
    expect((await other.next('lease')).message).toMatchObject({ round: 0, start: 0, count: SHARDS });
    expect(run.weights[0]?.weights).toEqual(weights);
  });

  test('(by asking for a row twice) is closed with 4400', async () => {
    const { url } = await startCoordinator(folder);
    const client = await Client.join(url);
    client.send({ type: 'need-rows', run: 0 }, Bitmap.of(29, [5]).bytes);
    await client.next('rows');
    client.send({ type: 'need-rows', run: 0 }, Bitmap.of(29, [4, 5]).bytes);
    expect((await client.closed).code).toBe(CloseCode.badFrame);
  });
});

describe('a run of one worker with made-up answers', () => {
  test('goes through its steps and evaluations to its end', async () => {
    const coordinator = await startCoordinator(folder);
    const { url, run, size } = coordinator;
    const client = await Client.enlist(url);
    for (const stepInEpoch of [0, 1]) {
      const { message } = await client.next('round');
      expect(message.work).toEqual({ kind: 'step', epoch: 0, stepInEpoch });
      const { round } = message;
      expect((await client.next('lease')).message).toMatchObject({ round, start: 0, count: SHARDS });
      const values = Float32Array.from({ length: size }, (_, i) => i / 10 - 0.5);
      client.send(partialOf(coordinator, message), new Uint8Array(values.buffer));
    }
    for (const [split, rows] of [
      ['validation', 8],
      ['test', 5],
    ] as const) {
      const { message } = await client.next('round');
      expect(message.work).toEqual({ kind: 'evaluate', split });
      const confusion = Uint32Array.of(rows, 0, 0, 0, 0, 0, 0, 0, 0);
      client.send(
        {
          ...{ type: 'evaluated', run: 0, trial: 0, round: message.round, chunk: 0 },
          ...{ rows, lossSum: rows, computeMs: 1, retries: 0 },
        },
        new Uint8Array(confusion.buffer),
      );
    }
    expect(await run.ended).toEqual({ status: 'done', error: null });
    const [trial] = run.summary().trials;
    expect(trial?.epochs).toMatchObject([
      { rows: 16, loss: 0.5, accuracy: 0.25, valLoss: 1, valAccuracy: 1 },
    ]);
    expect(trial?.test).toMatchObject({ rows: 5, loss: 1, accuracy: 1 });
    expect((await client.next('run-over')).message.run).toBe(0);
    expect((await client.next('finished')).message.reason).toBe('the run is done');
    expect((await client.closed).code).toBe(CloseCode.finished);
  });

  test('ends by name when the gradient is not finite', async () => {
    const coordinator = await startCoordinator(folder);
    const { url, run, size } = coordinator;
    const client = await Client.enlist(url);
    const { message } = await client.next('round');
    const values = new Float32Array(size).fill(Number.NaN);
    client.send(partialOf(coordinator, message), new Uint8Array(values.buffer));
    expect(await run.ended).toMatchObject({ status: 'failed' });
    expect(run.summary().reason).toMatch(/epoch 1, step 1.*not finite/);
  });
});

test('an address that is taken is refused', async () => {
  const { url, cluster, clock } = await startCoordinator(folder);
  const listen = { host: '127.0.0.1', port: Number(new URL(url).port) };
  const { message } = await atelierRejection(
    'usage',
    CoordinatorServer.listen({ listen, security: OPEN_TO_LOCAL, listener: cluster, clock }),
  );
  expect(message).toContain(`127.0.0.1:${listen.port}`);
});
