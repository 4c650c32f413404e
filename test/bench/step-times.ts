/** Steps at the beginning and at the end whose mean loss is taken. */
const LOSSES = 10;

/** What a training says of its speed, and whether it learns. */
export interface TrainingTimes {
  /** Of the timed steps together. */
  readonly seconds: number;
  /** Means of ten steps. */
  readonly firstLoss: number;
  readonly lastLoss: number;
}

/** Collects the steps of a training: `warm` that do not count, and `steps` that are timed. */
export class StepTimes {
  private readonly warm: number;
  private readonly steps: number;
  private readonly losses: number[] = [];
  private startedAt = 0;
  private endedAt = 0;

  constructor(warm: number, steps: number) {
    this.warm = warm;
    this.steps = steps;
  }

  /** @param now milliseconds, when the step was over */
  add(now: number, loss: number): void {
    const count = this.losses.length + 1;
    if (count > this.warm + this.steps) return;
    this.losses.push(loss);
    if (count === this.warm) this.startedAt = now;
    this.endedAt = now;
  }

  get complete(): boolean {
    return this.losses.length === this.warm + this.steps;
  }

  result(): TrainingTimes {
    return {
      seconds: (this.endedAt - this.startedAt) / 1000,
      firstLoss: mean(this.losses.slice(0, LOSSES)),
      lastLoss: mean(this.losses.slice(-LOSSES)),
    };
  }
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
