import { onTestFinished } from 'vitest';
import type { WebSocket } from 'ws';
import { CoordinatorServer, OPEN_TO_LOCAL } from '../../coordinator/server.js';
import { Relay } from '../../relay/relay.js';
import { systemClock } from '../../shared/clock.js';
import { openSocket } from '../../worker/session.js';

export interface TestRelay {
  /** Where workers join it. */
  readonly url: string;
  readonly relay: Relay;
  /** Why it ended, once it has. */
  readonly over: Promise<string>;
  /** The latest connection to the one above breaks. */
  cut(): void;
  /** As SIGKILL does: all connections break, nobody comes back. */
  kill(): Promise<void>;
}

/** A real relay on loopback, in this process. It goes when the test is over. */
export async function startRelay(above: string, { minWorkers = 1 } = {}): Promise<TestRelay> {
  let socket: WebSocket | undefined;
  let isDead = false;
  const relay = new Relay({
    ...{
      url: above,
      name: 'relay',
      host: 'here',
      minWorkers,
      local: null,
      exchange: null,
      clock: systemClock,
    },
    versions: { atelier: '0', node: 'v20' },
    way: () =>
      Promise.resolve(
        isDead ? { unreachable: 'it is dead' } : { connect: () => (socket = openSocket(above, null)) },
      ),
    random: () => 0,
    figures: () => ({ eventLoopLagMs: 0, residentBytes: 1 }),
    say: () => undefined,
  });
  const server = await CoordinatorServer.listen({
    ...{ listen: { host: '127.0.0.1', port: 0 }, security: OPEN_TO_LOCAL },
    ...{ listener: relay.listener, clock: systemClock },
  });
  const over = relay.serve();
  // Some tests look at it late.
  over.catch(() => undefined);
  const kill = async (): Promise<void> => {
    isDead = true;
    socket?.terminate();
    relay.drain('killed');
    await server.close();
  };
  onTestFinished(kill);
  return { url: server.url, relay, over, cut: () => socket?.terminate(), kill };
}
