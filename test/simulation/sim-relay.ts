import { Session } from '../../coordinator/session.js';
import { Relay } from '../../relay/relay.js';
import { MemoryExchange } from './memory-exchange.js';
import type { Network } from './network.js';
import type { Scenario } from './scenario.js';
import { SimProcess, type Chance, type World } from './world.js';

export interface SimRelayOptions {
  readonly world: World;
  readonly chance: Chance;
  readonly network: Network;
  readonly scenario: Scenario;
  /** Where its workers join it; its name too. */
  readonly address: string;
  /** Whom it joins. */
  readonly above: string;
  readonly minWorkers: number;
  readonly hasData: boolean;
  /** The relay's process has ended; `error` is null when it left in peace. */
  readonly onExit: (relay: SimRelay, error: Error | null) => void;
}

/** A relay's process, wired as `atelier relay` is. */
export class SimRelay {
  readonly process: SimProcess;
  readonly options: SimRelayOptions;
  private readonly relay: Relay;
  readonly exchange = new MemoryExchange();

  constructor(options: SimRelayOptions) {
    const { world, chance, network, scenario, address, above, minWorkers, hasData } = options;
    this.options = options;
    this.process = new SimProcess(world);
    const { clock } = this.process;
    this.relay = new Relay({
      ...{ name: address, host: address, minWorkers, clock, url: `ws://${above}:1`, exchange: this.exchange },
      versions: { atelier: '0', node: 'v20' },
      local: hasData ? scenario.dataset : null,
      way: () => Promise.resolve({ connect: () => network.connect(this.process, above) }),
      random: () => chance.uniform(),
      figures: () => ({ eventLoopLagMs: 0, residentBytes: 0 }),
      say: () => undefined,
    });
    network.listen(
      this.process,
      (socket) => new Session(socket, this.relay.listener, clock, '127.0.0.1'),
      address,
    );
    this.relay.serve().then(
      () => this.exit(null),
      (error: unknown) => this.exit(error instanceof Error ? error : new Error(String(error))),
    );
  }

  /** SIGTERM. */
  drain(): void {
    this.relay.drain('drained');
  }

  /** SIGKILL. */
  die(): void {
    this.process.die();
    this.options.network.orphan(this.process);
  }

  private exit(error: Error | null): void {
    if (!this.process.isAlive) return;
    this.die();
    this.options.onExit(this, error);
  }
}
