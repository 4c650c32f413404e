import { EventEmitter } from 'node:events';
import type { WebSocket } from 'ws';
import type { Chance, SimProcess, World } from './world.js';

/** How long a client waits for its connection, as `ws` is told to. */
const HANDSHAKE_MS = 10_000;
const ABNORMAL = 1006;

const CONNECTING = 0;
const OPEN = 1;
const CLOSING = 2;
const CLOSED = 3;

type Parcel = { kind: 'frame'; data: Buffer } | { kind: 'close'; code: number; reason: string };

/** What the coordinator and the worker use of a `ws` socket, without a wire. */
export class SimSocket extends EventEmitter {
  readonly owner: SimProcess;
  readonly link: Link;
  readyState: number = CONNECTING;
  readonly bufferedAmount = 0;
  private saidClose = false;

  constructor(owner: SimProcess, link: Link) {
    super();
    this.owner = owner;
    this.link = link;
  }

  send(data: Buffer, _options: object, sent?: () => void): void {
    if (this.readyState === CONNECTING) throw new Error('WebSocket is not open: readyState 0 (CONNECTING)');
    // Once it is sent, the sender may write over it.
    if (this.readyState === OPEN) this.link.carry(this, { kind: 'frame', data: copyOf(data) });
    if (sent !== undefined) queueMicrotask(sent);
  }

  close(code: number, reason: string): void {
    if (this.readyState === CONNECTING) this.terminate();
    if (this.readyState !== OPEN) return;
    this.readyState = CLOSING;
    this.saidClose = true;
    this.link.carry(this, { kind: 'close', code, reason });
  }

  /** Ends this side at once; the other side hears of it if the network lets it. */
  terminate(): void {
    if (this.readyState === CLOSED) return;
    this.link.sever(this);
    this.owner.world.after(0, () => this.gone(ABNORMAL, ''), this.owner);
  }

  opened(): void {
    if (this.readyState !== CONNECTING) return;
    this.readyState = OPEN;
    this.emit('open');
  }

  receive(parcel: Parcel): void {
    if (this.readyState === CLOSED) return;
    if (parcel.kind === 'frame') {
      this.emit('message', parcel.data);
      return;
    }
    if (!this.saidClose) {
      this.readyState = CLOSING;
      this.saidClose = true;
      this.link.carry(this, parcel);
    }
    this.gone(parcel.code, parcel.reason);
  }

  failed(why: string): void {
    if (this.readyState !== CONNECTING) return;
    this.emit('error', new Error(why));
    this.gone(ABNORMAL, '');
  }

  gone(code: number, reason: string): void {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.emit('close', code, Buffer.from(reason));
  }
}

/**
 * One connection: what is sent one way arrives in its order, each way after its own delays. A silent one swallows all
 * that is sent, both ways, and nobody is told.
 */
export class Link {
  private readonly network: Network;
  readonly client: SimSocket;
  server: SimSocket | undefined;
  isSilent = false;
  private severed = false;
  private readonly heldUntil = { client: 0, server: 0 };
  private readonly lastArrival = new Map<SimSocket, number>();

  constructor(network: Network, client: SimProcess) {
    this.network = network;
    this.client = new SimSocket(client, this);
  }

  carry(from: SimSocket, parcel: Parcel): void {
    const { world, chance } = this.network;
    const to = from === this.client ? this.server : this.client;
    if (to === undefined || this.isSilent || this.severed) return;
    this.deliver(to, parcel, this.network.delay());
    if (parcel.kind === 'frame' && from === this.client && isAnswer(parcel.data)) {
      if (!chance.hits(this.network.duplicates)) return;
      const copy = copyOf(parcel.data);
      world.after(chance.between(0, 300), () => {
        if (!this.isSilent && !this.severed && to.readyState === OPEN) {
          this.deliver(to, { kind: 'frame', data: copy }, this.network.delay());
        }
      });
    }
  }

  private deliver(to: SimSocket, parcel: Parcel, delayMs: number): void {
    const { world } = this.network;
    const at = Math.max(this.lastArrival.get(to) ?? 0, this.heldFor(to), world.now + delayMs);
    this.lastArrival.set(to, at);
    world.after(
      at - world.now,
      () => {
        if (!this.isSilent) to.receive(parcel);
      },
      to.owner,
    );
  }

  /** Nothing arrives for a while at one end or at both; then all does. */
  hold(forMs: number, ends: readonly ('client' | 'server')[] = ['client', 'server']): void {
    for (const end of ends) this.heldUntil[end] = this.network.world.now + forMs;
  }

  private heldFor(end: SimSocket): number {
    return this.heldUntil[end === this.client ? 'client' : 'server'];
  }

  /** The connection breaks: what was on its way may be lost, both ends notice, each in its time. */
  cut(): void {
    for (const end of [this.client, this.server]) {
      if (end !== undefined)
        this.network.world.after(this.network.delay(), () => end.gone(ABNORMAL, ''), end.owner);
    }
    this.severed = true;
  }

  /** One end is gone; the other one notices after all that was sent before. */
  sever(by: SimSocket): void {
    const other = by === this.client ? this.server : this.client;
    if (other !== undefined && !this.severed && !this.isSilent) {
      const { world } = this.network;
      const at = Math.max(
        this.lastArrival.get(other) ?? 0,
        this.heldFor(other),
        world.now + this.network.delay(),
      );
      world.after(
        at - world.now,
        () => {
          if (!this.isSilent) other.gone(ABNORMAL, '');
        },
        other.owner,
      );
    }
    this.severed = true;
  }
}

function copyOf(data: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(data.byteLength);
  data.copy(copy);
  return copy;
}

/** Is this frame a partial or an evaluated chunk? */
const isAnswer = (frame: Buffer): boolean => {
  const start = frame.subarray(0, 40).toString('latin1');
  return start.includes('partial') || start.includes('evaluated');
};

export interface NetworkOptions {
  readonly world: World;
  readonly chance: Chance;
  /** Of a typical frame. */
  readonly delayMs: number;
  /** The probability that an answer comes twice. */
  readonly duplicates: number;
}

/** The address of the coordinator; relays have others. */
export const COORDINATOR = 'coordinator';

interface Listener {
  readonly owner: SimProcess;
  readonly accept: (socket: WebSocket) => void;
}

/** Connections between workers and those that listen. */
export class Network {
  readonly world: World;
  readonly chance: Chance;
  readonly duplicates: number;
  private readonly delayMs: number;
  private readonly listeners = new Map<string, Listener>();
  private links: Link[] = [];

  constructor({ world, chance, delayMs, duplicates }: NetworkOptions) {
    this.world = world;
    this.chance = chance;
    this.delayMs = delayMs;
    this.duplicates = duplicates;
  }

  /** Mostly short, sometimes long. */
  delay(): number {
    return this.delayMs * (this.chance.hits(0.05) ? this.chance.between(5, 50) : this.chance.between(0.2, 2));
  }

  listen(owner: SimProcess, accept: (socket: WebSocket) => void, address = COORDINATOR): void {
    this.listeners.set(address, { owner, accept });
  }

  connect(client: SimProcess, address = COORDINATOR): WebSocket {
    const { world } = this;
    const link = new Link(this, client);
    this.links = [...this.links.filter((other) => other.client.readyState !== CLOSED), link];
    world.after(HANDSHAKE_MS, () => link.client.failed('Opening handshake has timed out'), client);
    world.after(this.delay(), () => {
      const listener = this.listeners.get(address);
      if (listener?.owner.isAlive !== true) {
        world.after(this.delay(), () => link.client.failed('connect ECONNREFUSED'), client);
        return;
      }
      world.after(
        0,
        () => {
          if (link.client.readyState !== CONNECTING) return;
          const server = new SimSocket(listener.owner, link);
          server.readyState = OPEN;
          link.server = server;
          listener.accept(server as unknown as WebSocket);
          world.after(this.delay(), () => link.client.opened(), client);
          this.maybeBeginSlowly(link);
        },
        listener.owner,
      );
    });
    client.onDeath(() => this.bury(link, link.client));
    return link.client as unknown as WebSocket;
  }

  /** Some connections begin by being slow to carry what the worker says. */
  private maybeBeginSlowly(link: Link): void {
    const { world, chance } = this;
    if (!chance.hits(0.15)) return;
    world.after(chance.between(0, 1_000), () => link.hold(chance.between(500, 10_000), ['server']));
  }

  /** Open connections. */
  get open(): readonly Link[] {
    return this.links.filter(
      ({ client, server }) => client.readyState === OPEN && server?.readyState === OPEN,
    );
  }

  /** The coordinator's process is gone: all its connections break. */
  orphan(owner: SimProcess): void {
    for (const link of this.links) if (link.server?.owner === owner) this.bury(link, link.server);
  }

  /** A process is gone: its system closes the connection, unless the whole machine is gone. */
  private bury(link: Link, end: SimSocket): void {
    if (this.chance.hits(0.15)) link.isSilent = true;
    else link.sever(end);
    end.readyState = CLOSED;
  }
}
