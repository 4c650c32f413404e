import '../support/cpu-backend.js';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, onTestFinished, test, type TestContext } from 'vitest';
import { Exchange } from '../../coordinator/exchange.js';
import { weightsSha256 } from '../../shared/layout.js';
import { bytesOf, float32Of } from '../../shared/protocol/frame.js';
import { PRESETS } from '../../shared/models/presets.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { SharedFolder } from '../../worker/exchange.js';
import type { RunMemory } from '../../worker/slot.js';
import { modelFixture, NORMALIZED, PLACE, type ModelFixture } from '../support/model-fixture.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const pools: ComputePool[] = [];
afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
});

function startPool(slots: number): ComputePool {
  const pool = new ComputePool(slots);
  pools.push(pool);
  return pool;
}

let runs = 0;
function runMemory({ spec, pixels, batch }: ModelFixture): RunMemory {
  const text = Buffer.from(JSON.stringify(spec));
  const memory = {
    spec: new SharedArrayBuffer(text.byteLength),
    images: new SharedArrayBuffer(1_100 * pixels),
  };
  new Uint8Array(memory.spec).set(text);
  const rows = batch(1_100);
  const labels = new SharedArrayBuffer(1_100);
  new Uint8Array(memory.images).set(rows.images);
  new Uint8Array(labels).set(rows.labels);
  return { id: ++runs, spec: memory.spec, rows: { images: memory.images, labels } };
}

/** Gradients of `count` micro-batches of 8 rows, all posted at once, as one hash. */
async function gradientsHash(pool: ComputePool, fixture: ModelFixture, count: number): Promise<string> {
  return (await gradients(pool, fixture, count)).hash;
}

async function gradients(
  pool: ComputePool,
  fixture: ModelFixture,
  count: number,
): Promise<{ hash: string; retries: number }> {
  const run = runMemory(fixture);
  const weights = new SharedArrayBuffer(fixture.weights.byteLength);
  new Float32Array(weights).set(fixture.weights);
  const size = fixture.model.layout.size;
  const all = new Float32Array(count * size);
  let retries = 0;
  await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const out = new Float32Array(new SharedArrayBuffer(size * 4));
      const rows = Uint32Array.from({ length: 8 }, (_row, j) => (i * 8 + j) % 1_000);
      const result = await pool.gradient({
        run,
        weights: { version: 'one', values: weights },
        out,
        batches: [{ rows, seed: Int32Array.of(i, 7), place: PLACE }],
      });
      retries += result.retries;
      all.set(out, i * size);
    }),
  );
  return { hash: weightsSha256(all), retries };
}

/** The gradient of three rows, under weights that are still to be filled in. */
function gradientTask({ model }: ModelFixture, run: RunMemory) {
  const bytes = model.layout.size * Float32Array.BYTES_PER_ELEMENT;
  const values = new SharedArrayBuffer(bytes);
  const out = new Float32Array(new SharedArrayBuffer(bytes));
  const batches = [{ rows: Uint32Array.of(1, 2, 3), seed: Int32Array.of(1, 7), place: PLACE }];
  return { values, task: { run, weights: { version: `task ${++runs}`, values }, out, batches } };
}

describe('slots', () => {
  const folder = temporaryFolder();

  test.each([
    ['compiled', PRESETS.lenet([28, 28, 1], 10)],
    ['compiled', NORMALIZED],
    ['eager', NORMALIZED],
  ] as const)('give the same bits whatever their number (%s)', async (step, topology) => {
    const fixture = await modelFixture(topology, [28, 28, 1], 10, step);
    const hashes = new Set<string>();
    for (const slots of [1, 2, 4]) hashes.add(await gradientsHash(startPool(slots), fixture, 12));
    expect(hashes.size).toBe(1);
  });

  test('give the same bits in files that they map, as they are at each task', async ({ skip }) => {
    const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
    const pool = startPool(1);
    const { mapsFiles } = await pool.warmUp();
    skip(!mapsFiles, 'the addon was not compiled here');
    const size = fixture.model.layout.size;
    const bytes = size * Float32Array.BYTES_PER_ELEMENT;
    const weights = { path: join(folder, 'weights'), offset: 0, bytes };
    const out = { path: join(folder, 'gradients'), offset: 65_536, bytes };
    writeFileSync(out.path, new Uint8Array(out.offset + bytes));
    const file = openSync(weights.path, 'w+');
    const run = runMemory(fixture);
    const batches = [{ rows: Uint32Array.of(1, 2, 3), seed: Int32Array.of(1, 7), place: PLACE }];
    for (const [version, values] of [fixture.weights, fixture.weights.map((w) => w / 2)].entries()) {
      writeSync(file, bytesOf(values), 0, bytes, 0);
      await pool.gradient({ run, weights: { version: `mapped ${version}`, values: weights }, out, batches });
      const left = readFileSync(out.path).subarray(out.offset);
      const shared = new SharedArrayBuffer(bytes);
      new Float32Array(shared).set(values);
      const inMemory = new Float32Array(new SharedArrayBuffer(bytes));
      await pool.gradient({
        ...{ run, batches, out: inMemory },
        weights: { version: `shared ${version}`, values: shared },
      });
      expect(weightsSha256(float32Of(left))).toBe(weightsSha256(inMemory));
    }
    closeSync(file);
    await expect(
      pool.gradient({
        run,
        weights: { version: 'short', values: weights },
        out: { ...out, bytes: bytes + 1 },
        batches,
      }),
    ).rejects.toThrow('the file does not reach so far');
  });

  test('what lies ready begins when it is told to, with the weights of then, in each slot, whichever still computes', async () => {
    const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
    const pool = startPool(2);
    await pool.warmUp();
    const run = runMemory(fixture);
    const plain = gradientTask(fixture, run);
    new Float32Array(plain.values).set(fixture.weights);
    const short = plain.task;
    const long = { ...short, batches: Array.from({ length: 64 }, () => short.batches).flat() };
    // Both slots compile first.
    await Promise.all([pool.gradient(short), pool.gradient(short)]);
    const hash = weightsSha256(short.out);
    for (const tasks of [
      [long, short],
      [short, long],
    ]) {
      const computing = tasks.map((task) => pool.gradient(task));
      await Promise.race(computing);
      const ready = [gradientTask(fixture, run), gradientTask(fixture, run)];
      const standby = pool.standBy(ready.map(({ task }) => task));
      await Promise.all(computing);
      for (const { values } of ready) new Float32Array(values).set(fixture.weights);
      const results = await Promise.all(standby?.begin() ?? []);
      expect(new Set(results.map((result) => result?.slot)).size).toBe(2);
      expect(ready.map(({ task }) => weightsSha256(task.out))).toEqual([hash, hash]);
    }
  });

  test('what lies ready is dropped for other tasks, and does not hold up the end', async () => {
    const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
    const pool = startPool(1);
    const run = runMemory(fixture);
    const first = gradientTask(fixture, run);
    const standby = pool.standBy([first.task]);
    expect(pool.standBy([first.task])).toBeNull();
    await pool.gradient(gradientTask(fixture, run).task);
    expect(await Promise.all(standby?.begin() ?? [])).toEqual([null]);
    expect(first.task.out.every((value) => value === 0)).toBe(true);
    // It still lies there when the pool is closed, at the end of this test.
    expect(pool.standBy([first.task])).not.toBeNull();
  });

  describe('that wait for parameters in the exchange', () => {
    /** A task under parameters that are not there yet, and who leaves them. */
    async function waiting({ skip }: Pick<TestContext, 'skip'>) {
      const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
      const pool = startPool(2);
      const { mapsFiles } = await pool.warmUp();
      const host = Exchange.open();
      if (!mapsFiles || host === null)
        skip('the addon was not compiled here, or there is no memory to share');
      onTestFinished(() => host?.close());
      const guest = host && SharedFolder.open(host.offer, { worker: 0, epoch: 0 });
      if (host === null || guest === null) throw new Error('there is memory to share');
      onTestFinished(() => guest.close());
      const { task } = gradientTask(fixture, runMemory(fixture));
      const { weights } = fixture;
      host.leaveWeights(
        0,
        0,
        4,
        weights.map((weight) => weight / 2),
      );
      const [values, arrivals] = [guest.weightsAt(0, 0, weights.byteLength), guest.arrivals(0, 0)];
      if (values === undefined || arrivals === undefined) throw new Error('parameters have been left');
      const outs = [0, 1].map(() => new Float32Array(new SharedArrayBuffer(weights.byteLength)));
      const tasks = outs.map((out) => ({ ...task, out, weights: { version: `round ${++runs}`, values } }));
      const standby = pool.standBy(tasks, { round: 5, arrivals, ring: () => guest.ring() });
      if (standby === null) throw new Error('the slots have nothing to do');
      const plain = async (): Promise<string> => {
        const inMemory = new SharedArrayBuffer(weights.byteLength);
        new Float32Array(inMemory).set(weights);
        await pool.gradient({ ...task, weights: { version: `plain ${++runs}`, values: inMemory } });
        return weightsSha256(task.out);
      };
      const leave = (round: number): boolean => host.leaveWeights(0, 0, round, weights);
      return { pool, standby, leave, plain, outs, guest };
    }

    test('begin when those of the round that they wait for come, before they are told to', async (context) => {
      const { standby, leave, plain, outs } = await waiting(context);
      leave(5);
      // It has begun: to drop it is too late, and what it writes is there when that is done.
      const isWritten = (): boolean => outs.every((out) => out.some((value) => value !== 0));
      await expect.poll(isWritten, { timeout: 30_000 }).toBe(true);
      await standby.drop();
      const results = await Promise.all(standby.begin());
      expect(results.map((result) => result?.fallback)).toEqual([null, null]);
      const hash = await plain();
      expect(outs.map(weightsSha256)).toEqual([hash, hash]);
    });

    test('begin when they are told to, whatever has come', async (context) => {
      const { standby, leave, plain, outs } = await waiting(context);
      leave(4);
      await Promise.all(standby.begin());
      const hash = await plain();
      expect(outs.map(weightsSha256)).toEqual([hash, hash]);
    });

    test('do nothing when they were dropped before, be it for other tasks', async (context) => {
      const { standby, leave, plain, outs } = await waiting(context);
      await plain();
      leave(5);
      await standby.drop();
      expect(await Promise.all(standby.begin())).toEqual([null, null]);
      expect(outs.every((out) => out.every((value) => value === 0))).toBe(true);
    });

    test('do not hold up the end', async (context) => {
      const { pool, standby } = await waiting(context);
      await pool.close();
      expect(await Promise.all(standby.begin())).toEqual([null, null]);
    });
  });

  test('a thread that dies is replaced and its tasks run again, with the same result', async () => {
    const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
    const undisturbed = await gradientsHash(startPool(1), fixture, 40);
    const pool = startPool(2);
    await pool.warmUp();
    const working = gradients(pool, fixture, 40);
    const [victim] = pool.threads;
    if (victim === undefined) throw new Error('the pool has threads');
    const died = once(victim, 'exit');
    void victim.terminate();
    await died;
    // The one that it computed, and the one that lay ready.
    expect(await working).toEqual({ hash: undisturbed, retries: 2 });
    expect(pool.threads.length).toBe(2);
  });

  test('a task that fails twice is reported', async () => {
    const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
    const run = runMemory(fixture);
    const tooSmall = new SharedArrayBuffer(4);
    const weights = { version: 'one', values: tooSmall };
    const task = {
      run,
      weights,
      out: new Float32Array(tooSmall),
      batches: [{ rows: Uint32Array.of(1), seed: Int32Array.of(1, 2), place: PLACE }],
    };
    const pool = startPool(1);
    await expect(pool.gradient(task)).rejects.toThrow();
  });
});

test('who waits for writes goes on when another process writes, or this one has before', async ({ skip }) => {
  const file = new URL('../../worker/write-watch.js', import.meta.url).href;
  const native = new URL('../../shared/native-memory.js', import.meta.url).href;
  const script = `
    const { mkdtempSync, writeFileSync, rmSync } = await import('node:fs');
    const { spawn } = await import('node:child_process');
    const { WriteWatch } = await import(${JSON.stringify(file)});
    const folder = mkdtempSync('/tmp/atelier-test-');
    const [first, second] = [folder + '/first', folder + '/second'];
    for (const path of [first, second]) writeFileSync(path, 'a');
    const watch = new WriteWatch();
    const { nativeMemory } = await import(${JSON.stringify(native)});
    if (nativeMemory === null) console.log('cannot');
    else {
      // A file that is gone is no reason not to watch others.
      console.log([folder + '/gone', first, folder + '/gone', second].map((path) => watch.add(path)).join());
      writeFileSync(first, 'b');
      watch.wait(3_600_000);
      console.log('one');
      spawn('sh', ['-c', 'echo b > "$0"', second]);
      watch.wait(3_600_000);
      console.log('two');
    }
    rmSync(folder, { recursive: true });`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
    timeout: 60_000,
  });
  skip(stdout === 'cannot\n', 'the addon was not compiled here');
  expect(stdout).toBe('false,true,false,true\none\ntwo\n');
});

test('a process whose slots were never warmed up ends in peace when they are closed', async () => {
  const file = new URL('../../worker/compute-pool.js', import.meta.url).href;
  const script = `
    const { ComputePool } = await import(${JSON.stringify(file)});
    const pool = new ComputePool(1);
    await pool.memory();
    await pool.close();`;
  // Rejects with the signal that ended it.
  await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
});
