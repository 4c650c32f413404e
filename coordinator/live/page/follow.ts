import { ApiError, runPath, type Api } from './api.js';
import { EventStreamParser, type ServerEvent } from './event-stream.js';
import { isOver, type LogLine, type RunState } from './state.js';

/** Silence after which a stream counts as dead: the coordinator sends something far more often. */
const SILENCE_MS = 30_000;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;

/** How the page stands with the coordinator. */
export type Link =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'open' }
  | { readonly kind: 'lost'; readonly reason: string }
  /** The token is not (or no longer) good. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** The coordinator does not know this run, or not yet: one that was started again needs a moment. */
  | { readonly kind: 'gone' }
  /** The run is over, and its stream with it. */
  | { readonly kind: 'over' };

export interface Follower {
  /** `open`: all lines of the log come once more. */
  linked(link: Link): void;
  run(state: RunState): void;
  log(line: LogLine): void;
}

/** Follows a run until it is over or `signal` ends it, and connects again for as long as it takes. */
export async function follow(api: Api, run: string, follower: Follower, signal: AbortSignal): Promise<void> {
  let failures = 0;
  const seen = { isOver: false };
  const onEvent = ({ event, data }: ServerEvent): void => {
    failures = 0;
    if (event === 'run') {
      const state = JSON.parse(data) as RunState;
      seen.isOver = isOver(state.status);
      follower.run(state);
    } else if (event === 'log') follower.log(JSON.parse(data) as LogLine);
  };
  follower.linked({ kind: 'connecting' });
  while (!isAborted(signal)) {
    let reason = 'the coordinator closed the stream';
    let isGone = false;
    try {
      await readStream(api, run, signal, () => follower.linked({ kind: 'open' }), onEvent);
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
      const status = error instanceof ApiError ? error : undefined;
      if (!isAborted(signal) && status?.isRefusal === true) {
        follower.linked({ kind: 'refused', reason });
        return;
      }
      isGone = status?.status === 404;
    }
    if (isAborted(signal)) return;
    if (seen.isOver) {
      follower.linked({ kind: 'over' });
      return;
    }
    follower.linked(isGone ? { kind: 'gone' } : { kind: 'lost', reason });
    const longest = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures++);
    await pause(longest * (0.5 + Math.random() / 2), signal);
  }
}

async function readStream(
  api: Api,
  run: string,
  signal: AbortSignal,
  onOpen: () => void,
  onEvent: (event: ServerEvent) => void,
): Promise<void> {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  try {
    const all = AbortSignal.any([signal, silence.signal]);
    const parser = new EventStreamParser();
    const decoder = new TextDecoder();
    const bytes = await api.stream(`${runPath(run)}/stream`, all);
    onOpen();
    for await (const chunk of bytes) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      for (const event of parser.push(decoder.decode(chunk, { stream: true }))) onEvent(event);
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Asked anew: what it was before an `await` says nothing. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted;

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
