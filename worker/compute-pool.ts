import type { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { AtelierError, invariant, messageOf } from '../shared/errors.js';
import { EagerLock } from './eager-lock.js';
import { keepNativeLibrary } from './native-library.js';
import { StandbyCells } from './standby.js';
import type { PoolUsage } from './worker-figures.js';
import type {
  EvaluateResult,
  ExpectedRound,
  GradientResult,
  MemoryResult,
  NotBegun,
  PrepareResult,
  RunMemory,
  SlotData,
  SlotHoldings,
  SlotTask,
  TaskTime,
  WarmUpResult,
} from './slot.js';

type PiscinaOptions = NonNullable<ConstructorParameters<typeof Piscina>[0]>;

/** Tasks that may wait for a slot: every shard of a large step. */
const MAX_QUEUED_TASKS = 65_536;
/** One is computed; the other one lies ready, so that the slot need not wait for this thread between two tasks. */
const TASKS_PER_SLOT = 2;
/** How often a task is tried again when its thread died under it. */
const MAX_RETRIES = 1;

type TaskOf<Kind extends SlotTask['kind']> = Omit<Extract<SlotTask, { kind: Kind }>, 'kind'>;

/** A result, and how often its task was run again because a thread died under it. */
type Tried<Result> = Result & { readonly retries: number };

/** Tasks that lie ready, each in a slot. Nothing is computed before `begin`; one of the two is called, once. */
export interface Standby {
  /** @returns of each task its result, or null when it was dropped before it began */
  begin(): Promise<Tried<GradientResult> | null>[];
  /** @returns when nothing is written to the tasks' outputs any more */
  drop(): Promise<void>;
}

/** Parameters that tasks on standby may begin with before they are told to. */
export interface ExpectedParameters extends ExpectedRound {
  /** Has slots look up that wait for them. */
  ring(): void;
}

/** What computes for a worker. Tests may bring their own. */
export interface Compute {
  readonly slots: number;
  /** Whether parameters and gradients may lie in files of the exchange. */
  readonly mapsFiles: boolean;
  gradient(task: TaskOf<'gradient'>): Promise<Tried<GradientResult>>;
  evaluate(task: TaskOf<'evaluate'>): Promise<Tried<EvaluateResult>>;
  /**
   * Lays tasks ready, each in a slot of its own, behind what that computes now. Other tasks go first: they have them dropped.
   * @param expected where slots see for themselves that their parameters have come; then nobody need tell them
   * @returns null when there is more to do than slots do at a time
   */
  standBy(tasks: readonly TaskOf<'gradient'>[], expected?: ExpectedParameters): Standby | null;
  /** Loads a run's model in every slot; returns the run's numerics fingerprint as computed here. */
  prepare(run: RunMemory): Promise<PrepareResult>;
}

/**
 * The slots of this worker: Piscina threads that are never stopped for being idle. One that dies fails only the tasks
 * it had, and is replaced; tasks change nothing outside their own output, so those tasks are simply run again.
 */
export class ComputePool implements Compute {
  private readonly pool: Piscina;
  private readonly lockMemory = EagerLock.memory();
  private readonly standbyMemory: SharedArrayBuffer;
  private readonly cells: StandbyCells;
  /** What drops those on standby that are not begun, and how many tasks that are. */
  private readonly standing = new Map<() => void, number>();
  private tasks = 0;
  private computeMs = 0;
  private rows = 0;
  /** As of each slot's last task, by thread. */
  private readonly holdings = new Map<number, SlotHoldings>();
  readonly slots: number;
  /** Known once it is warm. */
  mapsFiles = false;

  constructor(slots: number) {
    this.slots = slots;
    this.standbyMemory = StandbyCells.memory(TASKS_PER_SLOT * slots);
    this.cells = new StandbyCells(this.standbyMemory);
    this.pool = new Piscina({
      filename: new URL('./slot.js', import.meta.url).href,
      minThreads: slots,
      maxThreads: slots,
      concurrentTasksPerWorker: TASKS_PER_SLOT,
      loadBalancer: takingTurns(),
      idleTimeout: Number.POSITIVE_INFINITY,
      maxQueue: MAX_QUEUED_TASKS,
      recordTiming: false,
      workerData: { eagerLock: this.lockMemory, standby: this.standbyMemory } satisfies SlotData,
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
      const results = (await loading) as WarmUpResult[];
      this.mapsFiles = results.every(({ mapsFiles }) => mapsFiles);
      return results[0] as WarmUpResult;
    } catch (cause) {
      throw new AtelierError(
        'usage',
        `native TensorFlow does not load: ${messageOf(cause)}\nRun "npm run setup", which provides it.`,
        { cause },
      );
    }
  }

  async gradient(task: TaskOf<'gradient'>): Promise<Tried<GradientResult>> {
    const result = await this.asked(this.run<GradientResult>({ kind: 'gradient', ...task }));
    return this.computed(result, task);
  }

  async evaluate(task: TaskOf<'evaluate'>): Promise<Tried<EvaluateResult>> {
    return this.computed(await this.asked(this.run<EvaluateResult>({ kind: 'evaluate', ...task })));
  }

  standBy(tasks: readonly TaskOf<'gradient'>[], expected?: ExpectedParameters): Standby | null {
    const standing = [...this.standing.values()].reduce((sum, each) => sum + each, tasks.length);
    const cell = this.tasks > this.slots || standing > this.slots ? null : this.cells.take();
    if (cell === null) return null;
    let isDropped = false;
    const drop = (): void => {
      if (!this.standing.delete(drop)) return;
      isDropped = this.cells.drop(cell);
      if (isDropped) expected?.ring();
    };
    const { round, arrivals } = expected ?? {};
    const order = {
      cell,
      ...(round !== undefined && arrivals !== undefined && { expected: { round, arrivals } }),
    };
    this.standing.set(drop, tasks.length);
    const results = tasks.map(async (task) => {
      const result = await this.tried<GradientResult | NotBegun>({
        kind: 'gradient',
        ...task,
        standby: order,
      });
      return 'begun' in result ? null : this.computed(result, task);
    });
    const over = Promise.allSettled(results).then(() => {
      this.standing.delete(drop);
      this.cells.giveBack(cell);
    });
    return {
      begin: () => {
        if (isDropped) return results.map(() => Promise.resolve(null));
        if (this.standing.delete(drop) && this.cells.begin(cell)) expected?.ring();
        return results.map((result) => this.asked(result));
      },
      drop: () => {
        drop();
        return over;
      },
    };
  }

  /** What it has done and holds, at this moment. */
  usage(): PoolUsage {
    const alive = new Set(this.pool.threads.map(({ threadId }) => threadId));
    let tensors = 0;
    let tensorBytes = 0;
    for (const [slot, holding] of this.holdings) {
      // What a dead thread held went with it.
      if (!alive.has(slot)) this.holdings.delete(slot);
      else {
        tensors += holding.tensors;
        tensorBytes += holding.tensorBytes;
      }
    }
    const { slots, tasks, computeMs, rows } = this;
    return { slots, busySlots: Math.min(slots, tasks), computeMs, rows, tensors, tensorBytes };
  }

  async prepare(run: RunMemory): Promise<PrepareResult> {
    const preparing = Array.from({ length: this.slots }, () =>
      this.run<PrepareResult>({ kind: 'prepare', run }),
    );
    const results = await Promise.all(preparing);
    const [first] = results;
    invariant(first !== undefined, 'a pool has slots');
    const other = results.find(({ fingerprint }) => fingerprint !== first.fingerprint);
    if (other !== undefined) throw new Error('the slots of this worker compute different gradients');
    return first;
  }

  /** What TensorFlow holds, summed over the slots. */
  async memory(): Promise<MemoryResult> {
    const results = (await this.onEverySlot({ kind: 'memory' })) as MemoryResult[];
    const sum = (key: keyof MemoryResult): number =>
      results.reduce((total, result) => total + result[key], 0);
    return { tensors: sum('tensors'), nativeTensors: sum('nativeTensors'), graphs: sum('graphs') };
  }

  async close(): Promise<void> {
    this.dropAllStanding();
    // A pool that was never warmed up has loaded it in its threads alone.
    keepNativeLibrary();
    await this.pool.destroy();
  }

  /** As many tasks as slots, all posted at once: each idle slot gets one. */
  private onEverySlot(task: SlotTask): Promise<unknown[]> {
    this.dropAllStanding();
    return Promise.all(Array.from({ length: this.slots }, () => this.pool.run(task) as Promise<unknown>));
  }

  private async asked<Result>(result: Promise<Result>): Promise<Result> {
    this.tasks++;
    try {
      return await result;
    } finally {
      this.tasks--;
    }
  }

  private computed<Result extends TaskTime>(result: Result, task?: TaskOf<'gradient'>): Result {
    this.computeMs += result.computeMs;
    this.holdings.set(result.slot, result as Result & SlotHoldings);
    for (const { rows } of task?.batches ?? []) this.rows += rows.length;
    return result;
  }

  private run<Result extends object>(task: SlotTask): Promise<Tried<Result>> {
    this.dropAllStanding();
    return this.tried(task);
  }

  /** No task waits for a slot that waits itself. */
  private dropAllStanding(): void {
    for (const drop of this.standing.keys()) drop();
  }

  private async tried<Result extends object>(task: SlotTask): Promise<Tried<Result>> {
    for (let retries = 0; ; retries++) {
      try {
        const result = (await this.pool.run(task)) as Result;
        return { retries, ...result };
      } catch (error) {
        new EagerLock(this.lockMemory).releaseDead(this.pool.threads.map((thread) => thread.threadId));
        if (retries === MAX_RETRIES) throw error;
      }
    }
  }
}

/** The slot that has the fewest tasks; of several, the one whose last task was posted the longest ago. */
function takingTurns(): NonNullable<PiscinaOptions['loadBalancer']> {
  const lastPosts = new Map<number, number>();
  let posts = 0;
  const lastPost = ({ id }: { readonly id: number }): number => lastPosts.get(id) ?? 0;
  return (_task, workers) => {
    let chosen: (typeof workers)[number] | null = null;
    for (const worker of workers) {
      const fewer = worker.currentUsage - (chosen?.currentUsage ?? TASKS_PER_SLOT);
      if (fewer < 0 || (fewer === 0 && chosen !== null && lastPost(worker) < lastPost(chosen)))
        chosen = worker;
    }
    if (chosen !== null) lastPosts.set(chosen.id, ++posts);
    return chosen;
  };
}
