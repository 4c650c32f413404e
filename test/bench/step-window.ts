/** Steps at first that are not counted: what was under way before them was not done in the window. */
const SETTLE_STEPS = 2;

/** One step of a training. */
export interface TimedStep {
  /** Milliseconds, when it was over. */
  readonly now: number;
  readonly rows: number;
  /** The end of the epoch before is in it too. */
  readonly isFirstOfEpoch: boolean;
}

/** Times steps one after the other; the first of an epoch, which has the end of the last in it, counts for nothing. */
export class StepWindow {
  private readonly steps: number;
  private seen = 0;
  private counted = 0;
  private previous = 0;
  private milliseconds = 0;
  rows = 0;

  /** @param steps to count */
  constructor(steps: number) {
    this.steps = steps;
  }

  add({ now, rows, isFirstOfEpoch }: TimedStep): void {
    this.seen++;
    if (this.seen > SETTLE_STEPS && !isFirstOfEpoch) {
      this.milliseconds += now - this.previous;
      this.rows += rows;
      this.counted++;
    }
    this.previous = now;
  }

  get complete(): boolean {
    return this.counted === this.steps;
  }

  get seconds(): number {
    return this.milliseconds / 1000;
  }
}
