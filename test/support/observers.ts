import type { RunObserver } from '../../coordinator/run-observer.js';

/** An observer that looks away. */
export const IGNORE_ALL: RunObserver = {
  workerJoined: () => undefined,
  workerLeft: () => undefined,
  warned: () => undefined,
  started: () => undefined,
  waiting: () => undefined,
  stepped: () => undefined,
  evaluating: () => undefined,
  epochEnded: () => undefined,
  trialEnded: () => undefined,
  checkpointed: () => undefined,
};
