import type { RunListItem, RunState, RunStatus, TrialState, WorkerStatus } from '../../../shared/api.js';

// What the API says, in the coordinator's own words.
export type { RunState, RunStatus, TrialState };
export type EpochFigures = TrialState['epochsDone'][number];
export type WorkerFigures = WorkerStatus;
/** The line of a run in the list. */
export type RunLine = Pick<RunListItem, 'name' | 'status' | 'progress'>;

/** A line of `events.jsonl`. */
export interface LogLine {
  readonly time: string;
  readonly type: string;
  readonly [field: string]: unknown;
}

/** How a state looks; always together with its word. */
export type Tone = 'good' | 'warn' | 'bad' | 'calm';

export const isOver = (status: RunStatus): boolean =>
  status === 'done' || status === 'failed' || status === 'stopped';

/** In work, in the queue, over. */
const placeOf = ({ status }: RunLine): number => (isOver(status) ? 2 : status === 'queued' ? 1 : 0);

/** Those in work first, then the queue in its order, then those that are over. The newest first else: names begin with the time. */
export const inOrder = (runs: readonly RunLine[]): RunLine[] =>
  [...runs].sort((a, b) => {
    const place = placeOf(a);
    const byName = a.name.localeCompare(b.name, 'en');
    return place - placeOf(b) || (place === 1 ? byName : -byName);
  });

export function toneOf(status: string): Tone {
  switch (status) {
    case 'done':
    case 'ready':
    case 'running':
      return 'good';
    case 'waiting':
    case 'joining':
    case 'leaving':
    case 'stopped':
      return 'warn';
    case 'failed':
    case 'lost':
      return 'bad';
    default:
      return 'calm';
  }
}

export const trialName = ({ fold }: TrialState, trials: number): string => {
  if (fold !== null) return `Fold ${fold}`;
  return trials > 1 ? 'Final fit' : 'Model';
};

/**
 * The workers by name, each with one of its own. One that was started again takes the place of the lost one that had its name; two
 * that are both here are told apart by their numbers.
 */
export function distinctWorkers(workers: readonly WorkerFigures[]): WorkerFigures[] {
  const here = new Set(workers.filter(({ state }) => state !== 'lost').map(({ name }) => name));
  const kept = new Map<string, WorkerFigures>();
  for (const worker of [...workers].sort((a, b) => a.worker - b.worker)) {
    const { name, state } = worker;
    if (state === 'lost' && here.has(name)) continue;
    if (state !== 'lost' && kept.has(name)) kept.set(`${name}#${worker.worker}`, worker);
    else kept.set(name, worker);
  }
  return [...kept]
    .map(([name, worker]) => ({ ...worker, name }))
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
}
