import { ApiError, runPath, type Api } from './api.js';
import { EventStreamParser, type ServerEvent } from './event-stream.js';
import type { LogLine, RunState } from './state.js';

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
  | { readonly kind: 'gone' };

export interface Follower {
  linked(link: Link): void;
  run(state: RunState): void;
  log(line: LogLine): void;
}

/** Follows the stream of a run until `signal` ends it, and connects again for as long as it takes. */
export async function follow(api: Api, run: string, follower: Follower, signal: AbortSignal): Promise<void> {
  let failures = 0;
  let lastEventId = '';
  const onEvent = (event: ServerEvent): void => {
    failures = 0;
    // A log line that came before the connection broke may come again.
    const isRepeated = event.event === 'log' && event.id !== '' && Number(event.id) <= Number(lastEventId);
    if (event.id !== '') lastEventId = event.id;
    if (event.event === 'run') follower.run(JSON.parse(event.data) as RunState);
    else if (event.event === 'log' && !isRepeated) follower.log(JSON.parse(event.data) as LogLine);
  };
  follower.linked({ kind: 'connecting' });
  while (!isAborted(signal)) {
    let reason = 'the coordinator closed the stream';
    let isGone = false;
    try {
      await readStream(api, run, lastEventId, signal, () => follower.linked({ kind: 'open' }), onEvent);
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
    follower.linked(isGone ? { kind: 'gone' } : { kind: 'lost', reason });
    const longest = Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** failures++);
    await pause(longest * (0.5 + Math.random() / 2), signal);
  }
}

async function readStream(
  api: Api,
  run: string,
  lastEventId: string,
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
    const bytes = await api.stream(`${runPath(run)}/stream`, lastEventId, all);
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
