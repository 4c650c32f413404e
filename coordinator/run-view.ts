import type { RunState } from '../shared/api.js';

/** A run as the API, the live page and metrics see it: going on, queued, or over long ago. */
export interface RunView {
  readonly name: string;
  /** Its run directory. */
  readonly path: string;
  /** As of now; a new object each time. */
  state(): RunState;
}

/** The runs that a coordinator knows: the one it is for, or all of its runs folder. */
export interface RunSource {
  /** Newest first, at most `MAX_LISTED_RUNS`. */
  list(): readonly RunView[];
  find(name: string): RunView | undefined;
}
