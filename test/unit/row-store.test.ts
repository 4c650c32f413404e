import { describe, expect, test } from 'vitest';
import { Bitmap } from '../../shared/bitmap.js';
import type { Dataset } from '../../shared/dataset/load.js';
import type { DatasetInfo } from '../../shared/protocol/messages.js';
import { RowStore, type RowUser } from '../../worker/row-store.js';
import { atelierError } from '../support/errors.js';

const INFO: DatasetInfo = {
  name: 'made-up',
  sha256: '1'.repeat(64),
  trainRows: 8,
  testRows: 4,
  imageShape: [1, 3, 1],
  classNames: ['a', 'b'],
};
const ROWS = 12;
const IMAGE_BYTES = 3;

/** The payload of a `rows` message; row r has pixels r, r+1, r+2 and label r mod 2. */
function rowsPayload(rows: readonly number[]): Uint8Array {
  return new Uint8Array([
    ...new Uint8Array(Uint32Array.from(rows).buffer),
    ...rows.flatMap((row) => [row, row + 1, row + 2]),
    ...rows.map((row) => row % 2),
  ]);
}

type Requests = number[][];
/** A run that uses the store, and what it has asked for. */
function useOf(store: RowStore): { user: RowUser; requests: Requests } {
  const requests: Requests = [];
  const user = store.open((bitmap) => requests.push([...new Bitmap(ROWS, bitmap).rows()]));
  return { user, requests };
}

function storeWithout(local: Dataset | null = null): { store: RowStore; user: RowUser; requests: Requests } {
  const store = new RowStore(INFO, local);
  return { store, ...useOf(store) };
}

function localDataset(sha256: string): Dataset {
  return {
    folder: '',
    info: { ...INFO, sha256 },
    images: new Uint8Array(new SharedArrayBuffer(ROWS * IMAGE_BYTES)).fill(9),
    labels: new Uint8Array(new SharedArrayBuffer(ROWS)).fill(1),
  };
}

describe('a row store without the data', () => {
  test('asks for the rows it lacks, and for each of them once', () => {
    const { user, requests } = storeWithout();
    void user.ensure(Uint32Array.of(1, 2, 3));
    void user.ensure(Uint32Array.of(3, 4));
    void user.ensure(Uint32Array.of(2, 4));
    expect(requests).toEqual([[1, 2, 3], [4]]);
  });

  test('resolves when all rows of a request are there, not before', async () => {
    const { user } = storeWithout();
    const events: string[] = [];
    const both = user.ensure(Uint32Array.of(1, 2)).then(() => events.push('both'));
    const one = user.ensure(Uint32Array.of(1)).then(() => events.push('one'));
    user.receive(1, rowsPayload([1]));
    await one;
    events.push('second arrives');
    user.receive(1, rowsPayload([2]));
    await both;
    expect(events).toEqual(['one', 'second arrives', 'both']);
  });

  test('does not ask for rows that have come', async () => {
    const { user, requests } = storeWithout();
    void user.ensure(Uint32Array.of(5));
    user.receive(1, rowsPayload([5]));
    await user.ensure(Uint32Array.of(5));
    expect(requests).toEqual([[5]]);
  });

  test('keeps pixels and labels where the slots look for them', () => {
    const { store, user } = storeWithout();
    void user.ensure(Uint32Array.of(3, 11));
    user.receive(2, rowsPayload([11, 3]));
    const images = new Uint8Array(store.memory.images);
    const labels = new Uint8Array(store.memory.labels);
    expect([...images.subarray(9, 12), ...images.subarray(33, 36)]).toEqual([3, 4, 5, 11, 12, 13]);
    expect([labels[3], labels[11]]).toEqual([1, 1]);
  });

  test.each([
    ['nobody asked for', [4]],
    ['that are no rows of the dataset', [ROWS]],
  ])('refuses rows %s', (_name, rows) => {
    const { user } = storeWithout();
    void user.ensure(Uint32Array.of(1, 2));
    atelierError('protocol', () => user.receive(rows.length, rowsPayload(rows)));
  });

  test('takes a row that comes again', async () => {
    const { user, requests } = storeWithout();
    const both = user.ensure(Uint32Array.of(1, 2));
    user.receive(1, rowsPayload([1]));
    user.receive(1, rowsPayload([1]));
    user.receive(1, rowsPayload([2]));
    await both;
    expect(requests).toEqual([[1, 2]]);
  });

  test.each([
    ['too few bytes', 2, rowsPayload([1])],
    ['too many bytes', 1, rowsPayload([1, 2])],
    ['no bytes', 1, new Uint8Array(0)],
  ])('refuses a message with %s', (_name, count, payload) => {
    const { user } = storeWithout();
    void user.ensure(Uint32Array.of(1, 2));
    atelierError('protocol', () => user.receive(count, payload));
  });
});

describe('two runs of one dataset', () => {
  test('ask each in its own name, and for no row that the other has asked for', async () => {
    const store = new RowStore(INFO, null);
    const [one, two] = [useOf(store), useOf(store)];
    const here = [one.user.ensure(Uint32Array.of(1, 2)), two.user.ensure(Uint32Array.of(2, 3))];
    expect([one.requests, two.requests]).toEqual([[[1, 2]], [[3]]]);
    two.user.receive(1, rowsPayload([3]));
    one.user.receive(2, rowsPayload([1, 2]));
    await Promise.all(here);
  });

  test('take only what they asked for themselves', () => {
    const store = new RowStore(INFO, null);
    const [one, two] = [useOf(store), useOf(store)];
    void one.user.ensure(Uint32Array.of(1));
    atelierError('protocol', () => two.user.receive(1, rowsPayload([1])));
  });

  test('when one is over, the other asks for what has not come', async () => {
    const store = new RowStore(INFO, null);
    const [one, two] = [useOf(store), useOf(store)];
    void one.user.ensure(Uint32Array.of(1, 2, 3));
    const here = two.user.ensure(Uint32Array.of(2, 3, 4));
    one.user.receive(1, rowsPayload([2]));
    one.user.close();
    expect(two.requests).toEqual([[4], [3]]);
    two.user.receive(2, rowsPayload([3, 4]));
    await here;
  });
});

describe('a row store with the data on disk', () => {
  test('asks for nothing', async () => {
    const { user, requests } = storeWithout(localDataset(INFO.sha256));
    await user.ensure(Uint32Array.from({ length: ROWS }, (_, i) => i));
    expect(requests).toEqual([]);
  });

  test('hands out the memory of the dataset, not a copy', () => {
    const local = localDataset(INFO.sha256);
    expect(storeWithout(local).store.memory.images).toBe(local.images.buffer);
  });

  test('does not use other data than the run has', () => {
    const { store, user, requests } = storeWithout(localDataset('2'.repeat(64)));
    void user.ensure(Uint32Array.of(1));
    expect(requests).toEqual([[1]]);
    expect(new Uint8Array(store.memory.images).every((pixel) => pixel === 0)).toBe(true);
  });
});
