import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { nativeMemory } from '../../shared/native-memory.js';
import { Helper } from '../../shared/vector/helper.js';
import { instantiate } from '../../shared/vector/memory.js';
import { CHUNK_BYTES, SharedJob, type Job } from '../../shared/vector/shared-job.js';

/** Looks again and again: neither thread can be told, as this one is in the middle of a job. */
function awaitChange(hasChanged: () => boolean): void {
  const end = performance.now() + 30_000;
  while (!hasChanged()) if (performance.now() > end) throw new Error('the other thread does nothing');
}

const job = (chunks: number): Job => ({
  ...{ memory: 0, kernel: 3, offsets: [1_000_000, 2_000_000] },
  ...{ bytes: (chunks - 1) * CHUNK_BYTES + 64, scalars: [0.5] },
});
let thread: Worker | undefined;
afterEach(async () => {
  await thread?.terminate();
});

/** A thread that counts what it does of jobs of kernel 3 in the second half of this, from when the first word is 1. */
function helpWith(shared: SharedJob, counts: SharedArrayBuffer): void {
  const script = `
    const { workerData } = require('node:worker_threads');
    import(workerData.module).then(({ SharedJob }) => {
      const counts = new Int32Array(workerData.counts);
      new SharedJob(workerData.control).help(
        () => { Atomics.store(counts, 0, 1); Atomics.notify(counts, 0); },
        ({ kernel, scalars }) => kernel !== 3 || scalars[0] !== 0.5 ? null : ([offset], bytes) => {
          Atomics.add(counts, 1 + (offset - 1_000_000) / ${CHUNK_BYTES}, bytes);
          return 1;
        },
      );
    });`;
  const module = new URL('../../shared/vector/shared-job.js', import.meta.url).href;
  thread = new Worker(script, { eval: true, workerData: { module, counts, control: shared.control } });
}

test('a job that nobody helps with is done by who shares it, in chunks', () => {
  const parts: unknown[] = [];
  const returned = new SharedJob().share(job(3), (offsets, bytes) => {
    parts.push([...offsets, bytes]);
    return 2;
  });
  expect(returned).toBe(6);
  expect(parts).toEqual([
    [1_000_000 + 2 * CHUNK_BYTES, 2_000_000 + 2 * CHUNK_BYTES, 64],
    [1_000_000 + CHUNK_BYTES, 2_000_000 + CHUNK_BYTES, CHUNK_BYTES],
    [1_000_000, 2_000_000, CHUNK_BYTES],
  ]);
});

test('each chunk of many jobs is done once, by either thread, and what both were returned is added up', () => {
  const [jobs, chunks] = [2_000, 5];
  const shared = new SharedJob();
  const counts = new Int32Array(new SharedArrayBuffer(4 * (1 + chunks)));
  helpWith(shared, counts.buffer);
  expect(Atomics.wait(counts, 0, 0, 30_000)).not.toBe('timed-out');
  const own = new Array<number>(chunks).fill(0);
  for (let turn = 0; turn < jobs; turn++) {
    const returned = shared.share(job(chunks), ([offset = 0], bytes) => {
      const chunk = (offset - 1_000_000) / CHUNK_BYTES;
      own[chunk] = (own[chunk] ?? 0) + bytes;
      // Not before the other thread has taken part.
      if (turn === 0) awaitChange(() => counts.subarray(1).some((bytes) => bytes > 0));
      return 1;
    });
    expect(returned).toBe(chunks);
  }
  const all = own.map((bytes, chunk) => bytes + (counts[1 + chunk] as number));
  expect(all).toEqual([...new Array<number>(chunks - 1).fill(jobs * CHUNK_BYTES), jobs * 64]);
});

test('a job of another memory than the helper knows is left to who shares it', () => {
  const shared = new SharedJob();
  const counts = new Int32Array(new SharedArrayBuffer(4 * 6));
  helpWith(shared, counts.buffer);
  expect(Atomics.wait(counts, 0, 0, 30_000)).not.toBe('timed-out');
  for (let turn = 0; turn < 100; turn++) {
    expect(shared.share({ ...job(5), kernel: 4 }, () => 1)).toBe(5);
  }
});

test.skipIf(nativeMemory === null || availableParallelism() === 1)(
  'the helper of this process runs the kernels, in a memory that it was told of',
  () => {
    const helper = Helper.get();
    if (helper === null) throw new Error('there are two cores and the addon');
    const [arrays, bytes] = [2, 2 * CHUNK_BYTES];
    const pages = (arrays * bytes) / 65_536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const [left, right] = [0, bytes].map((offset) => new Float32Array(memory.buffer, offset, bytes / 4)) as [
      Float32Array,
      Float32Array,
    ];
    left.fill(1);
    right.fill(2);
    const kernel = Object.keys(instantiate(memory)).indexOf('add');
    const job = { memory: helper.adopt(memory), kernel, offsets: [0, bytes], bytes, scalars: [] };
    const own: number[] = [];
    helper.run(job, ([offset = -1]) => {
      own.push(offset);
      // The chunk that is left is the helper's.
      if (own.length === 1) awaitChange(() => left[0] === 3);
      return 0;
    });
    expect(own).toEqual([CHUNK_BYTES]);
    expect(left.subarray(0, CHUNK_BYTES / 4).every((value) => value === 3)).toBe(true);
    expect(left.subarray(CHUNK_BYTES / 4).every((value) => value === 1)).toBe(true);
  },
);
