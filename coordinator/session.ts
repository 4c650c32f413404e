import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { AtelierError, messageOf } from '../shared/errors.js';
import {
  decodeFromWorker,
  decodePartialHead,
  encodeToWorker,
  type CoordinatorToWorker,
  type PartialMessage,
  type Received,
  type SessionCredential,
  type WorkerToCoordinator,
} from '../shared/protocol/messages.js';
import type { Clock } from '../shared/clock.js';
import type { ExchangeOffer } from '../shared/exchange.js';
import { closeReason } from '../shared/protocol/close-reason.js';
import { Silence } from '../shared/protocol/silence.js';
import type { Place } from './gradient-buffers.js';
import type { Arrival } from './large-frames.js';
import type { ReceiveGate } from './receive-gate.js';
import type { Trace } from './trace.js';
import type { Traffic } from './traffic.js';
import {
  CloseCode,
  HANDSHAKE_TIMEOUT_MS,
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_TIMEOUT_MS,
  MAX_BUFFERED_BYTES,
  MAX_GREETING_BYTES,
  PROTOCOL_VERSION,
} from '../shared/protocol/limits.js';

export type Hello = Extract<WorkerToCoordinator, { type: 'hello' }>;
/** Everything a worker says once it is in. */
export type WorkerMessage = Exclude<WorkerToCoordinator, { type: 'hello' | 'heartbeat' }>;

/** Who listens to a session. */
export interface SessionListener {
  /** Where all that crosses the socket is counted. */
  readonly traffic: Traffic;
  /** Where it is drawn too, when the run is traced. */
  readonly trace?: Trace | null;
  /** The worker said hello; returns what it will be known by, or why there is no place for it. */
  greeted(
    session: Session,
    hello: Hello,
  ):
    { credential: SessionCredential; resumed: boolean; exchange: ExchangeOffer | null } | { refused: string };
  /** The worker has its welcome: messages may follow. */
  joined(session: Session): void;
  /** A checked message of a worker that is in. Throws AtelierError `protocol` for one that cannot be right. */
  received(session: Session, message: Received<WorkerMessage>): void;
  /** Bytes of payload that this partial should have; undefined when payloads cannot be received in place. */
  partialBytes?(partial: PartialMessage): number | undefined;
  /** Where its payload is to be received; null when nobody needs it any more. It comes to `received` before the place is given back. */
  placeToReceive?(partial: PartialMessage): Place | null;
  /** The connection is gone, for this reason. Called once, only for a worker that was in. */
  closed(session: Session, reason: string): void;
}

const BINARY = { binary: true };
const nothing = (): void => undefined;

/** A stream that can be told to wait for more. */
type Stream = Pick<Duplex, 'cork' | 'uncork'>;

type State =
  | { kind: 'greeting'; cancelDeadline: () => void }
  | { kind: 'joined'; worker: number; hello: Hello; cancelDeadline: () => void }
  | { kind: 'closed' };

/** A frame whose bytes or fields are not the protocol. */
class Malformed extends AtelierError {
  constructor(cause: AtelierError) {
    super(cause.code, cause.message, { cause });
  }
}

/**
 * One worker's connection, from hello to close. Bad frames, silence and a peer that does not read end the
 * connection with a documented code; none of it reaches the run as anything but `closed`.
 */
export class Session {
  private readonly socket: WebSocket;
  private readonly listener: SessionListener;
  private readonly clock: Clock;
  private readonly stream: Stream | null;
  private state: State;
  /** The peer's address; null where it is not known. */
  readonly address: string | null;
  private readonly silence: Silence;
  /** With which code the connection was closed, by whomever; undefined while it is open. */
  closeCode: number | undefined;

  /**
   * @param address the peer's
   * @param stream what the socket writes to
   */
  constructor(
    socket: WebSocket,
    listener: SessionListener,
    clock: Clock,
    address: string | null = null,
    stream: Stream | null = null,
  ) {
    this.socket = socket;
    this.listener = listener;
    this.clock = clock;
    this.address = address;
    this.stream = stream;
    this.silence = new Silence(clock);
    this.state = {
      kind: 'greeting',
      cancelDeadline: clock.after(HANDSHAKE_TIMEOUT_MS, () =>
        this.close(CloseCode.timeout, 'no hello in time'),
      ),
    };
    socket.on('message', (data: Buffer) => this.onFrame(data));
    socket.on('close', (code, reason) => this.onClose(code, reason.toString()));
    // 'close' follows every error and says why.
    socket.on('error', (error) => {
      if ('code' in error && String(error.code).startsWith('WS_ERR'))
        listener.traffic.rejected.add('websocket');
    });
  }

  /** Number of the worker; undefined before hello. */
  get worker(): number | undefined {
    return this.state.kind === 'joined' ? this.state.worker : undefined;
  }

  /** How a trace calls the worker; undefined where there is no trace. */
  private get traced(): { number: number; name: string } | undefined {
    const { state, listener } = this;
    if (state.kind !== 'joined' || (listener.trace ?? null) === null) return undefined;
    return { number: state.worker, name: state.hello.name };
  }

  /** Milliseconds since the peer was last heard. */
  get silentMs(): number {
    return this.silence.ms;
  }

  /** What waits to be handed to the operating system, in bytes. */
  get bufferedBytes(): number {
    return this.socket.bufferedAmount;
  }

  /** What is sent within the action goes out in one piece. */
  together(action: () => void): void {
    const { stream, traced, listener } = this;
    stream?.cork();
    action();
    const from = listener.trace?.now() ?? 0;
    stream?.uncork();
    if (traced !== undefined) listener.trace?.did('write', from, { worker: traced.name });
  }

  send(message: CoordinatorToWorker, ...payload: Uint8Array[]): void {
    this.sendFrame(message.type, encodeToWorker(message, ...payload));
  }

  /**
   * Sends a frame that is already encoded. A peer that lets the buffer grow beyond the limit is cut off.
   * @param sent called when the frame has been handed to the operating system, or the connection is gone
   */
  sendFrame(type: CoordinatorToWorker['type'], frame: Buffer, sent: () => void = nothing): void {
    const { socket, traced, listener } = this;
    if (this.state.kind === 'closed') {
      sent();
      return;
    }
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES + frame.byteLength) {
      this.close(CloseCode.overloaded, 'the worker does not read');
      sent();
      return;
    }
    listener.traffic.sent(type, frame.byteLength);
    const drawn = traced && listener.trace?.sending(traced, type, frame.byteLength);
    if (drawn === undefined) {
      socket.send(frame, BINARY, sent);
      return;
    }
    socket.send(frame, BINARY, () => {
      drawn();
      sent();
    });
  }

  close(code: CloseCode, reason: string): void {
    if (this.state.kind === 'closed') return;
    this.closeCode = code;
    this.socket.close(code, closeReason(reason));
    // A peer that does not answer the close is not waited for.
    const cancel = this.clock.after(HANDSHAKE_TIMEOUT_MS, () => this.socket.terminate());
    this.socket.once('close', cancel);
    this.end(reason);
  }

  /** Some bytes have come, be they of a frame that is not whole yet. */
  heard(): void {
    this.silence.heard();
  }

  /**
   * The head of a large frame has come: it is received in place if it is a partial that this worker may send. When its turn comes is the
   * gate's business; until then the worker is not read, and hears heartbeats without asking.
   */
  arriving(head: Buffer, payloadBytes: number, gate: ReceiveGate): Arrival | null {
    const { listener } = this;
    if (this.state.kind !== 'joined') return null;
    const message = decodePartialHead(head, payloadBytes);
    if (message === null || listener.partialBytes?.(message) !== payloadBytes) return null;
    const headAt = listener.trace?.now() ?? 0;
    let place: Place | null = null;
    let leave: () => void = () => undefined;
    let stopBeating: () => void = () => undefined;
    const over = (): void => {
      stopBeating();
      place?.giveBack();
      leave();
    };
    return {
      place: (given) => {
        const ticket = gate.ask(payloadBytes, message.start, () => {
          stopBeating();
          place = listener.placeToReceive?.(message) ?? null;
          this.heard();
          given(place?.bytes ?? null);
        });
        leave = ticket.leave;
        if (ticket.isWaiting) stopBeating = this.beatWhileWaiting();
      },
      complete: () => {
        const payload = place?.bytes;
        const bytes = head.byteLength + payloadBytes;
        listener.traffic.received(message.type, bytes);
        if (this.traced !== undefined) listener.trace?.received(this.traced, message.type, bytes, headAt);
        if (payload !== undefined) this.guarded(() => this.deliver({ message, payload }, headAt));
        over();
      },
      abandon: over,
    };
  }

  /** Returns what ends it. */
  private beatWhileWaiting(): () => void {
    let cancel = (): void => undefined;
    const beat = (): void => {
      this.heard();
      this.send({ type: 'heartbeat' });
      cancel = this.clock.after(HEARTBEAT_INTERVAL_MS, beat);
    };
    cancel = this.clock.after(HEARTBEAT_INTERVAL_MS, beat);
    return () => cancel();
  }

  private onFrame(data: Buffer): void {
    this.guarded(() => {
      if (this.state.kind === 'greeting') this.onGreeting(data);
      else if (this.state.kind === 'joined') this.onMessage(data);
    });
  }

  private guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof AtelierError)) throw error;
      this.listener.traffic.rejected.add(error instanceof Malformed ? 'malformed' : 'unexpected');
      this.close(CloseCode.badFrame, messageOf(error));
    }
  }

  private decode(data: Buffer): Received<WorkerToCoordinator> {
    this.silence.heard();
    try {
      const received = decodeFromWorker(data);
      this.listener.traffic.received(received.message.type, data.byteLength);
      return received;
    } catch (error) {
      throw error instanceof AtelierError ? new Malformed(error) : error;
    }
  }

  private onGreeting(data: Buffer): void {
    if (data.byteLength > MAX_GREETING_BYTES)
      throw new Malformed(new AtelierError('protocol', 'the first frame is too long'));
    const { message } = this.decode(data);
    if (message.type !== 'hello') throw new AtelierError('protocol', `hello expected, not ${message.type}`);
    if (message.protocolVersion !== PROTOCOL_VERSION) {
      this.listener.traffic.rejected.add('version');
      this.close(
        CloseCode.versionMismatch,
        `this coordinator speaks protocol ${PROTOCOL_VERSION}, the worker ${message.protocolVersion}`,
      );
      return;
    }
    const place = this.listener.greeted(this, message);
    if ('refused' in place) {
      this.close(CloseCode.overloaded, place.refused);
      return;
    }
    if (this.state.kind === 'greeting') this.state.cancelDeadline();
    this.state = {
      kind: 'joined',
      worker: place.credential.worker,
      hello: message,
      cancelDeadline: this.silence.watch(HEARTBEAT_TIMEOUT_MS, () =>
        this.close(CloseCode.timeout, `silent for ${HEARTBEAT_TIMEOUT_MS / 1000} s`),
      ),
    };
    this.send({
      type: 'welcome',
      ...place,
      heartbeatIntervalMs: HEARTBEAT_INTERVAL_MS,
      heartbeatTimeoutMs: HEARTBEAT_TIMEOUT_MS,
    });
    this.listener.joined(this);
  }

  private onMessage(data: Buffer): void {
    if (this.state.kind !== 'joined') return;
    const { message, payload } = this.decode(data);
    if (message.type === 'hello') throw new AtelierError('protocol', 'a second hello');
    if (message.type === 'heartbeat') {
      this.send({ type: 'heartbeat' });
      return;
    }
    this.deliver({ message, payload });
  }

  /** @param heardAt when it began to come, on the trace's clock; left out: now */
  private deliver(received: Received<WorkerMessage>, heardAt?: number): void {
    if (this.state.kind !== 'joined') return;
    const { listener, traced } = this;
    const { trace } = listener;
    if (trace === undefined || trace === null || traced === undefined) {
      listener.received(this, received);
      return;
    }
    const from = trace.now();
    const { message } = received;
    const { type } = message;
    if (type === 'partial' || type === 'evaluated')
      trace.computed(traced, message, message.tasks ?? [], heardAt ?? from);
    listener.received(this, received);
    trace.did(`take ${type}`, from, { worker: traced.name });
  }

  private onClose(code: number, reason: string): void {
    this.closeCode ??= code;
    this.end(reason === '' ? `connection closed (${code})` : reason);
  }

  private end(reason: string): void {
    const before = this.state;
    if (before.kind === 'closed') return;
    before.cancelDeadline();
    this.state = { kind: 'closed' };
    if (before.kind === 'joined') this.listener.closed(this, reason);
  }
}
