import { closeSync, constants, openSync } from 'node:fs';
import { invariant } from '../shared/errors.js';
import type { FilePlace } from '../shared/exchange.js';
import { nativeMemory } from '../shared/native-memory.js';

const { O_NOFOLLOW, O_RDONLY, O_RDWR } = constants;
/** Of a run: parameters and their round of each trial that is trained at a time, and gradients of a few rounds. */
const MAX_MAPPED = 64;

/** Places of the exchange's files in this slot's memory, for one run. Those that were used last stay there; garbage is unmapped. */
export class MappedPlaces {
  private readonly mapped = new Map<string, Float32Array>();

  /** @throws Error when the file is not there, or too short */
  at(place: FilePlace, access: 'read' | 'write'): Float32Array {
    const key = `${access} ${place.path} ${place.offset} ${place.bytes}`;
    const values = this.mapped.get(key) ?? map(place, access === 'write');
    this.mapped.delete(key);
    this.mapped.set(key, values);
    const [oldest] = this.mapped.keys();
    if (this.mapped.size > MAX_MAPPED && oldest !== undefined) this.mapped.delete(oldest);
    return values;
  }
}

/** Whether files can be mapped here. */
export const canMapFiles = (): boolean => nativeMemory !== null;

function map({ path, offset, bytes }: FilePlace, isWritable: boolean): Float32Array {
  invariant(nativeMemory !== null, 'places are for slots that map files');
  const file = openSync(path, (isWritable ? O_RDWR : O_RDONLY) | O_NOFOLLOW);
  try {
    return new Float32Array(nativeMemory.mapFile(file, offset, bytes, isWritable));
  } finally {
    closeSync(file);
  }
}
