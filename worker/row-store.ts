import { Bitmap } from '../shared/bitmap.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError } from '../shared/errors.js';
import type { DatasetInfo } from '../shared/protocol/messages.js';

/** Where slots find the rows: shared memory, indexed by dataset row. */
export interface RowMemory {
  readonly images: SharedArrayBuffer;
  readonly labels: SharedArrayBuffer;
}

/**
 * The dataset rows this worker has, for all runs of the dataset. With the files on disk it has all; else each run asks
 * the coordinator, in its own name, for what it needs and no other run has asked for.
 */
export class RowStore {
  private readonly images: Uint8Array;
  private readonly labels: Uint8Array;
  private readonly imageBytes: number;
  private readonly present: Bitmap;
  private readonly users = new Set<RowUser>();
  private readonly complete: boolean;

  /**
   * @param local the dataset on this machine's disk, used when it is the same to the bit
   */
  constructor(info: DatasetInfo, local: Dataset | null) {
    const rows = info.trainRows + info.testRows;
    this.imageBytes = info.imageShape[0] * info.imageShape[1] * info.imageShape[2];
    this.present = new Bitmap(rows);
    this.complete = local !== null && local.info.sha256 === info.sha256;
    this.images =
      local !== null && this.complete
        ? local.images
        : new Uint8Array(new SharedArrayBuffer(rows * this.imageBytes));
    this.labels =
      local !== null && this.complete ? local.labels : new Uint8Array(new SharedArrayBuffer(rows));
  }

  /**
   * A run's way to its rows, for as long as one connection lives.
   * @param request sends a bitmap of rows to the coordinator
   */
  open(request: (bitmap: Uint8Array) => void): RowUser {
    const user: RowUser = new RowUser(this.labels.length, {
      request,
      has: (row) => this.complete || this.present.has(row),
      isOnItsWay: (row) => [...this.users].some((other) => other !== user && other.hasAsked(row)),
      receive: (count, payload) => this.receive(user, count, payload),
      closed: () => {
        this.users.delete(user);
        // What it asked for may never come now.
        for (const other of this.users) other.askAgain();
      },
    });
    this.users.add(user);
    return user;
  }

  get memory(): RowMemory {
    return {
      images: this.images.buffer as SharedArrayBuffer,
      labels: this.labels.buffer as SharedArrayBuffer,
    };
  }

  /** @throws AtelierError `protocol` */
  private receive(by: RowUser, count: number, payload: Uint8Array): void {
    if (payload.byteLength !== count * (4 + this.imageBytes + 1)) {
      throw new AtelierError('protocol', `rows: ${payload.byteLength} bytes for ${count} rows`);
    }
    const numbers = new DataView(payload.buffer, payload.byteOffset, count * 4);
    const pixels = payload.subarray(count * 4, count * (4 + this.imageBytes));
    const labels = payload.subarray(count * (4 + this.imageBytes));
    for (let i = 0; i < count; i++) {
      const row = numbers.getUint32(i * 4, true);
      if (!by.hasAsked(row)) throw new AtelierError('protocol', `rows: row ${row} was not asked for`);
      this.images.set(pixels.subarray(i * this.imageBytes, (i + 1) * this.imageBytes), row * this.imageBytes);
      this.labels[row] = labels[i] as number;
      this.present.add(row);
    }
    for (const user of this.users) user.arrived();
  }
}

interface RowSource {
  readonly request: (bitmap: Uint8Array) => void;
  readonly has: (row: number) => boolean;
  /** Has another run asked for it? */
  readonly isOnItsWay: (row: number) => boolean;
  readonly receive: (count: number, payload: Uint8Array) => void;
  readonly closed: () => void;
}

/** One run's use of a row store. */
export class RowUser {
  private readonly rows: number;
  private readonly source: RowSource;
  private readonly asked: Bitmap;
  private waiting: { readonly rows: Uint32Array; readonly resolve: () => void }[] = [];

  constructor(rows: number, source: RowSource) {
    this.rows = rows;
    this.source = source;
    this.asked = new Bitmap(rows);
  }

  /** Resolves when all of `rows` are here; asks for those nobody has asked for yet. */
  ensure(rows: Uint32Array): Promise<void> {
    if (rows.every((row) => this.source.has(row))) return Promise.resolve();
    this.ask(rows);
    return new Promise((resolve) => this.waiting.push({ rows, resolve }));
  }

  /**
   * Takes in a `rows` message of its run.
   * @throws AtelierError `protocol`
   */
  receive(count: number, payload: Uint8Array): void {
    this.source.receive(count, payload);
  }

  /** The run, or its connection, is over. */
  close(): void {
    this.source.closed();
  }

  hasAsked(row: number): boolean {
    return this.asked.has(row);
  }

  askAgain(): void {
    for (const { rows } of this.waiting) this.ask(rows);
  }

  arrived(): void {
    this.waiting = this.waiting.filter(({ rows, resolve }) => {
      if (!rows.every((row) => this.source.has(row))) return true;
      resolve();
      return false;
    });
  }

  private ask(rows: Uint32Array): void {
    const { has, isOnItsWay, request } = this.source;
    const wanted = rows.filter((row) => !this.asked.has(row) && !has(row) && !isOnItsWay(row));
    if (wanted.length === 0) return;
    for (const row of wanted) this.asked.add(row);
    request(Bitmap.of(this.rows, wanted).bytes);
  }
}
