import { Bitmap } from '../shared/bitmap.js';
import { AtelierError } from '../shared/errors.js';
import { bytesOf } from '../shared/protocol/frame.js';
import { ROWS_PIECE_BYTES } from '../shared/protocol/limits.js';
import { encodeToWorker } from '../shared/protocol/messages.js';
import type { Session } from './session.js';

/** The rows of a dataset, all of them or as they come. */
export interface RowSource {
  readonly images: Uint8Array;
  readonly labels: Uint8Array;
  /** Resolves when these rows are here; where it is missing, all are. */
  readonly ensure?: (rows: Uint32Array) => Promise<void>;
}

/**
 * Streams dataset rows to one worker that lacks them, in bounded pieces, one piece in flight. A row goes to a
 * worker at most once: asking again is a protocol error.
 */
export class RowServer {
  private readonly dataset: RowSource;
  private readonly run: number;
  private readonly session: Session;
  private readonly sent: Bitmap;
  private stopped = false;
  private queue: Promise<void> = Promise.resolve();
  /** Rows sent or queued. */
  rowsServed = 0;

  constructor(dataset: RowSource, run: number, session: Session) {
    this.dataset = dataset;
    this.run = run;
    this.session = session;
    this.sent = new Bitmap(dataset.labels.length);
  }

  /** @throws AtelierError `protocol` */
  request(bitmap: Uint8Array): void {
    const total = this.dataset.labels.length;
    if (bitmap.byteLength !== Bitmap.byteLength(total)) {
      throw new AtelierError('protocol', `need-rows: bitmap of ${bitmap.byteLength} bytes for ${total} rows`);
    }
    const rows = new Bitmap(total, bitmap).rows();
    if (rows.some((row) => this.sent.has(row))) {
      throw new AtelierError('protocol', 'need-rows: a row was asked for twice');
    }
    for (const row of rows) this.sent.add(row);
    this.rowsServed += rows.length;
    // All of them at once: what is missing is on its way while the pieces before it are sent.
    void this.dataset.ensure?.(rows);
    this.queue = this.queue.then(() => this.stream(rows));
  }

  /** The run is over: nothing more is sent in its name. */
  stop(): void {
    this.stopped = true;
  }

  private async stream(rows: Uint32Array): Promise<void> {
    const { images, labels } = this.dataset;
    const imageBytes = images.length / labels.length;
    const perPiece = Math.max(1, Math.floor(ROWS_PIECE_BYTES / (imageBytes + 1)));
    for (let start = 0; start < rows.length && !this.stopped; start += perPiece) {
      const piece = rows.slice(start, start + perPiece);
      await this.dataset.ensure?.(piece);
      const pixels = new Uint8Array(piece.length * imageBytes);
      const classes = new Uint8Array(piece.length);
      piece.forEach((row, i) => {
        pixels.set(images.subarray(row * imageBytes, (row + 1) * imageBytes), i * imageBytes);
        classes[i] = labels[row] as number;
      });
      const message = { type: 'rows', run: this.run, count: piece.length } as const;
      const frame = encodeToWorker(message, bytesOf(piece), pixels, classes);
      await new Promise<void>((sent) => this.session.sendFrame('rows', frame, sent));
    }
  }
}
