import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { HelperData, HelperNews } from './helper.js';
import { instantiate, type KernelFunction } from './memory.js';
import { SharedJob } from './shared-job.js';

/** The thread of a `Helper`. */
const { control, news } = workerData as HelperData;
/** By the memory's number: its kernels, by theirs. */
const memories = new Map<number, readonly KernelFunction[]>();

function look(): void {
  for (let found = receiveMessageOnPort(news); found !== undefined; found = receiveMessageOnPort(news)) {
    const { number, memory } = found.message as HelperNews;
    if (memory === null) memories.delete(number);
    else memories.set(number, Object.values(instantiate(memory)));
  }
}

new SharedJob(control).help(look, ({ memory, kernel, scalars }) => {
  const run = memories.get(memory)?.[kernel];
  return run === undefined ? null : (offsets, bytes) => run(...offsets, bytes, ...scalars);
});
