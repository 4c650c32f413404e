import type { WebSocket } from 'ws';
import { Cluster } from '../coordinator/cluster.js';
import type { SessionListener } from '../coordinator/session.js';
import type { Clock } from '../shared/clock.js';
import type { Dataset } from '../shared/dataset/load.js';
import type { ExchangeHost } from '../shared/exchange.js';
import { MAX_SLOTS } from '../shared/protocol/limits.js';
import type { SessionCredential } from '../shared/protocol/messages.js';
import { backoffMs } from '../worker/backoff.js';
import { RowStores } from '../worker/row-stores.js';
import { WorkerSession, type SessionEnd, type WorkerSessionOptions } from '../worker/session.js';
import { relayReport, type OwnFigures } from './relay-report.js';
import { RelayedRun } from './relayed-run.js';

const NO_WORKERS = 'the last worker of the relay is gone';

/** How the coordinator is reached at the moment, if it is. */
export type Way = { readonly connect: () => WebSocket } | { readonly unreachable: string };

export interface RelayOptions {
  readonly url: string;
  readonly name: string;
  readonly host: string;
  readonly versions: { readonly atelier: string; readonly node: string };
  /** The dataset on this machine's disk, if there is one. */
  readonly local: Dataset | null;
  /** It joins when it has this many workers, and takes part in a run when as many are ready for it. */
  readonly minWorkers: number;
  readonly clock: Clock;
  /** For workers of this host; null: everything is sent. */
  readonly exchange: ExchangeHost | null;
  readonly way: () => Promise<Way>;
  /** In [0, 1); spreads relays in time. */
  readonly random: () => number;
  readonly figures: () => Omit<OwnFigures, 'rows'>;
  /** For people. */
  readonly say: (line: string) => void;
}

type State =
  /** Not connected: too few workers, or between two attempts. */
  | { readonly kind: 'away' }
  | { readonly kind: 'joining'; readonly session: WorkerSession }
  /** `slots`: what the coordinator has last been told. */
  | { readonly kind: 'joined'; readonly session: WorkerSession; readonly slots: number }
  /** It has no workers any more and has handed back what was leased to it. */
  | { readonly kind: 'handing-back'; readonly session: WorkerSession };

/** How an attempt to take part ended; `left`: by this side, for want of workers or because it was asked to. */
type Attempt = SessionEnd | { readonly kind: 'left' };

/**
 * A relay: one worker with many slots to the coordinator above, a coordinator to the workers below. What is leased to it is
 * leased on; what comes back is added along the tree.
 */
export class Relay {
  private readonly options: RelayOptions;
  private readonly stores: RowStores;
  private readonly runs = new Set<RelayedRun>();
  private state: State = { kind: 'away' };
  private credential: SessionCredential | null = null;
  /** Why it was asked to leave. */
  private asked: string | null = null;
  private rows = 0;
  private wake: () => void = () => undefined;
  /** Its own workers. */
  readonly cluster: Cluster;
  /** Who listens to their connections. */
  readonly listener: SessionListener;

  constructor(options: RelayOptions) {
    this.options = options;
    this.stores = new RowStores(options.local);
    const cluster = new Cluster(options.clock, options.exchange);
    this.cluster = cluster;
    this.listener = {
      traffic: cluster.traffic,
      greeted: (session, hello) => cluster.greeted(session, hello),
      joined: (session) => {
        cluster.joined(session);
        this.strengthChanged();
      },
      received: (session, received) => {
        cluster.received(session, received);
        const { type } = received.message;
        if (type === 'leaving' || type === 'slots') this.strengthChanged();
      },
      partialBytes: (partial) => cluster.partialBytes(partial),
      placeToReceive: (partial) => cluster.placeToReceive(partial),
      closed: (session, reason) => {
        cluster.closed(session, reason);
        this.strengthChanged();
      },
    };
  }

  /**
   * Serves until the coordinator has nothing more to do, then sends the workers home; or until it is asked to leave, then they
   * are left to join again whoever comes in its place. Returns why it ended.
   * @throws AtelierError `refused`, `usage` or `protocol` when trying again would not help
   */
  async serve(): Promise<string> {
    const { minWorkers, clock, random, say } = this.options;
    let failures = 0;
    while (this.asked === null) {
      await this.until(() => this.present().workers >= minWorkers);
      const end = await this.attempt(() => (failures = 0));
      if (end.kind === 'finished') {
        this.cluster.close(end.reason);
        return end.reason;
      }
      if (end.kind !== 'left') {
        const waitMs = backoffMs(++failures, random());
        say(
          `${end.kind === 'lost' ? 'Connection lost' : 'Cannot reach the coordinator'}: ${end.reason}. ` +
            `Trying again in ${(waitMs / 1000).toFixed(1)} s`,
        );
        let isOver = false;
        const cancel = clock.after(waitMs, () => {
          isOver = true;
          this.wake();
        });
        await this.until(() => isOver);
        cancel();
      }
    }
    return this.asked;
  }

  /** Leaves when what is leased has been answered, or could not be in time. */
  drain(reason: string): void {
    this.asked = reason;
    if (this.state.kind !== 'away') this.state.session.drain(reason);
    this.wake();
  }

  /** Joins if it can, and takes part. */
  private async attempt(onJoined: () => void): Promise<Attempt> {
    const found = await this.options.way();
    if (this.isAsked()) return { kind: 'left' };
    if ('unreachable' in found) return { kind: 'unreachable', reason: found.unreachable };
    if (this.present().workers === 0) return { kind: 'left' };
    const end = await this.visit(found.connect, onJoined);
    const wasLeft = this.state.kind === 'handing-back';
    this.state = { kind: 'away' };
    if (wasLeft) this.options.say(`Left: ${end.reason}`);
    return wasLeft || this.isAsked() ? { kind: 'left' } : end;
  }

  /** Asked to leave? It may become so at any time. */
  private isAsked(): boolean {
    return this.asked !== null;
  }

  /** One connection to the coordinator, from its opening to its end. */
  private async visit(connect: () => WebSocket, onJoined: () => void): Promise<SessionEnd> {
    const { url, name, host, versions, clock, minWorkers, figures, say } = this.options;
    const { slots, tensorflow } = this.present();
    const employ: WorkerSessionOptions['employ'] = (run, spec, port) => {
      const { cluster, stores } = this;
      const relayed = new RelayedRun(
        {
          ...{ cluster, stores, minWorkers },
          onStrength: () => this.strengthChanged(),
          onRows: (rows) => (this.rows += rows),
          onClosed: () => this.runs.delete(relayed),
        },
        ...([run, spec, port] as const),
      );
      this.runs.add(relayed);
      return relayed;
    };
    const session = new WorkerSession({
      ...{ url, token: null, connect, employ, clock },
      hello: {
        ...{ name, host, slots, pid: process.pid, credential: this.credential },
        versions: { ...versions, tensorflow },
      },
      report: () => relayReport(this.cluster.figures(), { ...figures(), rows: this.rows }),
      onJoined: (credential) => {
        this.credential = credential;
        onJoined();
        say(`Joined ${url} as ${name} with ${slots} slots`);
        this.state = { kind: 'joined', session, slots };
        this.strengthChanged();
      },
    });
    this.state = { kind: 'joining', session };
    return session.ended;
  }

  /** Workers that are in and do not want to leave. */
  private present(): { workers: number; slots: number; tensorflow: string } {
    const here = this.cluster
      .figures()
      .workers.filter(({ state }) => state === 'ready' || state === 'joining');
    const slots = here.reduce((sum, worker) => sum + worker.slots, 0);
    return {
      workers: here.length,
      slots: Math.min(MAX_SLOTS, slots),
      tensorflow: here[0]?.versions.tensorflow ?? '',
    };
  }

  /** What the coordinator may count on: of workers that are ready for a run it counts on, else of all. */
  private get slots(): number {
    const ready = [...this.runs].filter(({ isReady }) => isReady);
    if (ready.length === 0) return this.present().slots;
    return Math.min(MAX_SLOTS, Math.max(...ready.map(({ slots }) => slots)));
  }

  private strengthChanged(): void {
    this.wake();
    const { state, slots } = this;
    if (state.kind !== 'joined' || slots === state.slots) return;
    if (slots === 0) {
      this.state = { kind: 'handing-back', session: state.session };
      state.session.handBack(NO_WORKERS);
    } else {
      this.state = { ...state, slots };
      state.session.resize(slots);
    }
  }

  /** Resolves when the condition holds, or when the relay is asked to leave. */
  private async until(condition: () => boolean): Promise<void> {
    while (!this.isAsked() && !condition()) {
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}
