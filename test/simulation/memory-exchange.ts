import { AtelierError } from '../../shared/errors.js';
import type { ExchangeGuest, ExchangeHost, ExchangeOffer, FilePlace } from '../../shared/exchange.js';
import type { SessionCredential } from '../../shared/protocol/messages.js';
import { bytesOf } from '../../shared/protocol/frame.js';
import { Places } from '../../worker/places.js';

const MAX_LEFT_BYTES = 64 * 1024;

/** With the file itself: a simulated slot cannot open it. */
interface MemoryPlace extends FilePlace {
  readonly file: Uint8Array;
}

/** What a simulated slot finds at a place, or leaves there. */
export function valuesAt(place: FilePlace): Float32Array {
  const { file, offset, bytes } = place as MemoryPlace;
  return new Float32Array(file.buffer, file.byteOffset + offset, bytes / Float32Array.BYTES_PER_ELEMENT);
}

/** The folder of one life of the simulated coordinator: what is written over is gone, as in a real one. */
export class MemoryExchange implements ExchangeHost {
  readonly offer: ExchangeOffer = { folder: '/dev/shm/atelier-simula', secret: '0'.repeat(64) };
  private readonly weights = new Map<string, Uint8Array>();
  private readonly gradients = new Map<string, Uint8Array>();

  leaveWeights(run: number, trial: number, weights: Float32Array): boolean {
    const key = `${run}-${trial}`;
    const file = this.weights.get(key) ?? new Uint8Array(weights.byteLength);
    file.set(bytesOf(weights));
    this.weights.set(key, file);
    return true;
  }

  gradientsOf(worker: Pick<SessionCredential, 'worker' | 'epoch'>): ReturnType<ExchangeHost['gradientsOf']> {
    const file = this.gradients.get(keyOf(worker));
    if (file === undefined)
      throw new AtelierError('protocol', 'the worker has left no file for its gradients');
    return {
      read: (offset, target) => target.set(file.subarray(offset, offset + target.byteLength)),
      close: () => this.gradients.delete(keyOf(worker)),
    };
  }

  forget(run: number): void {
    for (const key of this.weights.keys()) if (key.startsWith(`${run}-`)) this.weights.delete(key);
  }

  guest(credential: SessionCredential): ExchangeGuest {
    const file = new Uint8Array(MAX_LEFT_BYTES);
    this.gradients.set(keyOf(credential), file);
    const places = new Places(MAX_LEFT_BYTES);
    return {
      places: {
        weightsAt: (run, trial, bytes): MemoryPlace | undefined => {
          const found = this.weights.get(`${run}-${trial}`);
          return found && { path: 'weights', offset: 0, bytes, file: found };
        },
        takePlace: (bytes): MemoryPlace | null => {
          const offset = places.take(bytes);
          return offset === null ? null : { path: 'gradients', offset, bytes, file };
        },
      },
      readWeights: (run, trial, target) => {
        const found = this.weights.get(`${run}-${trial}`);
        if (found !== undefined) target.set(found);
        return found !== undefined;
      },
      leaveGradient: (values) => {
        const offset = places.take(values.byteLength);
        if (offset !== null) file.set(values, offset);
        return offset;
      },
      forget: () => undefined,
      free: (offset) => places.free(offset),
      close: () => undefined,
    };
  }
}

const keyOf = ({ worker, epoch }: Pick<SessionCredential, 'worker' | 'epoch'>): string =>
  `${worker}-${epoch}`;
