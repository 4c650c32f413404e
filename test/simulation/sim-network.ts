import { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import { HANDSHAKE_TIMEOUT_MS } from '../../shared/protocol/limits.js';
import { decodeFromWorker } from '../../shared/protocol/messages.js';
import type { RandomStream } from '../../shared/rng.js';
import type { ProcessClock, SimClock } from './sim-clock.js';

/** The code of a connection that ended without a close frame (RFC 6455, 7.4.1). */
const ABNORMAL = 1006;
const OPEN = 1;
const CLOSED = 3;
const MAX_LATENCY_MS = 4;

/** One end of a simulated connection: the part of `ws` that sessions use. */
class SimSocket extends EventEmitter {
  readyState = 0;
  readonly bufferedAmount = 0;
  peer!: SimSocket;
  private readonly connection: Connection;
  readonly process: ProcessClock;
  private closing = false;

  constructor(connection: Connection, process: ProcessClock) {
    super();
    this.connection = connection;
    this.process = process;
  }

  opened(): void {
    if (this.readyState === CLOSED) return;
    this.readyState = OPEN;
    this.emit('open');
  }

  send(frame: Buffer, _options: unknown, done?: () => void): void {
    if (this.readyState !== OPEN || this.closing) {
      done?.();
      return;
    }
    // The sender may reuse its memory.
    const copy = Buffer.from(frame);
    this.connection.deliver(this, () => {
      if (this.peer.readyState === OPEN) this.peer.emit('message', copy);
    });
    if (this.connection.repeats(this, copy)) {
      this.connection.deliver(this, () => {
        if (this.peer.readyState === OPEN) this.peer.emit('message', Buffer.from(copy));
      });
    }
    if (done !== undefined) this.process.after(0, done);
  }

  /** The closing handshake: the peer hears the reason, then this end does. */
  close(code = 1005, reason = ''): void {
    if (this.readyState === CLOSED || this.closing) return;
    this.closing = true;
    this.connection.deliver(this, () => {
      this.peer.ended(code, reason);
      this.connection.deliver(this.peer, () => this.ended(code, reason));
    });
  }

  terminate(): void {
    this.process.after(0, () => this.ended(ABNORMAL, ''));
    this.connection.deliver(this, () => this.peer.ended(ABNORMAL, ''));
  }

  ended(code: number, reason: string): void {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.emit('close', code, Buffer.from(reason));
  }
}

/** A connection between a worker and the coordinator. Frames of one direction keep their order. */
export class Connection {
  readonly worker: SimSocket;
  readonly coordinator: SimSocket;
  private readonly network: SimNetwork;
  private readonly lastDelivery = new Map<SimSocket, number>();
  private halfOpen = false;

  constructor(network: SimNetwork, worker: ProcessClock, coordinator: ProcessClock) {
    this.network = network;
    this.worker = new SimSocket(this, worker);
    this.coordinator = new SimSocket(this, coordinator);
    this.worker.peer = this.coordinator;
    this.coordinator.peer = this.worker;
  }

  /** Does something at the other end of `from`, later. */
  deliver(from: SimSocket, action: () => void): void {
    if (this.halfOpen) return;
    const { clock } = this.network;
    const due = Math.max(clock.now() + this.network.latency(), this.lastDelivery.get(from) ?? 0);
    this.lastDelivery.set(from, due);
    clock.after(due - clock.now(), () => {
      if (!this.halfOpen) from.peer.process.run(action);
    });
  }

  /** Does the network show this frame twice? Answers only: what a retransmission by a proxy could repeat. */
  repeats(from: SimSocket, frame: Buffer): boolean {
    if (from !== this.worker || !this.network.repeatsNow()) return false;
    const { type } = decodeFromWorker(frame).message;
    return type === 'partial' || type === 'evaluated';
  }

  /** Both ends hear that the connection is gone. */
  break(): void {
    for (const end of [this.worker, this.coordinator]) {
      const { clock } = this.network;
      clock.after(this.network.latency(), () => end.process.run(() => end.ended(ABNORMAL, '')));
    }
    this.halfOpen = true;
  }

  /** From now on nothing arrives, and nobody hears of it. */
  swallow(): void {
    this.halfOpen = true;
  }

  /** The process at one end died: the other hears of it, unless the host died with it. */
  died(end: SimSocket, silently: boolean): void {
    if (!silently) this.deliver(end, () => end.peer.ended(ABNORMAL, ''));
    this.network.clock.after(2 * MAX_LATENCY_MS, () => (this.halfOpen = true));
  }
}

export class SimNetwork {
  readonly clock: SimClock;
  private readonly random: RandomStream;
  readonly connections = new Set<Connection>();
  private readonly repeatRate: number;
  /** Takes new connections; undefined while no coordinator runs. */
  listener: { readonly process: ProcessClock; accept(socket: WebSocket): void } | undefined;

  constructor(clock: SimClock, random: RandomStream, repeatRate: number) {
    this.clock = clock;
    this.random = random;
    this.repeatRate = repeatRate;
  }

  latency(): number {
    return this.random.uniform() * MAX_LATENCY_MS;
  }

  repeatsNow(): boolean {
    return this.random.uniform() < this.repeatRate;
  }

  connect(worker: ProcessClock, register: (connection: Connection) => void): WebSocket {
    const { listener } = this;
    const connection = new Connection(this, worker, listener?.process ?? worker);
    register(connection);
    this.connections.add(connection);
    const socket = connection.worker;
    // As `ws` does with its option `handshakeTimeout`.
    worker.after(HANDSHAKE_TIMEOUT_MS, () => {
      if (socket.readyState !== 0) return;
      socket.emit('error', new Error('Opening handshake has timed out'));
      socket.ended(ABNORMAL, '');
    });
    this.clock.after(this.latency(), () => {
      if (listener === undefined || listener !== this.listener) {
        worker.run(() => {
          if (socket.readyState === CLOSED) return;
          socket.emit('error', new Error('connect ECONNREFUSED'));
          socket.ended(ABNORMAL, '');
        });
        return;
      }
      listener.process.run(() => {
        connection.coordinator.readyState = OPEN;
        listener.accept(connection.coordinator as unknown as WebSocket);
        connection.deliver(connection.coordinator, () => socket.opened());
      });
    });
    return socket as unknown as WebSocket;
  }
}
