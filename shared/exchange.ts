import { join } from 'node:path';
import { z } from 'zod';

/*
 * Processes of one host need not send each other parameters and gradients: they leave them in files that lie in memory, and
 * send only word of it. The sockets' buffers, chunks and copies are not touched, and where files can be mapped a slot's copy of each is the
 * only one. Slots that wait for parameters are woken by the write of their round's number.
 *
 * Nobody waits for anybody before a file is written again, and nothing is locked. A trial's parameters are
 * overwritten when all answers to its round are in, and a worker's gradients of a round when it has word of a later round of that trial.
 * What is answered after that is dropped (`late`): whoever reads too late computes or sends what does not count.
 */

/** Where the files are: Linux has a file system in memory there. */
export const EXCHANGE_ROOT = '/dev/shm';
const FOLDER_PREFIX = 'atelier-';

/** `mkdtemp` adds six characters. */
export const EXCHANGE_FOLDER = join(EXCHANGE_ROOT, FOLDER_PREFIX);
export const isExchangeFolder = (name: string): boolean => /^atelier-[A-Za-z0-9]{6}$/.test(name);

/** The coordinator's offer. A worker that finds `secret` in the folder is on the same host. */
export const ExchangeOffer = z.strictObject({
  folder: z.string().regex(/^\/dev\/shm\/atelier-[A-Za-z0-9]{6}$/),
  secret: z.string().regex(/^[0-9a-f]{64}$/),
});
export type ExchangeOffer = z.infer<typeof ExchangeOffer>;

/** JSON of `ExchangeOwner`. */
export const ownerFile = (folder: string): string => join(folder, 'owner.json');
/** The parameters and state of the trial's round in work, from the coordinator. */
export const weightsFile = (folder: string, run: number, trial: number): string =>
  join(folder, `weights-${run}-${trial}`);
/** An int32: the number of the round that these parameters are of; written after them. */
export const roundFile = (folder: string, run: number, trial: number): string =>
  join(folder, `round-${run}-${trial}`);
/** What a worker writes to, so that its slots look up. */
export const bellFile = (folder: string, worker: number, epoch: number): string =>
  join(folder, `bell-${worker}-${epoch}`);
/** A worker's gradients, at the places that its answers name. */
export const gradientsFile = (folder: string, worker: number, epoch: number): string =>
  join(folder, `gradients-${worker}-${epoch}`);

/** Whose the folder is. One whose process is gone is swept away by the next coordinator. */
export const ExchangeOwner = z.object({ host: z.string(), pid: z.int().min(1), secret: z.string() });
export type ExchangeOwner = z.infer<typeof ExchangeOwner>;

/** The coordinator's side. */
export interface ExchangeHost {
  readonly offer: ExchangeOffer;
  /**
   * Leaves the parameters and state of a trial's round for the workers of this host. Slots that wait for them begin. Of what has pages of
   * its own (`VectorMemory.pages`) these may become the file's: what is changed there later is changed for the workers.
   * @returns whether there was room
   */
  leaveWeights(run: number, trial: number, round: number, weights: Float32Array): boolean;
  /** What a worker's connection leaves; it has made the file already. */
  gradientsOf(worker: { readonly worker: number; readonly epoch: number }): LeftGradients;
  /** Removes what was left for a run. */
  forget(run: number): void;
}

/** Gradients that one worker's connection has left. */
export interface LeftGradients {
  /** The worker is gone. What is mapped stays. */
  readonly isClosed: boolean;
  /**
   * Lets an array of `VectorMemory.pages` be the values that lie at an offset, also those that come there later.
   * @returns false when it cannot: then they are to be read
   */
  mapOver(offset: number, values: Float32Array): boolean;
  /** Lets it be zeros again. */
  unmap(values: Float32Array): void;
  /** @throws AtelierError `protocol` when there is not as much as that */
  read(offset: number, target: Uint8Array): void;
  close(): void;
}

/** A part of a file of the exchange, in bytes. */
export interface FilePlace {
  readonly path: string;
  /** A multiple of every page size. */
  readonly offset: number;
  readonly bytes: number;
}

/** How slots see for themselves that parameters have come. */
export interface Arrivals {
  /** An int32: the number of the round that the trial's parameters are of. */
  readonly round: FilePlace;
  /** The path of a file that is written to when slots are to look up for another reason. */
  readonly bell: string;
}

/** A worker's side, for one connection. */
export interface ExchangeGuest {
  /** For slots that map files; left out where there are none. */
  readonly places?: ExchangePlaces;
  /**
   * The parameters that the coordinator has left last for a trial.
   * @returns false when the run is over: they are gone
   */
  readWeights(run: number, trial: number, target: Uint8Array): boolean;
  /**
   * Leaves a gradient.
   * @returns where, in bytes; null when there is no room
   */
  leaveGradient(values: Uint8Array): number | null;
  /** Nothing more will be read of a run. */
  forget(run: number): void;
  /** What was left there may be overwritten. */
  free(offset: number): void;
  close(): void;
}

/** Where slots find parameters and leave gradients themselves, in files that they map into their memory. */
export interface ExchangePlaces {
  /** The parameters and state that the coordinator leaves for a trial; undefined when the run is over. */
  weightsAt(run: number, trial: number, bytes: number): FilePlace | undefined;
  /** Undefined when the run is over. */
  arrivals(run: number, trial: number): Arrivals | undefined;
  /** Has slots look up that wait for parameters. */
  ring(): void;
  /** Takes a place for a gradient, in a file that reaches there; null when there is no room. Its offset is what `free` takes. */
  takePlace(bytes: number): FilePlace | null;
}
