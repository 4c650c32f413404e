import type { Server } from 'node:net';

/** What Node's servers have inside: a listening handle of libuv, which calls this for each connection. */
interface ListeningHandle {
  onconnection?: (this: ListeningHandle, error: number, client?: ClientHandle) => void;
}

interface ClientHandle {
  getpeername?(out: { address?: string }): number;
  reset?(closed: () => void): number;
}

/**
 * Cuts connections of addresses that are not welcome before Node makes a socket of them: that alone takes two thirds of what
 * a refused connection costs, and under attack it is most of what there is to do. They are reset, so that nothing of them stays in
 * the kernel. Node has no public way for it; where its inside is another one, nothing changes but the cost.
 *
 * @param server which listens already
 */
export function refuseEarly(server: Server, isWelcome: (address: string) => boolean): void {
  const { _handle: handle } = server as unknown as { readonly _handle?: ListeningHandle | null };
  const accept = handle?.onconnection;
  if (handle === undefined || handle === null || typeof accept !== 'function') return;
  handle.onconnection = function (error, client) {
    const { address } = peerOf(client);
    if (address !== undefined && !isWelcome(address) && client?.reset?.(() => undefined) === 0) return;
    accept.call(this, error, client);
  };
}

function peerOf(client: ClientHandle | undefined): { address?: string } {
  const peer: { address?: string } = {};
  client?.getpeername?.(peer);
  return peer;
}
