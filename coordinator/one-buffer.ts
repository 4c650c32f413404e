import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Read at a time, at most. */
const BUFFER_BYTES = 256 * 1024;

/** All sockets read into it: what one has read is used before the next one reads. */
let shared: Buffer | undefined;

/** What Node's sockets have inside: the handle of libuv or of TLS. */
interface ReadingHandle {
  useUserBuffer?(buffer: Uint8Array): void;
}

/**
 * From now on what comes is read into one buffer, instead of a new one of 64 KiB for each read: those made most of what V8 had to
 * collect, several times a step with many workers. Node does the same for sockets that connect (their option `onread`), but has no
 * public way for those that a server accepts; where its inside is another one, nothing changes.
 *
 * @param take uses the bytes before it returns. After a pause it may get what TLS has decrypted by then, up to 64 KiB
 * @param target where the next bytes are read to: the common buffer, a part of it, or memory that stays until `take` has had them
 * @returns whether it will be so; else they come as `data`, as what has been read before does in any case
 */
export function readIntoOneBuffer(
  stream: Duplex,
  take: (bytes: Buffer) => void,
  target: (common: Uint8Array) => Uint8Array = (common) => common,
): boolean {
  if (!(stream instanceof Socket)) return false;
  const symbols = Object.getOwnPropertySymbols(stream);
  const [buffer, callback, next] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map((name) =>
    symbols.find(({ description }) => description === name),
  );
  const inside = stream as unknown as Record<symbol, unknown> & { readonly _handle?: ReadingHandle | null };
  const handle = inside._handle;
  if (buffer === undefined || callback === undefined || next === undefined) return false;
  if (typeof handle?.useUserBuffer !== 'function') return false;
  const common = (shared ??= Buffer.allocUnsafeSlow(BUFFER_BYTES));
  const first = target(common);
  handle.useUserBuffer(first);
  inside[buffer] = first;
  inside[callback] = (count: number, { buffer: memory, byteOffset }: Uint8Array) => {
    take(Buffer.from(memory, byteOffset, count));
    // Go on reading.
    return true;
  };
  // Asked after each read.
  inside[next] = () => target(common);
  return true;
}
