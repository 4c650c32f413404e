import './cpu-backend.js';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { Cluster } from '../../coordinator/cluster.js';
import { coordinatorRoutes } from '../../coordinator/http/routes.js';
import { LiveRun } from '../../coordinator/live-run.js';
import { RunDirectory } from '../../coordinator/run-directory.js';
import { Run, type Resumption } from '../../coordinator/run.js';
import { observeAll, type RunObserver } from '../../coordinator/run-observer.js';
import { SharedSecret, type Authenticator } from '../../coordinator/security/authenticator.js';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { planTrials, type TrialPlan } from '../../coordinator/trial-plan.js';
import { parseRunConfig, type RunConfig } from '../../shared/config.js';
import { loadDataset, type Dataset } from '../../shared/dataset/load.js';
import { compileModel } from '../../shared/models/compile.js';
import { rowDigest } from '../../shared/row-digest.js';
import { PROTOCOL_VERSION, SUBPROTOCOL } from '../../shared/protocol/limits.js';
import {
  decodeFromCoordinator,
  encodeToCoordinator,
  type CoordinatorToWorker,
  type Received,
  type SessionCredential,
  type WorkerToCoordinator,
} from '../../shared/protocol/messages.js';
import { FakeClock } from './fake-clock.js';
import { madeUpRows, writeIdxFolder } from './idx-folder.js';

const nothing = (): void => undefined;
const SILENT: RunObserver = {
  workerJoined: nothing,
  workerLeft: nothing,
  warned: nothing,
  started: nothing,
  waiting: nothing,
  stepped: nothing,
  evaluating: nothing,
  epochEnded: nothing,
  trialEnded: nothing,
  checkpointed: nothing,
};

/** 24 training rows of 2x2 pixels in 3 classes; 8 of them for validation, 16 in steps of 8 in 4 shards. */
export const SHARDS = 4;
export const MICRO_BATCH = 2;

export interface TestCoordinator {
  readonly url: string;
  readonly run: Run;
  readonly cluster: Cluster;
  /** Of the run's trials. */
  readonly plans: readonly TrialPlan[];
  readonly clock: FakeClock;
  readonly directory: RunDirectory;
  readonly dataset: Dataset;
  /** Floats of a gradient. */
  readonly size: number;
}

let made = 0;

interface Settings {
  readonly token?: string | null;
  /** Instead of `token`. */
  readonly authenticator?: Authenticator | null;
  readonly minWorkers?: number;
  readonly minWorkersToGoOn?: number;
  readonly config?: Partial<RunConfig>;
  readonly resumed?: Resumption | null;
}

/** A real coordinator on loopback, with a clock that stands still. It goes when the test is over. */
export async function startCoordinator(
  folder: string,
  {
    token = null,
    authenticator = null,
    minWorkers = 1,
    minWorkersToGoOn = 1,
    config: settings = {},
    resumed = null,
  }: Settings = {},
): Promise<TestCoordinator> {
  const home = join(folder, `coordinator-${made++}`);
  const data = writeIdxFolder(join(home, 'data'), [2, 2], madeUpRows(24, 4, 3), madeUpRows(5, 4, 3));
  const dataset = loadDataset({ dataset: data, dataDir: null, env: {} });
  const flatten = { name: 'flatten', batch_input_shape: [null, 2, 2, 1], dtype: 'float32' };
  const layers = [
    { class_name: 'Flatten', config: flatten },
    { class_name: 'Dense', config: { name: 'output', units: 3, activation: 'softmax' } },
  ];
  const topology = { class_name: 'Sequential', config: { name: 'tiny', layers } };
  const config = parseRunConfig({
    dataset: data,
    batchSize: SHARDS * MICRO_BATCH,
    shards: SHARDS,
    validationRows: 8,
    epochs: 1,
    ...settings,
  });
  const model = await compileModel(topology, [2, 2, 1], 3, null);
  const directory = RunDirectory.fresh(join(home, 'run'));
  directory.create();
  directory.writeConfig(config);
  directory.writeManifest({});
  const clock = new FakeClock();
  const plans = planTrials({ config, model, dataset, now: () => clock.monotonic() });
  const cluster = new Cluster(clock);
  const live = new LiveRun({ path: directory.path, config, plans, cluster });
  const run = new Run({
    ...{ config, model, dataset, plans, directory, cluster, clock, minWorkers, minWorkersToGoOn, resumed },
    observer: observeAll([SILENT, live.observer]),
  });
  live.follow(run);
  void run.ended.then(({ error }) => cluster.close(error?.message ?? 'the run is done'));
  const listen = { host: '127.0.0.1', port: 0 };
  const security =
    token === null && authenticator === null
      ? OPEN_TO_LOCAL
      : { ...OPEN_TO_LOCAL, authenticator: authenticator ?? new SharedSecret(token ?? '') };
  const runs = { list: () => [live], find: (name: string) => (name === live.name ? live : undefined) };
  const routes = coordinatorRoutes({ runs, cluster, clock });
  const server = await CoordinatorServer.listen({ listen, security, listener: cluster, clock, routes });
  onTestFinished(() => server.close());
  return { url: server.url, run, cluster, plans, clock, directory, dataset, size: model.layout.size };
}

export const HELLO = {
  type: 'hello',
  protocolVersion: PROTOCOL_VERSION,
  name: 'tester',
  host: 'here',
  pid: 1,
  slots: 1,
  versions: { atelier: '0', node: 'v20', tensorflow: '2' },
  credential: null,
} as const satisfies WorkerToCoordinator;

export const FINGERPRINT = 'a'.repeat(64);

type PartialMessage = Extract<WorkerToCoordinator, { type: 'partial' }>;
type Round = Extract<CoordinatorToWorker, { type: 'round' }>;

/** An answer to a lease of a step that the coordinator takes: its figures are made up, its row digests are right. */
export function partialOf(
  { plans }: TestCoordinator,
  { run, trial, round, work }: Round,
  node = { start: 0, count: SHARDS },
): PartialMessage {
  const shards = plans[trial]?.shards;
  if (shards === undefined || work.kind !== 'step') throw new Error('a step of a trial was expected');
  const { epoch, stepInEpoch } = work;
  const rows = Array.from({ length: node.count }, (_, i) =>
    shards
      .epochOrder(1, trial, epoch, node.start + i)
      .subarray(stepInEpoch * MICRO_BATCH, (stepInEpoch + 1) * MICRO_BATCH),
  );
  return {
    ...{ type: 'partial', run, trial, round, ...node },
    rows: rows.reduce((sum, { length }) => sum + length, 0),
    ...{ lossSum: 4, correct: 2, leftAt: null, computeMs: 1, retries: 0 },
    rowDigests: rows.map((part) => rowDigest(part)),
  };
}

interface Waiter {
  readonly type: string;
  readonly resolve: (received: Received<CoordinatorToWorker>) => void;
}

/** A real WebSocket that says what it is told to, true or not. */
export class Client {
  readonly socket: WebSocket;
  /** How the coordinator closed the connection. */
  readonly closed: Promise<{ code: number; reason: string }>;
  private readonly inbox: Received<CoordinatorToWorker>[] = [];
  private waiters: Waiter[] = [];

  private constructor(socket: WebSocket) {
    this.socket = socket;
    this.closed = new Promise((resolve) =>
      socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() })),
    );
    socket.on('message', (data: Buffer) => this.deliver(decodeFromCoordinator(data)));
    socket.on('error', nothing);
    onTestFinished(() => socket.terminate());
  }

  static async open(url: string, token?: string): Promise<Client> {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const client = new Client(new WebSocket(url, SUBPROTOCOL, { headers }));
    await new Promise((resolve, reject) => client.socket.once('open', resolve).once('error', reject));
    return client;
  }

  /** Opens a connection and gets in. */
  static async join(url: string, token?: string): Promise<Client> {
    const client = await Client.open(url, token);
    client.send(HELLO);
    await client.next('welcome');
    return client;
  }

  /** Opens a connection, gets in and is ready for the first run. */
  static async enlist(
    url: string,
    { token, fingerprint = FINGERPRINT }: { token?: string; fingerprint?: string } = {},
  ): Promise<Client> {
    const client = await Client.join(url, token);
    const { run } = (await client.next('run')).message;
    client.send({ type: 'ready', run, fingerprint });
    return client;
  }

  /** Comes back with the credential of a broken connection. */
  static async return(url: string, credential: SessionCredential): Promise<Client> {
    const client = await Client.open(url);
    client.send({ ...HELLO, credential });
    return client;
  }

  send(message: WorkerToCoordinator, ...payload: Uint8Array[]): void {
    this.socket.send(encodeToCoordinator(message, ...payload));
  }

  /** The next message of this type; others are kept for later. */
  next<Type extends CoordinatorToWorker['type']>(
    type: Type,
  ): Promise<Received<Extract<CoordinatorToWorker, { type: Type }>>> {
    const found = this.inbox.findIndex(({ message }) => message.type === type);
    const received =
      found >= 0
        ? Promise.resolve(this.inbox.splice(found, 1)[0])
        : new Promise<Received<CoordinatorToWorker>>((resolve) => this.waiters.push({ type, resolve }));
    return received as Promise<Received<Extract<CoordinatorToWorker, { type: Type }>>>;
  }

  private deliver(received: Received<CoordinatorToWorker>): void {
    const waiter = this.waiters.find(({ type }) => type === received.message.type);
    if (waiter === undefined) {
      this.inbox.push(received);
      return;
    }
    this.waiters = this.waiters.filter((other) => other !== waiter);
    waiter.resolve(received);
  }
}

/** The HTTP status with which an upgrade is refused. */
export function refusedWith(
  url: string,
  protocols: string[],
  headers: Record<string, string>,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols, { headers });
    socket.on('unexpected-response', (request, response) => {
      request.destroy();
      resolve(response.statusCode ?? 0);
    });
    socket.on('open', () => {
      socket.terminate();
      reject(new Error('the coordinator let us in'));
    });
    socket.on('error', nothing);
  });
}
