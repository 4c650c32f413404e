import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { SessionCredential } from '../shared/protocol/messages.js';

/** Workers that are remembered, be they here or not. */
export const MAX_REMEMBERED = 4_096;

/** A worker that is here, or once was and may come back. */
interface Remembered {
  readonly secretHash: Buffer;
  readonly epoch: number;
}

/** What workers prove with that they were here before: a secret of their own, another one for each connection. */
export class SessionCredentials {
  private readonly remembered = new Map<number, Remembered>();
  private nextWorker = 0;

  /**
   * A worker has a new connection.
   * @param shown what it had for the one before; a worker that shows nothing, or what is not right, is a new one
   * @param isHere whether a worker must not be forgotten
   */
  renew(
    shown: SessionCredential | null,
    isHere: (worker: number) => boolean,
  ): { readonly credential: SessionCredential; readonly resumed: boolean } {
    const before = this.recognize(shown);
    const worker = before?.worker ?? this.nextWorker++;
    const epoch = (before?.epoch ?? 0) + 1;
    const secret = randomBytes(32).toString('hex');
    this.remembered.delete(worker);
    this.remembered.set(worker, { secretHash: hashOf(secret), epoch });
    for (const [oldest] of this.remembered) {
      if (this.remembered.size <= MAX_REMEMBERED) break;
      if (oldest !== worker && !isHere(oldest)) this.remembered.delete(oldest);
    }
    return { credential: { worker, epoch, secret }, resumed: before !== undefined };
  }

  /** How many connections the worker has had. */
  epochOf(worker: number): number | undefined {
    return this.remembered.get(worker)?.epoch;
  }

  private recognize(shown: SessionCredential | null): { worker: number; epoch: number } | undefined {
    if (shown === null) return undefined;
    const known = this.remembered.get(shown.worker);
    if (known === undefined || !timingSafeEqual(known.secretHash, hashOf(shown.secret))) return undefined;
    return { worker: shown.worker, epoch: known.epoch };
  }
}

const hashOf = (secret: string): Buffer => createHash('sha256').update(secret).digest();
