import { describe, expect, test } from 'vitest';
import { Bitmap } from '../../shared/bitmap.js';
import { hostTimeMs } from '../../shared/clock.js';
import type { ExchangeGuest, ExchangePlaces, FilePlace } from '../../shared/exchange.js';
import { bytesOf } from '../../shared/protocol/frame.js';
import type { CoordinatorToWorker, RunSpec, WorkerToCoordinator } from '../../shared/protocol/messages.js';
import { BufferPool } from '../../worker/buffer-pool.js';
import type { Compute } from '../../worker/compute-pool.js';
import type { RowUser } from '../../worker/row-store.js';
import type { RunMemory } from '../../worker/slot.js';
import { TrialWork } from '../../worker/trial-work.js';

const ROWS = 8;
const SHARD = { start: 0, count: 1 };
/** What a trial's work reads of a spec. */
const SPEC = {
  ...{ seed: 1, batchSize: 4, shards: 2, evaluationRows: 4 },
  dataset: { trainRows: ROWS, testRows: 0 },
  layout: { size: 3 },
} as unknown as RunSpec;

type GradientTask = Parameters<Compute['gradient']>[0];
type PartialSum = Extract<WorkerToCoordinator, { type: 'partial' }>;

const step = (round: number, left = true): Extract<CoordinatorToWorker, { type: 'round' }> => ({
  ...{ type: 'round', run: 0, trial: 0, round, left },
  work: { kind: 'step', epoch: 0, stepInEpoch: round },
});
const WEIGHTS = bytesOf(Float32Array.of(1, 2, 3));

/** Keeps what is left; there is room for `room` gradients. */
class Exchange implements ExchangeGuest {
  readonly taken = new Set<number>();
  weights: Float32Array | null = Float32Array.of(7, 8, 9);
  readonly places: ExchangePlaces = {
    weightsAt: (_run, _trial, bytes) =>
      this.weights === null ? undefined : { path: 'weights', offset: 0, bytes },
    arrivals: () => undefined,
    ring: () => undefined,
    takePlace: (bytes) => {
      const offset = this.leaveGradient();
      return offset === null ? null : { path: 'gradients', offset, bytes };
    },
  };
  constructor(private readonly room: number) {}
  readWeights(_run: number, _trial: number, target: Uint8Array): boolean {
    if (this.weights !== null) target.set(bytesOf(this.weights));
    return this.weights !== null;
  }
  leaveGradient(): number | null {
    if (this.taken.size === this.room) return null;
    const offset = [...Array(this.room).keys()].find((place) => !this.taken.has(place)) ?? 0;
    this.taken.add(offset);
    return offset;
  }
  free(offset: number): void {
    this.taken.delete(offset);
  }
  forget(): void {
    return;
  }
  close(): void {
    return;
  }
}

function workOf({ exchange = null, ensure = () => Promise.resolve(), spec = SPEC, pool = {} }: WorkOptions): {
  work: TrialWork;
  computedWith: (number[] | FilePlace)[];
  /** Where gradients were asked for, other than in memory. */
  computedTo: FilePlace[];
  sent: { partial: PartialSum; payload: number }[];
} {
  const { trainRows } = spec.dataset;
  const computedWith: (number[] | FilePlace)[] = [];
  const computedTo: FilePlace[] = [];
  const sent: { partial: PartialSum; payload: number }[] = [];
  const compute: Compute = {
    slots: 1,
    mapsFiles: false,
    gradient: ({ weights: { values }, out }) => {
      computedWith.push(values instanceof SharedArrayBuffer ? [...new Float32Array(values)] : values);
      if (!(out instanceof Float32Array)) computedTo.push(out);
      return Promise.resolve({
        ...{ lossSum: 1, correct: 1, computeMs: 1, retries: 0, fallback: null },
        ...{ slot: 3, endedAt: hostTimeMs() },
      });
    },
    evaluate: () => Promise.reject(new Error('nothing is evaluated')),
    standBy: () => null,
    prepare: () => Promise.reject(new Error('nothing is prepared')),
    ...pool,
  };
  const send = (message: WorkerToCoordinator, payload?: Uint8Array): void => {
    if (message.type === 'partial') sent.push({ partial: message, payload: payload?.byteLength ?? 0 });
  };
  const work = new TrialWork(
    {
      ...{ run: 0, era: 1, spec, pool: compute, exchange, send, memory: {} as RunMemory },
      store: { ensure } as unknown as RowUser,
      buffers: new BufferPool(3, 2),
      sendInPlace: (message, payload) => {
        send(message, payload);
        return Promise.resolve();
      },
      warn: () => undefined,
    },
    0,
    Buffer.concat([
      Bitmap.of(
        trainRows,
        Uint32Array.from({ length: trainRows }, (_, i) => i),
      ).bytes,
      new Bitmap(trainRows).bytes,
    ]),
  );
  return { work, computedWith, computedTo, sent };
}
interface WorkOptions {
  readonly exchange?: ExchangeGuest | null;
  readonly ensure?: () => Promise<void>;
  readonly spec?: RunSpec;
  readonly pool?: Partial<Compute>;
}

test("a shard's second lease waits for its rows too", async () => {
  let come: () => void = () => undefined;
  const rows = new Promise<void>((resolve) => (come = resolve));
  const { work, computedWith } = workOf({ ensure: () => rows });
  work.open(step(0, false), WEIGHTS);
  const first = work.compute(0, SHARD);
  work.open(step(1, false), WEIGHTS);
  const second = work.compute(1, SHARD);
  // All that does not wait for rows has happened when the queue of promises has been run through.
  await new Promise(setImmediate);
  expect(computedWith).toEqual([]);
  come();
  await Promise.all([first, second]);
  expect(computedWith).toHaveLength(2);
});

test('without an exchange everything is sent', async () => {
  const { work, computedWith, sent } = workOf({});
  work.open(step(0, false), WEIGHTS);
  await work.compute(0, SHARD);
  expect(computedWith).toEqual([[1, 2, 3]]);
  expect(sent).toMatchObject([{ partial: { leftAt: null }, payload: 12 }]);
});

test('says when its tasks were computed where the run wants to know, and nothing of it elsewhere', async () => {
  for (const [spec, tasks] of [
    [{ ...SPEC, timed: true }, [{ slot: 3, computeMs: 1, endedMsAgo: expect.any(Number) as number }]],
    [SPEC, undefined],
  ] as const) {
    const { work, sent } = workOf({ spec });
    work.open(step(0, false), WEIGHTS);
    await work.compute(0, SHARD);
    expect(sent[0]?.partial.tasks).toEqual(tasks);
    for (const { endedMsAgo } of sent[0]?.partial.tasks ?? []) expect(endedMsAgo).toBeGreaterThanOrEqual(0);
  }
});

test('in an exchange parameters are found and gradients left', async () => {
  const { work, computedWith, sent } = workOf({ exchange: new Exchange(2) });
  work.open(step(0, true), new Uint8Array(0));
  await work.compute(0, SHARD);
  expect(computedWith).toEqual([[7, 8, 9]]);
  expect(sent).toMatchObject([{ partial: { leftAt: 0 }, payload: 0 }]);
});

test('what finds no room in the exchange is sent', async () => {
  const { work, sent } = workOf({ exchange: new Exchange(1) });
  work.open(step(0, true), new Uint8Array(0));
  await work.compute(0, SHARD);
  await work.compute(0, { start: 1, count: 1 });
  expect(sent).toMatchObject([
    { partial: { leftAt: 0 }, payload: 0 },
    { partial: { leftAt: null }, payload: 12 },
  ]);
});

test('slots that map files find parameters and leave gradients in the exchange themselves', async () => {
  const exchange = new Exchange(2);
  const { work, computedWith, computedTo, sent } = workOf({ exchange, pool: { mapsFiles: true } });
  work.open(step(0, true), new Uint8Array(0));
  await work.compute(0, SHARD);
  expect(computedWith).toEqual([{ path: 'weights', offset: 0, bytes: 12 }]);
  expect(computedTo).toEqual([{ path: 'gradients', offset: 0, bytes: 12 }]);
  expect(sent).toMatchObject([{ partial: { leftAt: 0 }, payload: 0 }]);
  expect([...exchange.taken]).toEqual([0]);
});

test('a place that nothing was left in is free again', async () => {
  const exchange = new Exchange(1);
  const broken = { mapsFiles: true, gradient: () => Promise.reject(new Error('broken')) };
  const { work } = workOf({ exchange, pool: broken });
  work.open(step(0, true), new Uint8Array(0));
  await expect(work.compute(0, SHARD)).rejects.toThrow('broken');
  expect(exchange.taken.size).toBe(0);
});

test.each([2, 8])(
  'of two slots that map files each answers for what it has left: %i shards',
  async (shards) => {
    const exchange = new Exchange(2);
    const spec = { ...SPEC, batchSize: 8, shards };
    const { work, computedTo, sent } = workOf({ exchange, spec, pool: { mapsFiles: true, slots: 2 } });
    work.open(step(0, true), new Uint8Array(0));
    await work.compute(0, { start: 0, count: shards });
    expect(computedTo.map(({ offset }) => offset)).toEqual([0, 1]);
    expect(sent).toMatchObject([
      { partial: { start: 0, count: shards / 2, leftAt: 0 }, payload: 0 },
      { partial: { start: shards / 2, count: shards / 2, leftAt: 1 }, payload: 0 },
    ]);
  },
);

test('what more slots compute is added in memory, and left as one', async () => {
  const exchange = new Exchange(1);
  const { work, computedTo, sent } = workOf({ exchange, pool: { mapsFiles: true, slots: 3 } });
  work.open(step(0, true), new Uint8Array(0));
  await work.compute(0, { start: 0, count: 2 });
  expect(computedTo).toEqual([]);
  expect(sent).toMatchObject([{ partial: { leftAt: 0, count: 2 }, payload: 0 }]);
});

test('a gradient keeps its place until word of the next round comes', async () => {
  const exchange = new Exchange(4);
  const { work } = workOf({ exchange });
  work.open(step(0, true), new Uint8Array(0));
  await work.compute(0, SHARD);
  expect(exchange.taken.size).toBe(1);
  work.open(step(1, true), new Uint8Array(0));
  expect(exchange.taken.size).toBe(0);
  await work.compute(1, SHARD);
  work.close();
  expect(exchange.taken.size).toBe(0);
});

test('leases are of no interest once the parameters of the run are gone', async () => {
  const exchange = new Exchange(1);
  const { work, computedWith, sent } = workOf({ exchange });
  exchange.weights = null;
  work.open(step(0, true), new Uint8Array(0));
  await work.compute(0, SHARD);
  expect({ computedWith, sent }).toEqual({ computedWith: [], sent: [] });
});

test.each([
  ['parameters that are too short', null, false, WEIGHTS.subarray(4), 'weights of 8 bytes'],
  ['parameters that were left and sent', new Exchange(1), true, WEIGHTS, 'weights of 12 bytes, not 0'],
  ['parameters left where there is no exchange', null, true, new Uint8Array(0), 'no exchange'],
])('%s are refused', (_name, exchange, left, payload, message) => {
  const { work } = workOf({ exchange });
  expect(() => work.open(step(0, left), payload)).toThrow(message);
});

describe('a step like those before', () => {
  const STEPS = 24;
  /** Leases alike, after which the next one is foreseen. */
  const STEADY = 3;
  const FIGURES = { lossSum: 2, correct: 1, computeMs: 1, retries: 0, fallback: null, slot: 3, endedAt: 0 };
  const spec = { ...SPEC, dataset: { trainRows: 4 * STEPS, testRows: 0 } } as unknown as RunSpec;

  /** A worker of one slot; what is laid ready in it, and what became of that. */
  function steadyWork(laidReady: 'begins' | 'was dropped' = 'begins') {
    const exchange = new Exchange(4);
    const standing: { tasks: GradientTask[]; fate: 'lies' | 'begun' | 'dropped' }[] = [];
    const pool: Partial<Compute> = {
      mapsFiles: true,
      standBy: (tasks) => {
        const one: (typeof standing)[number] = { tasks: [...tasks], fate: 'lies' };
        standing.push(one);
        return {
          begin: () => {
            one.fate = 'begun';
            return tasks.map(() => Promise.resolve(laidReady === 'begins' ? FIGURES : null));
          },
          drop: () => {
            one.fate = 'dropped';
            return Promise.resolve();
          },
        };
      },
    };
    const { work, computedTo, sent } = workOf({ exchange, spec, pool });
    const take = async (round: number, lease = SHARD): Promise<void> => {
      work.open(step(round), new Uint8Array(0));
      await work.compute(round, lease);
    };
    const takeAll = async (from: number, to: number): Promise<void> => {
      for (let round = from; round < to; round++) await take(round);
    };
    return { exchange, work, standing, computedTo, sent, take, takeAll };
  }

  test('lies ready in a slot, and begins with its lease', async () => {
    const { standing, computedTo, sent, takeAll } = steadyWork();
    await takeAll(0, STEADY - 1);
    expect(standing).toEqual([]);
    await takeAll(STEADY - 1, STEADY);
    const [next] = standing;
    expect(next).toMatchObject({
      fate: 'lies',
      tasks: [{ weights: { version: `1 trial 0 round ${STEADY}` } }],
    });
    await takeAll(STEADY, STEADY + 1);
    expect(next?.fate).toBe('begun');
    expect(computedTo).toHaveLength(STEADY);
    expect(sent.at(-1)?.partial).toMatchObject({ round: STEADY, rows: 2, lossSum: 2 });
  });

  test('lies ready with what it waits for, and what has begun keeps its place until it ends', async () => {
    const exchange = new Exchange(4);
    const arrivals = { round: { path: 'round', offset: 0, bytes: 4 }, bell: 'bell' };
    Object.assign(exchange.places, { arrivals: () => arrivals });
    const expectations: unknown[] = [];
    let end = (): void => undefined;
    const pool: Partial<Compute> = {
      mapsFiles: true,
      standBy: (tasks, expected) => {
        expectations.push(expected);
        return {
          begin: () => tasks.map(() => Promise.resolve(FIGURES)),
          drop: () => new Promise((resolve) => (end = resolve)),
        };
      },
    };
    const { work } = workOf({ exchange, spec, pool });
    for (let round = 0; round < STEADY; round++) {
      work.open(step(round), new Uint8Array(0));
      await work.compute(round, SHARD);
    }
    expect(expectations).toMatchObject([{ round: STEADY, arrivals }]);
    work.close();
    expect(exchange.taken.size).toBe(1);
    end();
    await new Promise(setImmediate);
    expect(exchange.taken.size).toBe(0);
  });

  test('lies ready too where everything is sent', async () => {
    const standing: GradientTask[][] = [];
    const pool: Partial<Compute> = {
      slots: 2,
      standBy: (tasks) => {
        standing.push([...tasks]);
        return { begin: () => tasks.map(() => Promise.resolve(FIGURES)), drop: () => Promise.resolve() };
      },
    };
    const { work, computedWith, sent } = workOf({ spec, pool });
    for (let round = 0; round <= STEADY; round++) {
      work.open(step(round, false), WEIGHTS);
      await work.compute(round, { start: 0, count: 2 });
    }
    expect(computedWith).toHaveLength(2 * STEADY);
    // What each slot computes is added here, in memory of its own.
    expect(new Set(standing[0]?.map(({ out }) => out)).size).toBe(2);
    expect(sent.at(-1)).toMatchObject({
      partial: { round: STEADY, count: 2, rows: 4, lossSum: 4, leftAt: null },
      payload: 12,
    });
  });

  test('lies ready in all slots when the first of them has nothing to do, and begins in all at once', async () => {
    const events: string[] = [];
    let slow = (): void => undefined;
    const last = new Promise<void>((resolve) => (slow = resolve));
    let computed = 0;
    const pool: Partial<Compute> = {
      ...{ slots: 2, mapsFiles: true },
      gradient: async () => {
        // Of the last step before, the second slot is slow.
        if (++computed === 2 * STEADY) await last;
        return FIGURES;
      },
      standBy: (tasks) => {
        events.push(`${tasks.length} lie ready`);
        slow();
        return {
          begin: () => {
            events.push('begin');
            return tasks.map(() => Promise.resolve(FIGURES));
          },
          drop: () => Promise.resolve(),
        };
      },
    };
    const { work, sent } = workOf({ exchange: new Exchange(8), spec, pool });
    const lease = { start: 0, count: 2 };
    for (let round = 0; round <= STEADY; round++) {
      work.open(step(round), new Uint8Array(0));
      await work.compute(round, lease);
    }
    expect(events.slice(0, 2)).toEqual(['2 lie ready', 'begin']);
    expect(sent).toHaveLength(2 * (STEADY + 1));
  });

  test('lies ready with as many parts as there are slots, once they have no more to do than that', async () => {
    const shards = { ...spec, batchSize: 8, shards: 4 };
    const exchange = new Exchange(8);
    const standing: GradientTask[][] = [];
    let tasks = 0;
    const pool: Partial<Compute> = {
      mapsFiles: true,
      gradient: async ({ batches }) => {
        tasks++;
        // The second node's ends when all that follows from the first one's end has happened.
        if (batches[0]?.place.shard === 2) await new Promise(setImmediate);
        else await Promise.resolve();
        tasks--;
        return FIGURES;
      },
      standBy: (laid) => {
        if (tasks > 0) return null;
        standing.push([...laid]);
        return { begin: () => laid.map(() => Promise.resolve(FIGURES)), drop: () => Promise.resolve() };
      },
    };
    const { work, sent } = workOf({ exchange, spec: shards, pool });
    // Two nodes of the tree, one slot.
    const lease = { start: 1, count: 2 };
    for (let round = 0; round <= STEADY; round++) {
      work.open(step(round), new Uint8Array(0));
      await work.compute(round, lease);
    }
    expect(standing.map((laid) => laid.length)).toEqual([1, 1]);
    const answers = sent.slice(-2).map(({ partial: { round, start, rows } }) => ({ round, start, rows }));
    expect(answers).toContainEqual({ round: STEADY, start: 1, rows: 2 });
    expect(answers).toContainEqual({ round: STEADY, start: 2, rows: 2 });
    work.close();
    await new Promise(setImmediate);
    expect(exchange.taken.size).toBe(0);
  });

  test('has the rows that it has without it', async () => {
    const { standing, sent, takeAll } = steadyWork();
    await takeAll(0, STEPS);
    const plain = workOf({ exchange: new Exchange(4), spec, pool: { mapsFiles: true } });
    for (let round = 0; round < STEPS; round++) {
      plain.work.open(step(round), new Uint8Array(0));
      await plain.work.compute(round, SHARD);
    }
    const digests = (of: typeof sent): unknown => of.map(({ partial: { rowDigests } }) => rowDigests);
    expect(digests(sent)).toEqual(digests(plain.sent));
    // After an epoch's last step comes an evaluation.
    expect(standing).toHaveLength(STEPS - STEADY);
  });

  test.each([
    ['another lease', ({ take }: ReturnType<typeof steadyWork>) => take(STEADY, { start: 1, count: 1 })],
    ['a later round', ({ take }: ReturnType<typeof steadyWork>) => take(STEADY + 1)],
    [
      'the end',
      ({ work }: ReturnType<typeof steadyWork>) => {
        work.close();
        return Promise.resolve();
      },
    ],
  ])('is dropped for %s, and its place is free', async (_name, event) => {
    const steady = steadyWork();
    await steady.takeAll(0, STEADY);
    const { exchange, standing, computedTo } = steady;
    expect(exchange.taken.size).toBe(2);
    await event(steady);
    expect(standing.map(({ fate }) => fate)).toEqual(['dropped']);
    // What was left for the round before is free too; what came was computed as any other.
    expect(exchange.taken.size).toBe(computedTo.length - STEADY);
  });

  test('is computed as any other where the slots had other things to do, and so are the next ones', async () => {
    const { standing, computedTo, sent, takeAll } = steadyWork('was dropped');
    await takeAll(0, STEADY + 1);
    expect(computedTo).toHaveLength(STEADY + 1);
    expect(sent.at(-1)?.partial).toMatchObject({ round: STEADY, lossSum: 1 });
    await takeAll(STEADY + 1, STEPS);
    expect(standing).toHaveLength(1);
  });
});
