import { basename } from 'node:path';
import { RunName, type RunState, type TrialState } from '../shared/api.js';
import type { RunConfig } from '../shared/config.js';
import type { EpochRecord } from '../shared/summary.js';
import type { Cluster } from './cluster.js';
import { scheduleOf } from './optimizer/update-rule.js';
import type { Run } from './run.js';
import type { RunObserver } from './run-observer.js';
import type { RunView } from './run-view.js';
import type { TrialPlan } from './trial-plan.js';
import type { StepProgress, Trial } from './trial.js';

interface LiveRunOptions {
  /** Its run directory. */
  readonly path: string;
  readonly config: RunConfig;
  readonly plans: readonly TrialPlan[];
  readonly cluster: Cluster;
}

/** A run that is going on, for those who ask. It sees what happens as an observer of the run. */
export class LiveRun implements RunView {
  readonly name: string;
  readonly path: string;
  readonly observer: Partial<RunObserver>;
  private readonly options: LiveRunOptions;
  private run: Run | undefined;
  /** Steps and evaluations that were done when the run, or its newest life, began. */
  private doneBefore = 0;
  private readonly progress = new Map<number, StepProgress>();
  private imagesPerSecond = 0;

  constructor(options: LiveRunOptions) {
    this.options = options;
    this.path = options.path;
    const folder = basename(options.path);
    // --run-dir may be called anything; the API has one run then, whatever its name.
    this.name = RunName.safeParse(folder).success ? folder : 'run';
    this.observer = {
      stepped: (progress, imagesPerSecond) => {
        this.progress.set(progress.trial, progress);
        this.imagesPerSecond = imagesPerSecond;
      },
    };
  }

  /** From now on the state is that of this run. */
  follow(run: Run): void {
    this.run = run;
    this.doneBefore = run.roundsDone;
  }

  state(): RunState {
    const { run, name } = this;
    if (run === undefined) return queuedState(name);
    const { roundsDone, roundsLeft, status, secondsPassed } = run;
    const doneNow = roundsDone - this.doneBefore;
    const isRunning = status === 'running';
    return {
      name,
      status,
      reason: run.reason,
      startedAt: new Date(run.startedAt).toISOString(),
      progress: roundsDone + roundsLeft === 0 ? 1 : roundsDone / (roundsDone + roundsLeft),
      etaSeconds: isRunning && doneNow > 0 ? (secondsPassed / doneNow) * roundsLeft : null,
      imagesPerSecond: isRunning ? this.imagesPerSecond : 0,
      weightsSha256: status === 'done' ? run.weightsSha256 : null,
      trials: run.trialsNow.map(({ trial, started }) => this.trialState(trial, started)),
      workers: this.options.cluster.workers(run.number),
      counts: run.counts,
    };
  }

  private trialState(trial: Trial, started: boolean): TrialState {
    const { config, plans } = this.options;
    const { position, records, index, fold } = trial;
    const steps = plans[index]?.shards.stepsPerEpoch ?? 0;
    const progress = this.progress.get(index);
    const epoch = position.kind === 'over' ? records.length : position.epoch + 1;
    const isThisEpoch = progress !== undefined && progress.epoch + 1 === epoch;
    return {
      trial: index,
      fold,
      status: statusOf(trial, started),
      epoch,
      epochs: config.epochs,
      step: position.kind === 'step' ? position.stepInEpoch : steps,
      steps,
      loss: isThisEpoch && Number.isFinite(progress.loss) ? progress.loss : null,
      epochsDone: epochStates(records, config, steps),
    };
  }
}

/** Epochs with the learning rate of their last step. */
export function epochStates(
  records: readonly EpochRecord[],
  config: RunConfig,
  stepsPerEpoch: number,
): TrialState['epochsDone'] {
  const rate = scheduleOf(config, stepsPerEpoch);
  return records.map(({ epoch, loss, accuracy, valLoss, valAccuracy, seconds }) => ({
    ...{ epoch, loss, accuracy, valLoss, valAccuracy, seconds },
    learningRate: rate(epoch * stepsPerEpoch - 1),
  }));
}

/** The state of a run of which nothing is known but that it will come. */
export const queuedState = (name: string): RunState => ({
  name,
  status: 'queued',
  reason: null,
  startedAt: null,
  progress: 0,
  etaSeconds: null,
  imagesPerSecond: 0,
  weightsSha256: null,
  trials: [],
  workers: [],
  counts: { workersLost: 0, reconnects: 0, speculated: 0, late: 0, resumes: 0, retries: 0 },
});

function statusOf(trial: Trial, started: boolean): TrialState['status'] {
  if (trial.failure !== null) return 'failed';
  if (trial.isOver) return 'done';
  return started ? 'running' : 'waiting';
}
