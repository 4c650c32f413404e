import { WebSocket } from 'ws';
import type { IncomingMessage } from 'node:http';
import type { Clock } from '../shared/clock.js';
import { AtelierError, assertNever, messageOf } from '../shared/errors.js';
import type { ExchangeGuest, ExchangeOffer } from '../shared/exchange.js';
import { closeReason } from '../shared/protocol/close-reason.js';
import {
  CloseCode,
  DRAIN_TIMEOUT_MS,
  HANDSHAKE_TIMEOUT_MS,
  HEARTBEAT_TIMEOUT_MS,
  MAX_FRAME_BYTES,
  PROTOCOL_VERSION,
  REPORT_INTERVAL_MS,
  SUBPROTOCOL,
} from '../shared/protocol/limits.js';
import {
  decodeFromCoordinator,
  encodeToCoordinator,
  encodeToCoordinatorAround,
  type CoordinatorToWorker,
  type Received,
  type RunSpec,
  type SessionCredential,
  type WorkerReport,
  type WorkerToCoordinator,
} from '../shared/protocol/messages.js';
import { Silence } from '../shared/protocol/silence.js';
import type { RunPart, RunPort } from './run-work.js';
import type { ServerTrust } from './server-trust.js';

/** The longest text sent to people. */
const MAX_TEXT_CHARS = 4_000;
/** The most of a refusal's text that is read. */
const MAX_REFUSAL_BYTES = 4_096;

export type Hello = Extract<WorkerToCoordinator, { type: 'hello' }>;

/** Who is told of what a worker is asked to compute, and of its answers. */
export interface SessionLog {
  leased(lease: Extract<CoordinatorToWorker, { type: 'lease' }>): void;
  answered(answer: Extract<WorkerToCoordinator, { type: 'partial' | 'evaluated' }>): void;
}

export interface WorkerSessionOptions {
  readonly url: string;
  readonly token: string | null;
  readonly hello: Omit<Hello, 'type' | 'protocolVersion'>;
  /** Takes part in a run of the coordinator's. */
  readonly employ: (run: number, spec: RunSpec, port: RunPort) => RunPart;
  readonly clock: Clock;
  /** `credential` identifies this worker when it comes back. */
  readonly onJoined: (credential: SessionCredential) => void;
  /** How this worker does: reported every few seconds. */
  readonly report?: () => WorkerReport;
  /** Looks whether the coordinator's exchange is on this host. */
  readonly openExchange?: (offer: ExchangeOffer, credential: SessionCredential) => ExchangeGuest | null;
  readonly log?: SessionLog | null;
  /** Opens the connection; tests bring their own network. */
  readonly connect?: (url: string, token: string | null) => WebSocket;
}

/**
 * How a session ended:
 * - `finished`: the coordinator has nothing more to do;
 * - `unreachable`: nobody answered; trying again may help;
 * - `lost`: the connection broke after joining; trying again may help.
 */
export type SessionEnd = { kind: 'finished' | 'unreachable' | 'lost'; reason: string };

/** Closes that mean: trying again does not help. */
const REFUSALS: ReadonlySet<number> = new Set([
  CloseCode.versionMismatch,
  CloseCode.unauthorized,
  CloseCode.otherNumerics,
]);

type State =
  | { kind: 'connecting' }
  | { kind: 'greeting'; cancelDeadline: () => void }
  | { kind: 'joined'; cancelHeartbeat: () => void; cancelReport: () => void; cancelDeadline: () => void }
  | { kind: 'finishing'; reason: string }
  | { kind: 'over' };

/** One connection to a coordinator, from upgrade to close. The socket thread's side: it never computes. */
export class WorkerSession {
  private readonly options: WorkerSessionOptions;
  private readonly socket: WebSocket;
  private readonly silence: Silence;
  private state: State = { kind: 'connecting' };
  private readonly runs = new Map<number, RunPart>();
  /** Runs it failed at, until the coordinator says that they are over: what still comes for them is dropped. */
  private readonly givenUp = new Set<number>();
  private heartbeatIntervalMs = 0;
  private exchange: ExchangeGuest | null = null;
  /** Settled when the session is over. Rejects with AtelierError `refused`, `usage` or `protocol`. */
  readonly ended: Promise<SessionEnd>;
  private resolve: (end: SessionEnd) => void = () => undefined;
  private reject: (error: AtelierError) => void = () => undefined;

  /** @throws AtelierError `usage` when the URL is not one of a coordinator */
  constructor(options: WorkerSessionOptions) {
    this.options = options;
    this.silence = new Silence(options.clock);
    this.ended = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.socket = (options.connect ?? openSocket)(options.url, options.token);
    this.socket.on('open', () => this.onOpen());
    this.socket.on('message', (data: Buffer) => this.onFrame(data));
    this.socket.on('unexpected-response', (_request, response) => this.onRefusal(response));
    this.socket.on('error', (error) => this.onError(error));
    this.socket.on('close', (code, reason) => this.onClose(code, reason.toString()));
  }

  /**
   * Leaves when what is leased has been answered, or could not be in time. What is left is computed elsewhere. The
   * session ends as `finished`.
   */
  drain(reason: string): void {
    if (this.state.kind !== 'joined') {
      this.leave(reason);
      return;
    }
    this.send({ type: 'leaving', reason });
    this.options.clock.after(DRAIN_TIMEOUT_MS, () => this.leave(reason));
  }

  /** Has other slots from now on. */
  resize(slots: number): void {
    if (this.state.kind === 'joined') this.send({ type: 'slots', slots });
  }

  /** Leaves at once, and says so: what is leased is computed elsewhere. The session ends as `finished`. */
  handBack(reason: string): void {
    if (this.state.kind === 'joined') this.send({ type: 'leaving', reason });
    this.leave(reason);
  }

  /** Leaves at once: the connection is closed, the session ends as `finished`. */
  leave(reason: string): void {
    if (this.state.kind === 'finishing' || this.state.kind === 'over') return;
    const connecting = this.state.kind === 'connecting';
    this.setState({ kind: 'finishing', reason });
    if (connecting) this.socket.terminate();
    else this.socket.close(1000, closeReason(reason));
    // A coordinator that does not answer the close is not waited for.
    this.options.clock.after(HANDSHAKE_TIMEOUT_MS, () => this.socket.terminate());
  }

  private setState(state: State): void {
    if (this.state.kind === 'joined') {
      this.state.cancelHeartbeat();
      this.state.cancelReport();
    }
    if (this.state.kind === 'joined' || this.state.kind === 'greeting') this.state.cancelDeadline();
    this.state = state;
  }

  private send(message: WorkerToCoordinator, ...payload: Uint8Array[]): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(encodeToCoordinator(message, ...payload), { binary: true });
  }

  private sendInPlace(message: WorkerToCoordinator, payload: Uint8Array): Promise<void> {
    if (this.socket.readyState !== WebSocket.OPEN) return Promise.resolve();
    const frame = encodeToCoordinatorAround(message, payload);
    // Called with an error too, when the connection is gone.
    return new Promise((resolve) => this.socket.send(frame, { binary: true }, () => resolve()));
  }

  private note(answer: WorkerToCoordinator): void {
    if (answer.type === 'partial' || answer.type === 'evaluated') this.options.log?.answered(answer);
  }

  private onOpen(): void {
    const cancelDeadline = this.options.clock.after(HANDSHAKE_TIMEOUT_MS, () => this.socket.terminate());
    this.setState({ kind: 'greeting', cancelDeadline });
    this.send({ type: 'hello', protocolVersion: PROTOCOL_VERSION, ...this.options.hello });
  }

  private onFrame(data: Buffer): void {
    try {
      this.silence.heard();
      this.onMessage(decodeFromCoordinator(data), data);
    } catch (error) {
      this.fail(error);
    }
  }

  private onMessage({ message, payload }: Received<CoordinatorToWorker>, frame: Buffer): void {
    switch (message.type) {
      case 'welcome':
        this.heartbeatIntervalMs = message.heartbeatIntervalMs;
        this.setState({
          kind: 'joined',
          cancelHeartbeat: this.nextHeartbeat(),
          cancelReport: this.nextReport(),
          cancelDeadline: this.silence.watch(HEARTBEAT_TIMEOUT_MS, () => this.socket.terminate()),
        });
        if (message.exchange !== null) {
          this.exchange = this.options.openExchange?.(message.exchange, message.credential) ?? null;
          if (this.exchange !== null) this.send({ type: 'exchange' });
        }
        this.options.onJoined(message.credential);
        return;
      case 'run': {
        const { run, spec } = message;
        const isHere = (): boolean => this.runs.get(run) === work;
        const work: RunPart = this.options.employ(run, spec, {
          send: (answer, part) => {
            if (!isHere()) return;
            this.send(answer, ...(part === undefined ? [] : [part]));
            this.note(answer);
          },
          sendInPlace: (answer, payload) => {
            if (!isHere()) return Promise.resolve();
            this.note(answer);
            return this.sendInPlace(answer, payload);
          },
          exchange: this.exchange,
          fail: (error) => {
            if (isHere()) this.failAt(run, error);
          },
        });
        this.runs.set(run, work);
        return;
      }
      case 'run-over':
        this.forget(message.run);
        this.givenUp.delete(message.run);
        return;
      case 'trial':
        this.runOf(message)?.addTrial(message.trial, payload);
        return;
      case 'rows':
        this.runOf(message)?.receiveRows(message.count, payload);
        return;
      case 'round':
        this.runOf(message)?.open(message, payload, frame);
        return;
      case 'lease':
        this.options.log?.leased(message);
        this.runOf(message)?.compute(message);
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

  /** Others go on; a worker that computes for this run alone ends, so that whoever started it starts it afresh. */
  private failAt(run: number, error: unknown): void {
    if (this.runs.size < 2 || (error instanceof AtelierError && error.code === 'protocol')) {
      this.fail(error, run);
      return;
    }
    this.send({ type: 'failed', run, message: messageOf(error).slice(0, MAX_TEXT_CHARS) });
    this.forget(run);
    this.givenUp.add(run);
  }

  private forget(run: number): void {
    this.runs.get(run)?.close();
    this.runs.delete(run);
  }

  /** @param run the one that is to blame, if one is */
  private fail(error: unknown, run: number | null = null): void {
    if (this.state.kind === 'finishing' || this.state.kind === 'over') return;
    if (error instanceof AtelierError && error.code === 'protocol') {
      this.socket.close(CloseCode.badFrame, closeReason(error.message));
      this.end(error);
      return;
    }
    this.send({ type: 'failed', run, message: messageOf(error).slice(0, MAX_TEXT_CHARS) });
    this.socket.close(1011, 'the worker failed');
    this.end(new AtelierError('run-failed', messageOf(error), { cause: error }));
  }

  /** Undefined for a run that was given up. */
  private runOf({ run }: { readonly run: number }): RunPart | undefined {
    const work = this.runs.get(run);
    if (work === undefined && !this.givenUp.has(run)) throw new AtelierError('protocol', `no run ${run}`);
    return work;
  }

  private nextHeartbeat(): () => void {
    return this.options.clock.after(this.heartbeatIntervalMs, () => {
      if (this.state.kind !== 'joined') return;
      this.send({ type: 'heartbeat' });
      this.state.cancelHeartbeat = this.nextHeartbeat();
    });
  }

  private nextReport(): () => void {
    const { clock, report } = this.options;
    if (report === undefined) return () => undefined;
    return clock.after(REPORT_INTERVAL_MS, () => {
      if (this.state.kind !== 'joined') return;
      this.send({ type: 'report', report: report() });
      this.state.cancelReport = this.nextReport();
    });
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
    if (REFUSALS.has(code)) {
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
    for (const part of this.runs.values()) part.close();
    this.runs.clear();
    this.exchange?.close();
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
    throw new AtelierError('usage', `--join ${url}: expected ws://host:port or wss://host:port`, { cause });
  }
  if (!['ws:', 'wss:'].includes(parsed.protocol) || parsed.username !== '' || parsed.search !== '') {
    throw new AtelierError(
      'usage',
      `--join ${url}: expected ws://host:port or wss://host:port, without a user or a query`,
    );
  }
  return parsed;
}

/** @param tls what the server is checked with, and what this worker shows; none of it for `ws:` */
export function openSocket(url: string, token: string | null, tls: ServerTrust = {}): WebSocket {
  return new WebSocket(parseJoinUrl(url), SUBPROTOCOL, {
    perMessageDeflate: false,
    maxPayload: MAX_FRAME_BYTES,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    followRedirects: false,
    // Masking with zeros is a no-op that both sides skip: it guards old proxies from scripts in browsers, and
    // costs a pass over every gradient twice.
    generateMask: (mask) => mask.fill(0),
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
    ...tls,
  });
}

function notACoordinator(url: string, why: string): AtelierError {
  return new AtelierError(
    'usage',
    `${url} is not an Atelier coordinator (${why}): check the address that "atelier train" printed`,
  );
}
