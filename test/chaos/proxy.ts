import { createServer, connect, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Chance } from '../simulation/world.js';

interface Pair {
  readonly worker: Socket;
  readonly coordinator: Socket;
  isSilent: boolean;
}

/** A TCP proxy between workers and the coordinator that can break connections, or let them fall silent. */
export class Proxy {
  private readonly server: Server;
  private pairs: Pair[] = [];

  /** @param port where the coordinator listens, or will */
  private constructor(port: number) {
    this.server = createServer((worker) => {
      const coordinator = connect(port, '127.0.0.1');
      const pair: Pair = { worker, coordinator, isSilent: false };
      this.pairs.push(pair);
      const carry = (from: Socket, to: Socket): void => {
        from.on('data', (bytes) => {
          // A silent connection swallows what is sent, and nobody is told.
          if (pair.isSilent || to.destroyed) return;
          if (to.write(bytes)) return;
          from.pause();
          to.once('drain', () => from.resume());
        });
        from.on('error', () => undefined);
        from.on('close', () => {
          if (!pair.isSilent) to.destroy();
          if (worker.destroyed && coordinator.destroyed)
            this.pairs = this.pairs.filter((other) => other !== pair);
        });
      };
      carry(worker, coordinator);
      carry(coordinator, worker);
    });
  }

  static async start(port: number): Promise<Proxy> {
    const proxy = new Proxy(port);
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Resets a connection; returns whether there was one. */
  cut(chance: Chance): boolean {
    const pair = this.pick(chance);
    pair?.worker.resetAndDestroy();
    pair?.coordinator.resetAndDestroy();
    return pair !== undefined;
  }

  /** From now on a connection swallows what is sent; returns whether there was one. */
  silence(chance: Chance): boolean {
    const pair = this.pick(chance);
    if (pair !== undefined) pair.isSilent = true;
    return pair !== undefined;
  }

  close(): void {
    this.server.close();
    for (const { worker, coordinator } of this.pairs) {
      worker.destroy();
      coordinator.destroy();
    }
  }

  private pick(chance: Chance): Pair | undefined {
    const open = this.pairs.filter(
      ({ worker, coordinator, isSilent }) => !isSilent && !worker.destroyed && !coordinator.destroyed,
    );
    return open.length === 0 ? undefined : chance.pick(open);
  }
}
