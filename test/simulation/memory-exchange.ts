import { AtelierError } from '../../shared/errors.js';
import type {
  Arrivals,
  ExchangeGuest,
  ExchangeHost,
  ExchangeOffer,
  FilePlace,
} from '../../shared/exchange.js';
import type { SessionCredential } from '../../shared/protocol/messages.js';
import { bytesOf } from '../../shared/protocol/frame.js';
import { Places } from '../../worker/places.js';

const MAX_LEFT_BYTES = 64 * 1024;

/** With the file itself: a simulated slot cannot open it. */
interface MemoryPlace extends FilePlace {
  readonly file: Uint8Array;
}

/** With what a simulated slot cannot wait for: a write to the file. */
export interface MemoryArrivals extends Arrivals {
  /** @param action what the slot does when a round's parameters are there; it may come too late for what the slot does then */
  readonly whenThere: (round: number, action: () => void) => void;
}

/** Of one trial. */
interface Left {
  readonly file: Uint8Array;
  round: number;
  waiting: { readonly round: number; readonly action: () => void }[];
}

/** What a simulated slot finds at a place, or leaves there. */
export function valuesAt(place: FilePlace): Float32Array {
  const { file, offset, bytes } = place as MemoryPlace;
  return new Float32Array(file.buffer, file.byteOffset + offset, bytes / Float32Array.BYTES_PER_ELEMENT);
}

/** The folder of one life of the simulated coordinator: what is written over is gone, as in a real one. */
export class MemoryExchange implements ExchangeHost {
  readonly offer: ExchangeOffer = { folder: '/dev/shm/atelier-simula', secret: '0'.repeat(64) };
  private readonly left = new Map<string, Left>();
  private readonly gradients = new Map<string, Uint8Array>();

  leaveWeights(run: number, trial: number, round: number, weights: Float32Array): boolean {
    const key = `${run}-${trial}`;
    const left = this.left.get(key) ?? { file: new Uint8Array(weights.byteLength), round, waiting: [] };
    this.left.set(key, left);
    left.file.set(bytesOf(weights));
    left.round = round;
    const { waiting } = left;
    left.waiting = [];
    for (const each of waiting) if (each.round === round) each.action();
    return true;
  }

  gradientsOf(worker: Pick<SessionCredential, 'worker' | 'epoch'>): ReturnType<ExchangeHost['gradientsOf']> {
    const file = this.gradients.get(keyOf(worker));
    if (file === undefined)
      throw new AtelierError('protocol', 'the worker has left no file for its gradients');
    let isClosed = false;
    return {
      get isClosed() {
        return isClosed;
      },
      // Nothing is mapped here.
      mapOver: () => false,
      unmap: () => undefined,
      read: (offset, target) => target.set(file.subarray(offset, offset + target.byteLength)),
      close: () => {
        isClosed = true;
        this.gradients.delete(keyOf(worker));
      },
    };
  }

  forget(run: number): void {
    for (const key of this.left.keys()) if (key.startsWith(`${run}-`)) this.left.delete(key);
  }

  guest(credential: SessionCredential): ExchangeGuest {
    const file = new Uint8Array(MAX_LEFT_BYTES);
    this.gradients.set(keyOf(credential), file);
    const places = new Places(MAX_LEFT_BYTES);
    return {
      places: {
        weightsAt: (run, trial, bytes): MemoryPlace | undefined => {
          const found = this.left.get(`${run}-${trial}`);
          return found && { path: 'weights', offset: 0, bytes, file: found.file };
        },
        arrivals: (run, trial): MemoryArrivals | undefined => {
          const found = this.left.get(`${run}-${trial}`);
          return (
            found && {
              ...{ round: { path: 'round', offset: 0, bytes: 4 }, bell: 'bell' },
              whenThere: (round, action) => {
                if (found.round === round) action();
                else found.waiting.push({ round, action });
              },
            }
          );
        },
        ring: () => undefined,
        takePlace: (bytes): MemoryPlace | null => {
          const offset = places.take(bytes);
          return offset === null ? null : { path: 'gradients', offset, bytes, file };
        },
      },
      readWeights: (run, trial, target) => {
        const found = this.left.get(`${run}-${trial}`);
        if (found !== undefined) target.set(found.file);
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
