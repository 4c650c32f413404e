import type { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { AtelierError, messageOf } from '../shared/errors.js';
import { EagerLock } from './eager-lock.js';
import { keepNativeLibrary } from './native-library.js';
import type {
  EvaluateResult,
  GradientResult,
  MemoryResult,
  SlotData,
  SlotTask,
  WarmUpResult,
} from './slot.js';

/** Tasks that may wait for a slot: every shard of a large step. */
const MAX_QUEUED_TASKS = 65_536;
/** How often a task is tried again when its thread died under it. */
const MAX_RETRIES = 1;

type TaskOf<Kind extends SlotTask['kind']> = Omit<Extract<SlotTask, { kind: Kind }>, 'kind'>;

/**
 * The slots of this worker: Piscina threads that are never stopped for being idle. One that dies fails only the task
 * it had, and is replaced; tasks change nothing outside their own output, so that task is simply run again.
 */
export class ComputePool {
  private readonly pool: Piscina;
  private readonly lockMemory = EagerLock.memory();
  readonly slots: number;
  /** Tasks that were run again. */
  retries = 0;

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
      workerData: { eagerLock: this.lockMemory } satisfies SlotData,
    });
    // A thread that dies without a task: it is replaced, there is nothing else to do.
    this.pool.on('error', () => undefined);
  }

  /** The threads themselves, for fault injection. */
  get threads(): readonly Worker[] {
    return this.pool.threads;
  }

  /**
   * Loads TensorFlow in every slot.
   * @throws AtelierError `usage` when it cannot be loaded
   */
  async warmUp(): Promise<WarmUpResult> {
    try {
      const loading = this.onEverySlot({ kind: 'warm-up' });
      keepNativeLibrary();
      const results = await loading;
      return results[0] as WarmUpResult;
    } catch (cause) {
      throw new AtelierError(
        'usage',
        `native TensorFlow does not load: ${messageOf(cause)}\nRun "npm run setup", which provides it.`,
        { cause },
      );
    }
  }

  gradient(task: TaskOf<'gradient'>): Promise<GradientResult> {
    return this.run({ kind: 'gradient', ...task }) as Promise<GradientResult>;
  }

  evaluate(task: TaskOf<'evaluate'>): Promise<EvaluateResult> {
    return this.run({ kind: 'evaluate', ...task }) as Promise<EvaluateResult>;
  }

  /** What TensorFlow holds, summed over the slots. */
  async memory(): Promise<MemoryResult> {
    const results = (await this.onEverySlot({ kind: 'memory' })) as MemoryResult[];
    const sum = (key: keyof MemoryResult): number =>
      results.reduce((total, result) => total + result[key], 0);
    return { tensors: sum('tensors'), nativeTensors: sum('nativeTensors'), graphs: sum('graphs') };
  }

  async close(): Promise<void> {
    await this.pool.destroy();
  }

  /** As many tasks as slots, all posted at once: each idle slot gets one. */
  private onEverySlot(task: SlotTask): Promise<unknown[]> {
    return Promise.all(Array.from({ length: this.slots }, () => this.pool.run(task) as Promise<unknown>));
  }

  private async run(task: SlotTask): Promise<unknown> {
    for (let retry = 0; ; retry++) {
      try {
        return (await this.pool.run(task)) as unknown;
      } catch (error) {
        new EagerLock(this.lockMemory).releaseDead(this.pool.threads.map((thread) => thread.threadId));
        if (retry === MAX_RETRIES) throw error;
        this.retries++;
      }
    }
  }
}
