import { availableParallelism } from 'node:os';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { nativeMemory } from '../native-memory.js';
import { SharedJob, type Job, type Part } from './shared-job.js';

/** Arrays from this length on are worth a second thread. */
export const LEAST_HELPED_FLOATS = 256 * 1024;

/** A memory that is new to the helper, or that nobody uses any more. */
export type HelperNews =
  | { readonly number: number; readonly memory: WebAssembly.Memory }
  | { readonly number: number; readonly memory: null };

export interface HelperData {
  readonly control: SharedArrayBuffer;
  readonly news: MessagePort;
}

/**
 * A second thread for kernels on large arrays. Between two steps of a training nothing computes but the coordinator's loops, and those wait for
 * memory, of which one core gets a part.
 */
export class Helper {
  private static only: Helper | null | undefined;
  private readonly job = new SharedJob();
  private readonly news: MessagePort;
  private memories = 0;
  private isGone = false;
  private readonly unused = new FinalizationRegistry<number>((number) => this.tell({ number, memory: null }));

  private constructor() {
    const { port1, port2 } = new MessageChannel();
    this.news = port1;
    const workerData = { control: this.job.control, news: port2 } satisfies HelperData;
    const thread = new Worker(new URL('./helper-thread.js', import.meta.url), {
      workerData,
      transferList: [port2],
      name: 'atelier-helper',
    });
    // It holds up no end, and what it does not do the other thread does.
    thread.unref();
    port1.unref();
    thread.on('error', () => (this.isGone = true));
    thread.on('exit', () => (this.isGone = true));
  }

  /**
   * This process' helper. Null where there is one core, or no addon: V8 copies memory that threads share at a fifth of the speed,
   * `copyBytes` does not.
   */
  static get(): Helper | null {
    return (Helper.only ??= nativeMemory !== null && availableParallelism() > 1 ? new Helper() : null);
  }

  /** @returns the memory's number */
  adopt(memory: WebAssembly.Memory): number {
    const number = this.memories++;
    this.tell({ number, memory });
    this.unused.register(memory.buffer, number);
    return number;
  }

  /**
   * Runs a kernel by both threads.
   * @returns the sum of what it returned
   */
  run(job: Job, part: Part): number {
    return this.isGone ? part(job.offsets, job.bytes) : this.job.share(job, part);
  }

  private tell(news: HelperNews): void {
    this.news.postMessage(news);
    this.job.ring();
  }
}
