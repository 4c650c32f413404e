import { WebSocket } from 'ws';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../shared/clock.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError, assertNever, messageOf } from '../shared/errors.js';
import { closeReason } from '../shared/protocol/close-reason.js';
import {
  CloseCode,
  HANDSHAKE_TIMEOUT_MS,
  HEARTBEAT_TIMEOUT_MS,
  MAX_FRAME_BYTES,
  PROTOCOL_VERSION,
  SUBPROTOCOL,
} from '../shared/protocol/limits.js';
import {
  decodeFromCoordinator,
  encodeToCoordinator,
  type CoordinatorToWorker,
  type Lease,
  type Received,
  type RunSpec,
  type WorkerToCoordinator,
} from '../shared/protocol/messages.js';
import type { ComputePool } from './compute-pool.js';
import { RowStore } from './row-store.js';
import { TrialWork, type RunContext } from './trial-work.js';

/** The longest text sent to people. */
const MAX_TEXT_CHARS = 4_000;
/** The most of a refusal's text that is read. */
const MAX_REFUSAL_BYTES = 4_096;

export type Hello = Extract<WorkerToCoordinator, { type: 'hello' }>;

export interface WorkerSessionOptions {
  readonly url: string;
  readonly token: string | null;
  readonly hello: Omit<Hello, 'type' | 'protocolVersion'>;
  readonly pool: ComputePool;
  /** The dataset on this machine's disk, if there is one. */
  readonly local: Dataset | null;
  readonly clock: Clock;
  readonly onJoined: () => void;
}

/**
 * How a session ended:
 * - `finished`: the coordinator has nothing more to do;
 * - `unreachable`: nobody answered; trying again may help;
 * - `lost`: the connection broke after joining; trying again may help.
 */
export type SessionEnd = { kind: 'finished' | 'unreachable' | 'lost'; reason: string };

type State =
  | { kind: 'connecting' }
  | { kind: 'greeting'; cancelDeadline: () => void }
  | { kind: 'joined'; worker: number; cancelHeartbeat: () => void; cancelDeadline: () => void }
  | { kind: 'finishing'; reason: string }
  | { kind: 'over' };

let lastRunId = 0;

/** One connection to a coordinator, from upgrade to close. The socket thread's side: it never computes. */
export class WorkerSession {
  private readonly options: WorkerSessionOptions;
  private readonly socket: WebSocket;
  private state: State = { kind: 'connecting' };
  private run: RunContext | undefined;
  private readonly trials = new Map<number, TrialWork>();
  private heartbeatIntervalMs = 0;
  /** Settled when the session is over. Rejects with AtelierError `refused`, `usage` or `protocol`. */
  readonly ended: Promise<SessionEnd>;
  private resolve: (end: SessionEnd) => void = () => undefined;
  private reject: (error: AtelierError) => void = () => undefined;

  /** @throws AtelierError `usage` when the URL is not one of a coordinator */
  constructor(options: WorkerSessionOptions) {
    this.options = options;
    this.ended = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.socket = openSocket(options.url, options.token);
    this.socket.on('open', () => this.onOpen());
    this.socket.on('message', (data: Buffer) => this.onFrame(data));
    this.socket.on('unexpected-response', (_request, response) => this.onRefusal(response));
    this.socket.on('error', (error) => this.onError(error));
    this.socket.on('close', (code, reason) => this.onClose(code, reason.toString()));
  }

  /** Leaves: the connection is closed, the session ends as `finished`. */
  leave(reason: string): void {
    this.setState({ kind: 'finishing', reason });
    this.socket.close(1000, closeReason(reason));
  }

  private setState(state: State): void {
    if (this.state.kind === 'joined') this.state.cancelHeartbeat();
    if (this.state.kind === 'joined' || this.state.kind === 'greeting') this.state.cancelDeadline();
    this.state = state;
  }

  private send(message: WorkerToCoordinator, ...payload: Uint8Array[]): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(encodeToCoordinator(message, ...payload), { binary: true });
  }

  private onOpen(): void {
    const cancelDeadline = this.options.clock.after(HANDSHAKE_TIMEOUT_MS, () => this.socket.terminate());
    this.setState({ kind: 'greeting', cancelDeadline });
    this.send({ type: 'hello', protocolVersion: PROTOCOL_VERSION, ...this.options.hello });
  }

  private onFrame(data: Buffer): void {
    try {
      if (this.state.kind === 'joined') {
        this.state.cancelDeadline();
        this.state.cancelDeadline = this.silenceDeadline();
      }
      this.onMessage(decodeFromCoordinator(data));
    } catch (error) {
      this.fail(error);
    }
  }

  private onMessage({ message, payload }: Received<CoordinatorToWorker>): void {
    switch (message.type) {
      case 'welcome':
        this.heartbeatIntervalMs = message.heartbeatIntervalMs;
        this.setState({
          kind: 'joined',
          worker: message.worker,
          cancelHeartbeat: this.nextHeartbeat(),
          cancelDeadline: this.silenceDeadline(),
        });
        this.options.onJoined();
        return;
      case 'run':
        this.trials.clear();
        this.run = this.prepare(message.spec);
        return;
      case 'trial':
        this.trials.set(message.trial, new TrialWork(this.requireRun(), message.trial, payload));
        return;
      case 'rows':
        this.requireRun().store.receive(message.count, payload);
        return;
      case 'step':
        this.work(this.requireTrial(message.trial).step(message, this.own(message.leases), payload));
        return;
      case 'evaluate':
        this.work(this.requireTrial(message.trial).evaluate(message, this.own(message.leases), payload));
        return;
      case 'heartbeat':
        return;
      case 'finished':
        this.leave(message.reason);
        return;
      default:
        assertNever(message);
    }
  }

  private prepare(spec: RunSpec): RunContext {
    const text = Buffer.from(JSON.stringify(spec));
    const shared = new SharedArrayBuffer(text.byteLength);
    new Uint8Array(shared).set(text);
    const store = new RowStore(spec.dataset, this.options.local, (bitmap) =>
      this.send({ type: 'need-rows' }, bitmap),
    );
    const warned = new Set<string>();
    return {
      spec,
      store,
      pool: this.options.pool,
      memory: { id: ++lastRunId, spec: shared, rows: store.memory },
      warn: (message) => {
        if (warned.has(message)) return;
        warned.add(message);
        this.send({ type: 'warning', message: message.slice(0, MAX_TEXT_CHARS) });
      },
      send: (message, payload) => (payload === undefined ? this.send(message) : this.send(message, payload)),
    };
  }

  /** Watches over work in progress: a part that fails is reported, never swallowed. */
  private work(part: Promise<void>): void {
    part.catch((error: unknown) => this.fail(error));
  }

  private fail(error: unknown): void {
    if (this.state.kind === 'finishing' || this.state.kind === 'over') return;
    if (error instanceof AtelierError && error.code === 'protocol') {
      this.socket.close(CloseCode.badFrame, closeReason(error.message));
      this.end(error);
      return;
    }
    this.send({ type: 'failed', message: messageOf(error).slice(0, MAX_TEXT_CHARS) });
    this.socket.close(1011, 'the worker failed');
    this.end(new AtelierError('run-failed', messageOf(error), { cause: error }));
  }

  private own(leases: readonly Lease[]): Lease[] {
    const { state } = this;
    return state.kind === 'joined' ? leases.filter((lease) => lease.worker === state.worker) : [];
  }

  private requireRun(): RunContext {
    if (this.run === undefined) throw new AtelierError('protocol', 'no run yet');
    return this.run;
  }

  private requireTrial(trial: number): TrialWork {
    const work = this.trials.get(trial);
    if (work === undefined) throw new AtelierError('protocol', `no trial ${trial}`);
    return work;
  }

  private nextHeartbeat(): () => void {
    return this.options.clock.after(this.heartbeatIntervalMs, () => {
      if (this.state.kind !== 'joined') return;
      this.send({ type: 'heartbeat' });
      this.state.cancelHeartbeat = this.nextHeartbeat();
    });
  }

  private silenceDeadline(): () => void {
    return this.options.clock.after(HEARTBEAT_TIMEOUT_MS, () => this.socket.terminate());
  }

  private onRefusal(response: IncomingMessage): void {
    const status = response.statusCode ?? 0;
    const speaksAtelier = (response.headers['sec-websocket-protocol'] ?? '').startsWith('atelier.');
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => (text = (text + chunk).slice(0, MAX_REFUSAL_BYTES)));
    response.on('close', () => {
      if (speaksAtelier && status === 503) this.end({ kind: 'unreachable', reason: text });
      else if (speaksAtelier)
        this.end(new AtelierError('refused', `the coordinator refused this worker: ${text}`));
      else this.end(notACoordinator(this.options.url, `it answered HTTP ${status}`));
    });
  }

  private onError(error: Error): void {
    if ('code' in error && typeof error.code === 'string' && /^WS_ERR|^HPE_/.test(error.code)) {
      this.end(notACoordinator(this.options.url, error.message));
    } else if (this.state.kind === 'connecting' && /subprotocol|Sec-WebSocket|Upgrade/i.test(error.message)) {
      this.end(notACoordinator(this.options.url, error.message));
    } else if (this.state.kind === 'connecting') {
      this.end({ kind: 'unreachable', reason: messageOf(error) });
    }
    // After joining, 'close' follows and says why.
  }

  private onClose(code: number, reason: string): void {
    const { state } = this;
    if (code === CloseCode.versionMismatch || code === CloseCode.unauthorized) {
      this.end(new AtelierError('refused', `the coordinator refused this worker: ${reason}`));
    } else if (state.kind === 'finishing') {
      this.end({ kind: 'finished', reason: state.reason });
    } else if (code === CloseCode.finished) {
      this.end({ kind: 'finished', reason });
    } else {
      this.end({ kind: 'lost', reason: reason === '' ? `connection closed (${code})` : reason });
    }
  }

  private end(outcome: SessionEnd | AtelierError): void {
    if (this.state.kind === 'over') return;
    this.setState({ kind: 'over' });
    if (outcome instanceof AtelierError) this.reject(outcome);
    else this.resolve(outcome);
  }
}

/**
 * The URL of a coordinator.
 * @throws AtelierError `usage`
 */
export function parseJoinUrl(url: string): URL {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new AtelierError('usage', `--join ${url}: expected ws://host:port`, { cause });
  }
  if (!['ws:', 'wss:'].includes(parsed.protocol) || parsed.username !== '' || parsed.search !== '') {
    throw new AtelierError('usage', `--join ${url}: expected ws://host:port, without a user or a query`);
  }
  return parsed;
}

function openSocket(url: string, token: string | null): WebSocket {
  return new WebSocket(parseJoinUrl(url), SUBPROTOCOL, {
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    followRedirects: false,
    // Masking with zeros is a no-op that both sides skip: it guards old proxies from scripts in browsers, and
    // costs a pass over every gradient twice.
    generateMask: (mask) => mask.fill(0),
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
  });
}

function notACoordinator(url: string, why: string): AtelierError {
  return new AtelierError(
    'usage',
    `${url} is not an Atelier coordinator (${why}): check the address that "atelier train" printed`,
  );
}
