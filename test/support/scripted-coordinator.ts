import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { livePageAnswer } from '../../coordinator/live/serve.js';
import { isOver, type LogLine, type RunState } from '../../coordinator/live/page/state.js';

/** Serves the live page and an API that says what a test wants it to say. Same answers as a coordinator's. */
export class ScriptedCoordinator {
  /** Paths that were asked for. */
  readonly paths: string[] = [];
  private readonly runs = new Map<string, RunState>();
  private readonly lines = new Map<string, string[]>();
  private readonly streams = new Map<string, Set<ServerResponse>>();
  private server: Server | undefined;
  private port = 0;

  /** @param token that requests must carry; null for none */
  constructor(private readonly token: string | null = null) {}

  /** Opens the door; the same one again after `close`. */
  async open(): Promise<string> {
    const server = createServer((request, response) => void this.answer(request, response));
    this.server = server;
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve));
    this.port = (server.address() as AddressInfo).port;
    return `http://127.0.0.1:${this.port}/`;
  }

  async close(): Promise<void> {
    const { server } = this;
    if (server === undefined) return;
    await new Promise((resolve) => {
      server.close(resolve);
      server.closeAllConnections();
    });
  }

  show(run: RunState): void {
    this.runs.set(run.name, run);
    this.send(run.name, `event: run\ndata: ${JSON.stringify(run)}\n\n`);
    if (isOver(run.status)) for (const stream of this.streams.get(run.name) ?? []) stream.end();
  }

  log(run: string, line: LogLine): void {
    const lines = this.lines.get(run) ?? [];
    this.lines.set(run, lines);
    lines.push(`event: log\ndata: ${JSON.stringify(line)}\n\n`);
    this.send(run, lines.at(-1) ?? '');
  }

  /** How many pages follow a run. */
  followers(run: string): number {
    return this.streams.get(run)?.size ?? 0;
  }

  private send(run: string, text: string): void {
    for (const stream of this.streams.get(run) ?? []) stream.write(text);
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = decodeURIComponent(request.url ?? '');
    this.paths.push(path);
    const asset = await livePageAnswer(path, request.headers);
    if (asset !== null) {
      response.writeHead(asset.status, asset.headers).end(asset.body);
      return;
    }
    const json = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    };
    if (this.token !== null && request.headers.authorization !== `Bearer ${this.token}`) {
      json(401, { error: 'This token is wrong, has expired or was revoked.' });
      return;
    }
    const [, name = '', rest] = /^\/api\/v1\/runs(?:\/([^/]+)(\/.*)?)?$/.exec(path) ?? [];
    const run = this.runs.get(name);
    if (path === '/api/v1/runs') json(200, { runs: [...this.runs.values()] });
    else if (run === undefined) json(404, { error: 'There is no such run.' });
    else if (rest === '/stream') this.stream(run, response);
    else if (rest?.startsWith('/files/') === true) response.end(`contents of ${rest}`);
    else json(200, run);
  }

  private stream(run: RunState, response: ServerResponse): void {
    const streams = this.streams.get(run.name) ?? new Set();
    this.streams.set(run.name, streams.add(response));
    response.once('close', () => streams.delete(response));
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    response.write(`event: run\ndata: ${JSON.stringify(run)}\n\n`);
    for (const line of this.lines.get(run.name) ?? []) response.write(line);
    if (isOver(run.status)) response.end();
  }
}

/** A cross-validation in the middle: every fold is `epoch` (with a fraction) epochs far. */
export function someRun(name: string, epoch: number, folds = 5, workers = 2): RunState {
  const epochs = 8;
  const done = Math.floor(epoch);
  const lossAt = (fold: number, at: number): number => 0.3 + 1.9 * Math.exp(-at / 2) + 0.02 * fold;
  return {
    name,
    reason: null,
    weightsSha256: null,
    status: epoch >= epochs ? 'done' : 'running',
    startedAt: '2026-01-05T10:00:00.000Z',
    progress: Math.min(1, epoch / epochs),
    etaSeconds: epoch >= epochs ? null : Math.round(40 * (epochs - epoch)),
    imagesPerSecond: 4_000 + 30 * (epoch % 1),
    trials: Array.from({ length: folds }, (_, fold) => ({
      trial: fold,
      fold,
      status: epoch >= epochs ? 'done' : 'running',
      epoch: Math.min(epochs, done + 1),
      epochs,
      step: Math.round(200 * (epoch - done)),
      steps: 200,
      loss: lossAt(fold, epoch),
      epochsDone: Array.from({ length: Math.min(epochs, done) }, (_unused, index) => ({
        epoch: index + 1,
        loss: lossAt(fold, index + 0.5),
        accuracy: 1 - lossAt(fold, index + 0.5) / 2.5,
        valLoss: lossAt(fold, index + 0.8) + 0.05,
        valAccuracy: 0.98 - lossAt(fold, index + 0.8) / 2.5,
        learningRate: 0.001,
        seconds: 12.5,
      })),
    })),
    workers: Array.from({ length: workers }, (_, worker) => ({
      worker,
      name: `local-${worker}`,
      host: 'here',
      state: 'ready',
      slots: 2,
      busySlots: Math.round(1 + Math.sin(epoch * 40 + worker)),
      heartbeatAgeSeconds: 0.4,
      leases: 2,
      rowsPerSecond: 2_000 + 10 * worker,
    })),
    counts: { workersLost: 0, reconnects: 0, speculated: 0, late: 0, resumes: 0, retries: 0 },
  };
}
