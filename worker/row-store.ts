import { Bitmap } from '../shared/bitmap.js';
import type { Dataset } from '../shared/dataset/load.js';
import { AtelierError } from '../shared/errors.js';
import type { DatasetInfo } from '../shared/protocol/messages.js';

/** Where slots find the rows: shared memory, indexed by dataset row. */
export interface RowMemory {
  readonly images: SharedArrayBuffer;
  readonly labels: SharedArrayBuffer;
}

type Requested = { readonly rows: Uint32Array; readonly resolve: () => void };

/**
 * The dataset rows this worker has. With the files on disk it has all; else it asks the coordinator for what
 * it needs, each row once.
 */
export class RowStore {
  private readonly images: Uint8Array;
  private readonly labels: Uint8Array;
  private readonly imageBytes: number;
  private readonly present: Bitmap;
  private asked: Bitmap;
  private request: (bitmap: Uint8Array) => void = () => undefined;
  private waiting: Requested[] = [];
  private readonly complete: boolean;

  /**
   * @param local the dataset on this machine's disk, used when it is the same to the bit
   */
  constructor(info: DatasetInfo, local: Dataset | null) {
    const rows = info.trainRows + info.testRows;
    this.imageBytes = info.imageShape[0] * info.imageShape[1] * info.imageShape[2];
    this.present = new Bitmap(rows);
    this.asked = new Bitmap(rows);
    this.complete = local !== null && local.info.sha256 === info.sha256;
    this.images =
      local !== null && this.complete
        ? local.images
        : new Uint8Array(new SharedArrayBuffer(rows * this.imageBytes));
    this.labels =
      local !== null && this.complete ? local.labels : new Uint8Array(new SharedArrayBuffer(rows));
  }

  /**
   * Whom to ask from now on: sends a bitmap of rows to the coordinator. What was asked for before and has not come
   * is asked for again: it may have been lost with its connection.
   */
  requestBy(request: (bitmap: Uint8Array) => void): void {
    this.request = request;
    this.asked = new Bitmap(this.labels.length);
    for (const { rows } of this.waiting) this.ask(rows);
  }

  get memory(): RowMemory {
    return {
      images: this.images.buffer as SharedArrayBuffer,
      labels: this.labels.buffer as SharedArrayBuffer,
    };
  }

  /** Resolves when all of `rows` are here; asks for those nobody has asked for yet. */
  ensure(rows: Uint32Array): Promise<void> {
    if (this.complete || rows.every((row) => this.present.has(row))) return Promise.resolve();
    this.ask(rows);
    return new Promise((resolve) => this.waiting.push({ rows, resolve }));
  }

  private ask(rows: Uint32Array): void {
    const wanted = rows.filter((row) => !this.asked.has(row) && !this.present.has(row));
    if (wanted.length === 0) return;
    for (const row of wanted) this.asked.add(row);
    this.request(Bitmap.of(this.labels.length, wanted).bytes);
  }

  /**
   * Takes in a `rows` message.
   * @throws AtelierError `protocol`
   */
  receive(count: number, payload: Uint8Array): void {
    if (payload.byteLength !== count * (4 + this.imageBytes + 1)) {
      throw new AtelierError('protocol', `rows: ${payload.byteLength} bytes for ${count} rows`);
    }
    const numbers = new DataView(payload.buffer, payload.byteOffset, count * 4);
    const pixels = payload.subarray(count * 4, count * (4 + this.imageBytes));
    const labels = payload.subarray(count * (4 + this.imageBytes));
    for (let i = 0; i < count; i++) {
      const row = numbers.getUint32(i * 4, true);
      if (!this.asked.has(row)) throw new AtelierError('protocol', `rows: row ${row} was not asked for`);
      this.images.set(pixels.subarray(i * this.imageBytes, (i + 1) * this.imageBytes), row * this.imageBytes);
      this.labels[row] = labels[i] as number;
      this.present.add(row);
    }
    this.waiting = this.waiting.filter(({ rows, resolve }) => {
      if (!rows.every((row) => this.present.has(row))) return true;
      resolve();
      return false;
    });
  }
}
