import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError } from '../shared/errors.js';
import type { ExchangeGuest } from '../shared/exchange.js';
import type { CoordinatorToWorker, RunSpec, WorkerToCoordinator } from '../shared/protocol/messages.js';
import { BufferPool } from './buffer-pool.js';
import type { Compute } from './compute-pool.js';
import { keepNewest, RowStores } from './row-stores.js';
import type { RunMemory } from './slot.js';
import { TrialWork, type RunContext } from './trial-work.js';

/** The longest text sent to people. */
const MAX_TEXT_CHARS = 4_000;
/** A slot computes into one while the one before is sent. */
const BUFFERS_PER_SLOT = 2;
/** Models a worker knows by number. */
const MAX_MODELS = 64;

/** What a worker keeps from one connection to the next: rows cross the wire once, models are compiled once. */
export class WorkerMemory {
  readonly pool: Compute;
  readonly rows: RowStores;
  private readonly models = new Map<string, { id: number; spec: SharedArrayBuffer }>();
  private lastModel = 0;
  private lastEra = 0;

  /** @param local the dataset on this machine's disk, if there is one */
  constructor(pool: Compute, local: Dataset | null) {
    this.pool = pool;
    this.rows = new RowStores(local);
  }

  /** A number that was never given before. */
  nextEra(): number {
    return ++this.lastEra;
  }

  /** The same specs have the same number: slots load a model once. */
  modelFor(spec: RunSpec): { id: number; spec: SharedArrayBuffer } {
    const key = JSON.stringify(spec);
    const model = this.models.get(key) ?? { id: ++this.lastModel, spec: sharedText(key) };
    keepNewest(this.models, key, model, MAX_MODELS);
    return model;
  }
}

function sharedText(text: string): SharedArrayBuffer {
  const bytes = Buffer.from(text);
  const shared = new SharedArrayBuffer(bytes.byteLength);
  new Uint8Array(shared).set(bytes);
  return shared;
}

/** How a part of a run speaks to the coordinator. */
export interface RunPort {
  readonly send: (message: WorkerToCoordinator, payload?: Uint8Array) => void;
  readonly sendInPlace: RunContext['sendInPlace'];
  /** Null on another host than the coordinator's. */
  readonly exchange: ExchangeGuest | null;
  /** Something went wrong at this run that this worker cannot put right. */
  readonly fail: (error: unknown) => void;
}

/** A part of one run, for as long as one connection lives: what a session hands the run's messages to. */
export interface RunPart {
  addTrial(trial: number, payload: Uint8Array): void;
  receiveRows(count: number, payload: Uint8Array): void;
  /** @param frame that the round came in; the weights lie in it */
  open(round: Extract<CoordinatorToWorker, { type: 'round' }>, weights: Uint8Array, frame: Buffer): void;
  compute(lease: Extract<CoordinatorToWorker, { type: 'lease' }>): void;
  /** The run, or the connection, is over. */
  close(): void;
}

/** A worker's part of a run: it computes. */
export class RunWork implements RunPart {
  private readonly context: RunContext;
  private readonly port: RunPort;
  private readonly trials = new Map<number, TrialWork>();

  /** Gets ready for the run in the background, then says so. */
  constructor(memory: WorkerMemory, run: number, spec: RunSpec, port: RunPort) {
    this.port = port;
    const store = memory.rows.for(spec.dataset);
    const { id, spec: text } = memory.modelFor(spec);
    const warned = new Set<string>();
    const runMemory: RunMemory = { id, spec: text, rows: store.memory };
    this.context = {
      run,
      era: memory.nextEra(),
      spec,
      memory: runMemory,
      store: store.open((bitmap) => port.send({ type: 'need-rows', run }, bitmap)),
      pool: memory.pool,
      buffers: new BufferPool(spec.layout.size, BUFFERS_PER_SLOT * memory.pool.slots),
      send: port.send,
      sendInPlace: port.sendInPlace,
      exchange: port.exchange,
      warn: (message) => {
        if (warned.has(message)) return;
        warned.add(message);
        port.send({ type: 'warning', run, message: message.slice(0, MAX_TEXT_CHARS) });
      },
    };
    memory.pool.prepare(runMemory).then(
      ({ fingerprint, fallback }) => {
        if (fallback !== null) this.context.warn(`${fallback}: this model is not compiled, steps are slower`);
        port.send({ type: 'ready', run, fingerprint });
      },
      (error: unknown) => port.fail(error),
    );
  }

  addTrial(trial: number, payload: Uint8Array): void {
    this.trials.set(trial, new TrialWork(this.context, trial, payload));
  }

  receiveRows(count: number, payload: Uint8Array): void {
    this.context.store.receive(count, payload);
  }

  close(): void {
    this.context.store.close();
    for (const trial of this.trials.values()) trial.close();
    this.port.exchange?.forget(this.context.run);
  }

  open(round: Extract<CoordinatorToWorker, { type: 'round' }>, weights: Uint8Array): void {
    this.requireTrial(round.trial).open(round, weights);
  }

  /** Computes in the background. A part that fails is reported, never swallowed. */
  compute({ trial, round, start, count, lease }: Extract<CoordinatorToWorker, { type: 'lease' }>): void {
    this.requireTrial(trial)
      .compute(round, { start, count, lease })
      .catch((error: unknown) => this.port.fail(error));
  }

  private requireTrial(trial: number): TrialWork {
    const work = this.trials.get(trial);
    if (work === undefined) throw new AtelierError('protocol', `no trial ${trial}`);
    return work;
  }
}
