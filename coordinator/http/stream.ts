import type { ServerResponse } from 'node:http';
import type { RunState } from '../../shared/api.js';
import type { Clock } from '../../shared/clock.js';
import type { RunView } from '../run-view.js';
import { HttpProblem } from './errors.js';
import { readLog } from './events.js';

/** Most listeners at once, of all runs. */
export const MAX_STREAMS = 64;
/** A listener that leaves so much unread is cut off. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;
/** How often a listener hears something at the most. */
export const STREAM_INTERVAL_MS = 500;

const isOver = ({ status }: RunState): boolean =>
  status === 'done' || status === 'failed' || status === 'stopped';

/**
 * Server-sent events: `event: run` with the state of a run, when it has changed; `event: log` for each line of its
 * events.jsonl. A stream ends with its run.
 */
export class Streams {
  private readonly clock: Clock;
  private readonly open = new Set<ServerResponse>();

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** @throws HttpProblem 503 when there are too many */
  start(view: RunView, response: ServerResponse): void {
    if (this.open.size >= MAX_STREAMS) {
      throw new HttpProblem(503, `${MAX_STREAMS} listeners are enough: close one, or ask for the state`, 10);
    }
    this.open.add(response);
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      connection: 'close',
    });
    let last = '';
    let logAt = 0;
    let cancel = (): void => undefined;
    const tell = (): void => {
      const state = view.state();
      const text = JSON.stringify(state);
      const { lines, next } = readLog(view.path, logAt);
      logAt = next;
      const log = lines.map((line) => `event: log\ndata: ${line}\n\n`).join('');
      const run = text === last ? '' : `event: run\ndata: ${text}\n\n`;
      last = text;
      if (log + run !== '') response.write(log + run);
      if (response.writableLength > MAX_UNREAD_BYTES) response.destroy();
      else if (isOver(state) && lines.length === 0) response.end();
      else cancel = this.clock.after(STREAM_INTERVAL_MS, tell);
    };
    response.once('close', () => {
      cancel();
      this.open.delete(response);
    });
    response.on('error', () => response.destroy());
    tell();
  }

  get size(): number {
    return this.open.size;
  }
}
