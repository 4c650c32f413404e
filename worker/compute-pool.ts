import { Piscina } from 'piscina';
import { AtelierError, messageOf } from '../shared/errors.js';
import { EagerLock } from './eager-lock.js';
import type { EvaluateResult, GradientResult, SlotData, SlotTask, WarmUpResult } from './slot.js';

/** Tasks that may wait for a slot: every shard of a large step. */
const MAX_QUEUED_TASKS = 65_536;

/** The slots of this worker: Piscina threads that are never idle-stopped. */
export class ComputePool {
  private readonly pool: Piscina;
  readonly slots: number;

  constructor(slots: number) {
    this.slots = slots;
    this.pool = new Piscina({
      filename: new URL('./slot.js', import.meta.url).href,
      minThreads: slots,
      maxThreads: slots,
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      maxQueue: MAX_QUEUED_TASKS,
      recordTiming: false,
      workerData: { eagerLock: EagerLock.memory() } satisfies SlotData,
    });
  }

  /**
   * Loads TensorFlow in every slot.
   * @throws AtelierError `usage` when it cannot be loaded
   */
  async warmUp(): Promise<WarmUpResult> {
    try {
      const results = await Promise.all(
        Array.from({ length: this.slots }, () => this.pool.run({ kind: 'warm-up' } satisfies SlotTask)),
      );
      return results[0] as WarmUpResult;
    } catch (cause) {
      throw new AtelierError(
        'usage',
        `native TensorFlow does not load: ${messageOf(cause)}\nRun "npm run setup", which provides it.`,
        { cause },
      );
    }
  }

  gradient(task: Omit<Extract<SlotTask, { kind: 'gradient' }>, 'kind'>): Promise<GradientResult> {
    return this.pool.run({ kind: 'gradient', ...task } satisfies SlotTask) as Promise<GradientResult>;
  }

  evaluate(task: Omit<Extract<SlotTask, { kind: 'evaluate' }>, 'kind'>): Promise<EvaluateResult> {
    return this.pool.run({ kind: 'evaluate', ...task } satisfies SlotTask) as Promise<EvaluateResult>;
  }

  async close(): Promise<void> {
    await this.pool.destroy();
  }
}
