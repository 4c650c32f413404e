import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer } from 'node:net';
import { afterAll, describe, expect, onTestFinished, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { AUGMENTATIONS } from '../../shared/augmentation.js';
import { encodeFrame } from '../../shared/protocol/frame.js';
import {
  CloseCode,
  HANDSHAKE_TIMEOUT_MS,
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_TIMEOUT_MS,
  SUBPROTOCOL,
} from '../../shared/protocol/limits.js';
import {
  decodeFromWorker,
  encodeToWorker,
  type RunSpec,
  type WorkerToCoordinator,
} from '../../shared/protocol/messages.js';
import { ComputePool, type Compute } from '../../worker/compute-pool.js';
import { RunWork, WorkerMemory } from '../../worker/run-work.js';
import { WorkerSession } from '../../worker/session.js';
import { startCoordinator } from '../support/coordinator.js';
import { atelierError, atelierRejection } from '../support/errors.js';
import { FakeClock } from '../support/fake-clock.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder();
const pool = new ComputePool(1);
afterAll(() => pool.close());

interface Joining {
  readonly session: WorkerSession;
  readonly clock: FakeClock;
  /** Resolves when the coordinator has let the worker in. */
  readonly joined: Promise<void>;
}

function join(url: string, token: string | null = null, compute: Compute = pool): Joining {
  const clock = new FakeClock();
  let onJoined: () => void = () => undefined;
  const joined = new Promise<void>((resolve) => (onJoined = resolve));
  const versions = { atelier: '0', node: 'v20', tensorflow: '2' };
  const memory = new WorkerMemory(compute, null);
  const hello = { name: 'tester', host: 'here', pid: 1, slots: 1, versions, credential: null };
  const session = new WorkerSession({
    url,
    token,
    hello,
    employ: (run, spec, port) => new RunWork(memory, run, spec, port),
    clock,
    onJoined,
  });
  // Some tests look at it late.
  session.ended.catch(() => undefined);
  return { session, clock, joined };
}

async function listening(server: Server | TcpServer): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A WebSocket server that answers with this subprotocol, and what its first visitor says. */
async function webSocketServer(protocol: string | false): Promise<{
  url: string;
  visitor: Promise<WebSocket>;
}> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: () => protocol });
  const visitor = new Promise<WebSocket>((resolve) => server.once('connection', resolve));
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  return { url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, visitor };
}

/** A pool whose slots load only the first model. */
const firstModelOnly: Compute = {
  slots: 1,
  mapsFiles: false,
  prepare: ({ id }) =>
    id === 1
      ? Promise.resolve({ fingerprint: 'a'.repeat(64), fallback: null })
      : Promise.reject(new Error('out of memory')),
  gradient: () => Promise.reject(new Error('not asked for')),
  evaluate: () => Promise.reject(new Error('not asked for')),
  standBy: () => null,
};

const RUN_SPEC: RunSpec = {
  ...{ seed: 0, batchSize: 8, shards: 2, evaluationRows: 8, step: 'auto' },
  recipe: { augmentation: AUGMENTATIONS.study, labelSmoothing: 0, pixelMax: 255 },
  dataset: {
    ...{ name: 'made-up', sha256: 'a'.repeat(64), trainRows: 16, testRows: 8 },
    ...{ imageShape: [2, 2, 1], classNames: ['a', 'b'] },
  },
  layout: { tensors: [{ name: 'kernel', shape: [8], offset: 0, size: 8 }], trainable: 8, size: 8 },
  topology: {},
};

const runMessage = (run: number): Buffer =>
  encodeToWorker({ type: 'run', run, spec: { ...RUN_SPEC, seed: run } });

const nextMessage = (socket: WebSocket): Promise<string> =>
  new Promise((resolve) =>
    socket.once('message', (data: Buffer) => resolve(decodeFromWorker(data).message.type)),
  );

const welcome = encodeToWorker({
  type: 'welcome',
  credential: { worker: 0, epoch: 1, secret: '0'.repeat(64) },
  resumed: false,
  heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
  heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
  exchange: null,
});

describe('a worker that is pointed at something else', () => {
  test.each([200, 404, 500])(
    '(a web server that answers %d) says that it is no coordinator',
    async (status) => {
      const server = createServer((_request, response) => response.writeHead(status).end('hello'));
      const url = await listening(server);
      const { message } = await atelierRejection('usage', join(url).session.ended);
      expect(message).toContain(`${url} is not an Atelier coordinator`);
    },
  );

  test('(a server that is not even HTTP) says that it is no coordinator', async () => {
    const server = createTcpServer((socket) => socket.on('error', () => undefined).end('220 mail ready\r\n'));
    const { message } = await atelierRejection('usage', join(await listening(server)).session.ended);
    expect(message).toContain('is not an Atelier coordinator');
  });

  test.each(['chat', false] as const)(
    '(a WebSocket server of subprotocol %s) says that it is no coordinator',
    async (protocol) => {
      const { url } = await webSocketServer(protocol);
      const { message } = await atelierRejection('usage', join(url).session.ended);
      expect(message).toContain('is not an Atelier coordinator');
    },
  );

  test('(a closed port) finds it unreachable', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const end = await join(`ws://127.0.0.1:${port}`).session.ended;
    expect(end).toMatchObject({
      kind: 'unreachable',
      reason: expect.stringContaining('ECONNREFUSED') as string,
    });
  });

  test.each([
    '127.0.0.1:7077',
    'http://127.0.0.1:7077',
    'ws://user@127.0.0.1:7077',
    'ws://127.0.0.1/?token=x',
    '',
  ])('(%j) says what a URL looks like', (url) => {
    expect(atelierError('usage', () => join(url)).message).toContain('ws://host:port');
  });
});

describe('a worker that a coordinator refuses', () => {
  test.each([
    ['without the token', null],
    ['with a wrong token', 'y'.repeat(20)],
  ])('(%s) says so', async (_name, token) => {
    const { url } = await startCoordinator(folder, { token: 'x'.repeat(20) });
    const { message } = await atelierRejection('refused', join(url, token).session.ended);
    expect(message).toMatch(/refused this worker.*token/);
  });

  test('(for another version of the subprotocol) says so', async () => {
    const server = createServer();
    server.on('upgrade', (_request, socket) => {
      const head =
        'HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nSec-WebSocket-Protocol: atelier.v2\r\n';
      socket.end(`${head}Content-Length: 16\r\n\r\nneeds atelier.v2`);
    });
    const { message } = await atelierRejection('refused', join(await listening(server)).session.ended);
    expect(message).toContain('needs atelier.v2');
  });

  test('(for its protocol version) says so', async () => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { session } = join(url);
    (await visitor).close(CloseCode.versionMismatch, 'this coordinator speaks protocol 2');
    const { message } = await atelierRejection('refused', session.ended);
    expect(message).toContain('speaks protocol 2');
  });
});

describe('a worker', () => {
  test('joins a coordinator with its token', async () => {
    const coordinator = await startCoordinator(folder, { token: 'x'.repeat(20), minWorkers: 2 });
    const { session, joined } = join(coordinator.url, 'x'.repeat(20));
    await joined;
    session.leave('test over');
    expect(await session.ended).toEqual({ kind: 'finished', reason: 'test over' });
  });

  test('says that it lives as often as it was told to', async () => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { clock, joined } = join(url);
    const socket = await visitor;
    expect(await nextMessage(socket)).toBe('hello');
    socket.send(welcome);
    await joined;
    for (let beat = 0; beat < 3; beat++) {
      const message = nextMessage(socket);
      clock.advance(HEARTBEAT_INTERVAL_MS);
      expect(await message).toBe('heartbeat');
    }
  });

  test('gives up a coordinator that has fallen silent', async () => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { clock, joined, session } = join(url);
    (await visitor).send(welcome);
    await joined;
    clock.advance(HEARTBEAT_TIMEOUT_MS);
    expect((await session.ended).kind).toBe('lost');
  });

  test('gives up a coordinator that never bids it welcome', async () => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { clock, session } = join(url);
    await nextMessage(await visitor);
    clock.advance(HANDSHAKE_TIMEOUT_MS);
    expect(['lost', 'unreachable']).toContain((await session.ended).kind);
  });

  test('leaves a run that it fails at while it computes for another; what still comes for it is dropped', async () => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { session } = join(url, null, firstModelOnly);
    const socket = await visitor;
    const said: WorkerToCoordinator[] = [];
    socket.on('message', (data: Buffer) => said.push(decodeFromWorker(data).message));
    socket.send(welcome);
    for (const run of [0, 1]) socket.send(runMessage(run));
    await expect.poll(() => said.at(-1)).toMatchObject({ type: 'failed', run: 1, message: 'out of memory' });
    expect(said.at(-2)).toMatchObject({ type: 'ready', run: 0 });
    socket.send(encodeToWorker({ type: 'lease', run: 1, trial: 0, round: 0, start: 0, count: 1 }));
    socket.send(encodeToWorker({ type: 'run-over', run: 1 }));
    socket.send(runMessage(1));
    await expect.poll(() => said.length).toBe(4);
    expect(said.at(-1)).toMatchObject({ type: 'failed', run: 1 });
    socket.send(encodeToWorker({ type: 'run-over', run: 0 }));
    socket.send(encodeToWorker({ type: 'run-over', run: 1 }));
    socket.send(runMessage(2));
    await expect.poll(() => said.at(-1)).toMatchObject({ type: 'failed', run: 2 });
    // It computed for nothing else.
    await atelierRejection('run-failed', session.ended);
  });

  test('ends when the coordinator says that there is nothing more to do, however long it talks', async () => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { joined, session } = join(url);
    const socket = await visitor;
    socket.send(welcome);
    await joined;
    const reason = 'ähnlich '.repeat(100);
    socket.send(encodeToWorker({ type: 'finished', reason }));
    expect(await session.ended).toEqual({ kind: 'finished', reason });
  });

  test.each([
    ['garbage', Buffer.alloc(64, 0xc1)],
    ['a message of many wrong fields', encodeFrame({ type: 'welcome' })],
    [
      'a lease of a run there is not',
      encodeFrame({ type: 'lease', run: 9, trial: 0, round: 0, start: 0, count: 1 }),
    ],
    ['a trial before its run', encodeFrame({ type: 'trial', run: 0, trial: 0 })],
  ])('closes with 4400 a coordinator that sends %s', async (_name, frame) => {
    const { url, visitor } = await webSocketServer(SUBPROTOCOL);
    const { joined, session } = join(url);
    const socket = await visitor;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.send(welcome);
    await joined;
    socket.send(frame);
    await atelierRejection('protocol', session.ended);
    expect(await closed).toBe(CloseCode.badFrame);
  });
});
