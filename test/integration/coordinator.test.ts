import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { CoordinatorServer } from '../../coordinator/server.js';
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
import type { WorkerToCoordinator } from '../../shared/protocol/messages.js';
import {
  Client,
  HELLO,
  MICRO_BATCH,
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

  test('is what a plain HTTP request is told to ask for', async () => {
    const { url } = await startCoordinator(folder);
    const response = await fetch(url.replace('ws:', 'http:'));
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
    expect(message.spec).toMatchObject({ shards: SHARDS, layout: { size }, dataset: dataset.info });
    const bitmaps = (await client.next('trial')).payload;
    expect([...new Bitmap(24, bitmaps.subarray(3)).rows()]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test('and says nothing is closed when its time is up', async () => {
    const coordinator = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(coordinator.url);
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

  test('and is lost before the run has begun does not end it', async () => {
    const { url } = await startCoordinator(folder, { minWorkers: 2 });
    (await Client.join(url)).socket.terminate();
    const [one, two] = [await Client.join(url), await Client.join(url)];
    await Promise.all([one.next('step'), two.next('step')]);
  });

  test('gets the rows it asks for', async () => {
    const { url, dataset } = await startCoordinator(folder, { minWorkers: 2 });
    const client = await Client.join(url);
    const rows = [1, 7, 28];
    client.send({ type: 'need-rows' }, Bitmap.of(29, rows).bytes);
    const { message, payload } = await client.next('rows');
    const bytes = [
      ...new Uint8Array(Uint32Array.from(rows).buffer),
      ...rows.flatMap((row) => [...dataset.images.subarray(4 * row, 4 * row + 4)]),
      ...rows.map((row) => dataset.labels[row]),
    ];
    expect({ count: message.count, payload: [...payload] }).toEqual({ count: 3, payload: bytes });
  });

  test('and leaves a run that has begun ends it, and is named', async () => {
    const { url, run } = await startCoordinator(folder);
    const client = await Client.join(url);
    await client.next('step');
    client.socket.terminate();
    expect(await run.ended).toMatchObject({ status: 'failed', error: { code: 'run-failed' } });
    expect(run.summary().reason).toContain('worker tester was lost');
  });

  test('and reports a failure ends the run with its words', async () => {
    const { url, run } = await startCoordinator(folder);
    const client = await Client.join(url);
    client.send({ type: 'failed', message: 'the graphics card melted' });
    await run.ended;
    expect(run.summary()).toMatchObject({ status: 'failed' });
    expect(run.summary().reason).toBe('worker tester failed: the graphics card melted');
    expect((await client.closed).code).toBe(CloseCode.finished);
  });

  test('that comes when the run is over is refused', async () => {
    const { url, run } = await startCoordinator(folder);
    const first = await Client.join(url);
    first.send({ type: 'failed', message: 'x' });
    await run.ended;
    const late = await Client.open(url);
    late.send(HELLO);
    expect(await late.closed).toEqual({ code: CloseCode.overloaded, reason: 'the run is over' });
  });
});

describe('a worker that breaks the protocol in a run', () => {
  const partial = {
    type: 'partial',
    trial: 0,
    round: 0,
    start: 0,
    count: SHARDS,
    rows: SHARDS * MICRO_BATCH,
    lossSum: 1,
    correct: 1,
    computeMs: 1,
  } as const satisfies WorkerToCoordinator;
  const evaluated = {
    type: 'evaluated',
    trial: 0,
    round: 0,
    chunk: 0,
    rows: 8,
    lossSum: 1,
    computeMs: 1,
  } as const satisfies WorkerToCoordinator;
  const floats = (size: number): Uint8Array => new Uint8Array(4 * size);
  type Say = (size: number) => Buffer;

  test.each<[string, Say]>([
    ['of too few rows', (size) => encodeFrame({ ...partial, rows: 7 }, floats(size))],
    ['of more rows right than there are', (size) => encodeFrame({ ...partial, correct: 9 }, floats(size))],
    [
      'of shards that are no node',
      (size) => encodeFrame({ ...partial, start: 1, count: 2, rows: 4 }, floats(size)),
    ],
    ['of a round to come', (size) => encodeFrame({ ...partial, round: 1 }, floats(size))],
    ['of a trial there is not', (size) => encodeFrame({ ...partial, trial: 1 }, floats(size))],
    ['of too few floats', (size) => encodeFrame(partial, floats(size - 1))],
    ['of too many floats', (size) => encodeFrame(partial, floats(size + 1))],
    ['without its floats', () => encodeFrame(partial)],
    ['of an evaluation nobody asked for', () => encodeFrame({ ...evaluated, round: 1 }, floats(9))],
    ['of a confusion matrix of another size', () => encodeFrame(evaluated, floats(4))],
    ['of a bitmap of another size', () => encodeFrame({ type: 'need-rows' }, Buffer.alloc(3))],
    ['of a second hello', () => encodeFrame(HELLO)],
    ['of garbage', () => Buffer.alloc(100, 0xc1)],
  ])('(by an answer %s) is closed with 4400, and the run ends with a reason', async (_name, say) => {
    const { url, run, size } = await startCoordinator(folder);
    const client = await Client.join(url);
    await client.next('step');
    client.socket.send(say(size));
    expect((await client.closed).code).toBe(CloseCode.badFrame);
    expect(await run.ended).toMatchObject({ status: 'failed' });
    expect(run.summary().reason).toContain('worker tester');
  });

  test('(by asking for a row twice) is closed with 4400', async () => {
    const { url } = await startCoordinator(folder);
    const client = await Client.join(url);
    client.send({ type: 'need-rows' }, Bitmap.of(29, [5]).bytes);
    await client.next('rows');
    client.send({ type: 'need-rows' }, Bitmap.of(29, [4, 5]).bytes);
    expect((await client.closed).code).toBe(CloseCode.badFrame);
  });
});

describe('a run of one worker with made-up answers', () => {
  test('goes through its steps and evaluations to its end', async () => {
    const { url, run, size } = await startCoordinator(folder);
    const client = await Client.join(url);
    for (const start of [0, 1]) {
      const { message } = await client.next('step');
      expect(message).toMatchObject({ stepInEpoch: start, leases: [{ worker: 0, start: 0, count: SHARDS }] });
      const { round } = message;
      const values = Float32Array.from({ length: size }, (_, i) => i / 10 - 0.5);
      client.send(
        {
          type: 'partial',
          trial: 0,
          round,
          start: 0,
          count: SHARDS,
          rows: 8,
          lossSum: 4,
          correct: 2,
          computeMs: 1,
        },
        new Uint8Array(values.buffer),
      );
    }
    for (const [split, rows] of [
      ['validation', 8],
      ['test', 5],
    ] as const) {
      const { message } = await client.next('evaluate');
      expect(message.split).toBe(split);
      const { round } = message;
      const confusion = Uint32Array.of(rows, 0, 0, 0, 0, 0, 0, 0, 0);
      client.send(
        { type: 'evaluated', trial: 0, round, chunk: 0, rows, lossSum: rows, computeMs: 1 },
        new Uint8Array(confusion.buffer),
      );
    }
    expect(await run.ended).toEqual({ status: 'done', error: null });
    const [trial] = run.summary().trials;
    expect(trial?.epochs).toMatchObject([
      { rows: 16, loss: 0.5, accuracy: 0.25, valLoss: 1, valAccuracy: 1 },
    ]);
    expect(trial?.test).toMatchObject({ rows: 5, loss: 1, accuracy: 1 });
    expect((await client.next('finished')).message.reason).toBe('the run is done');
    expect((await client.closed).code).toBe(CloseCode.finished);
  });

  test('ends by name when the gradient is not finite', async () => {
    const { url, run, size } = await startCoordinator(folder);
    const client = await Client.join(url);
    const { round } = (await client.next('step')).message;
    const values = new Float32Array(size).fill(Number.NaN);
    client.send(
      {
        type: 'partial',
        trial: 0,
        round,
        start: 0,
        count: SHARDS,
        rows: 8,
        lossSum: 1,
        correct: 1,
        computeMs: 1,
      },
      new Uint8Array(values.buffer),
    );
    expect(await run.ended).toMatchObject({ status: 'failed' });
    expect(run.summary().reason).toMatch(/epoch 1, step 1.*not finite/);
  });
});

test('an address that is taken is refused', async () => {
  const { url, run, clock } = await startCoordinator(folder);
  const listen = { host: '127.0.0.1', port: Number(new URL(url).port) };
  const { message } = await atelierRejection(
    'usage',
    CoordinatorServer.listen({ listen, token: null, listener: run, clock }),
  );
  expect(message).toContain(`127.0.0.1:${listen.port}`);
});
