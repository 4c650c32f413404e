/** What the API says of a run; the coordinator's own words (`GET /api/v1/runs/:run`). */

export type RunStatus = 'queued' | 'waiting' | 'running' | 'done' | 'failed' | 'stopped';
export type WorkerState = 'joining' | 'ready' | 'leaving' | 'lost';

export interface EpochFigures {
  readonly epoch: number;
  readonly loss: number;
  readonly accuracy: number;
  readonly valLoss: number | null;
  readonly valAccuracy: number | null;
  readonly learningRate: number;
  readonly seconds: number;
}

export interface TrialState {
  readonly trial: number;
  /** Null for a plain run and for the final fit. */
  readonly fold: number | null;
  readonly status: string;
  /** Epochs begun and wanted; steps done and wanted of this epoch. */
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly steps: number;
  /** Mean over this epoch so far; null before its first step. */
  readonly loss: number | null;
  readonly epochsDone: readonly EpochFigures[];
}

export interface WorkerFigures {
  readonly worker: number;
  readonly name: string;
  readonly state: WorkerState;
  readonly slots: number;
  readonly busySlots: number;
  readonly heartbeatAgeSeconds: number;
  readonly leases: number;
  readonly rowsPerSecond: number;
}

/** The line of a run in the list. */
export interface RunLine {
  readonly name: string;
  readonly status: RunStatus;
  readonly progress: number;
}

export interface RunState extends RunLine {
  readonly startedAt: string | number | null;
  readonly etaSeconds: number | null;
  readonly imagesPerSecond: number;
  readonly trials: readonly TrialState[];
  readonly workers: readonly WorkerFigures[];
  readonly counts: Readonly<Record<string, number>>;
}

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
 * The workers with names of their own. One that was started again takes the place of the lost one that had its name; two
 * that are both here are told apart by their numbers.
 */
export function distinctWorkers(workers: readonly WorkerFigures[]): readonly WorkerFigures[] {
  const here = new Set(workers.filter(({ state }) => state !== 'lost').map(({ name }) => name));
  const kept = new Map<string, WorkerFigures>();
  for (const worker of [...workers].sort((a, b) => a.worker - b.worker)) {
    const { name, state } = worker;
    if (state === 'lost' && here.has(name)) continue;
    if (state !== 'lost' && kept.has(name)) kept.set(`${name}#${worker.worker}`, worker);
    else kept.set(name, worker);
  }
  return [...kept].map(([name, worker]) => ({ ...worker, name }));
}
