import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Exchange } from '../../coordinator/exchange.js';
import {
  EXCHANGE_FOLDER,
  EXCHANGE_ROOT,
  gradientsFile,
  ownerFile,
  roundFile,
  weightsFile,
} from '../../shared/exchange.js';
import { nativeMemory } from '../../shared/native-memory.js';
import { VectorMemory } from '../../shared/vector/memory.js';
import { SharedFolder } from '../../worker/exchange.js';

const WORKER = { worker: 3, epoch: 1 };

describe.skipIf(!existsSync(EXCHANGE_ROOT))('the exchange of one host', () => {
  let host: Exchange;
  const opened: SharedFolder[] = [];
  const join = (): SharedFolder => {
    const guest = SharedFolder.open(host.offer, WORKER);
    if (guest === null) throw new Error('the folder is here');
    opened.push(guest);
    return guest;
  };

  beforeEach(() => {
    const exchange = Exchange.open();
    if (exchange === null) throw new Error('there is memory to share');
    host = exchange;
  });
  afterEach(() => {
    for (const guest of opened.splice(0)) guest.close();
    host.close();
  });

  test('parameters are read as they were left last', () => {
    const guest = join();
    const target = new Uint8Array(new SharedArrayBuffer(12));
    host.leaveWeights(0, 1, 0, Float32Array.of(1, 2, 3));
    host.leaveWeights(0, 2, 0, Float32Array.of(7, 8, 9));
    host.leaveWeights(0, 1, 0, Float32Array.of(4, 5, 6));
    expect(guest.readWeights(0, 1, target)).toBe(true);
    expect([...new Float32Array(target.buffer)]).toEqual([4, 5, 6]);
  });

  test('gradients are read where the worker says that they are', () => {
    const guest = join();
    const first = guest.leaveGradient(Uint8Array.of(1, 2, 3, 4));
    const second = guest.leaveGradient(Uint8Array.of(5, 6, 7, 8));
    const gradients = host.gradientsOf(WORKER);
    const target = new Uint8Array(4);
    gradients.read(second ?? -1, target);
    expect([...target]).toEqual([5, 6, 7, 8]);
    gradients.read(first ?? -1, target);
    expect([...target]).toEqual([1, 2, 3, 4]);
    expect(() => gradients.read((second ?? -1) + 1, target)).toThrow(
      'no gradient lies where the answer says',
    );
    gradients.close();
  });

  test('slots are told where parameters lie, and where there are pages for a gradient', () => {
    const guest = join();
    host.leaveWeights(0, 1, 0, Float32Array.of(1, 2, 3));
    const weights = guest.weightsAt(0, 1, 12);
    expect(weights).toEqual({ path: weightsFile(host.offer.folder, 0, 1), offset: 0, bytes: 12 });
    expect(() => guest.weightsAt(0, 1, 16)).toThrow('fewer parameters than there are');
    expect(guest.weightsAt(9, 1, 12)).toBeUndefined();
    const [first, second] = [guest.takePlace(100_000), guest.takePlace(100_000)];
    expect(first?.offset).toBe(0);
    // Pages of all sizes begin there.
    expect((second?.offset ?? -1) % 65_536).toBe(0);
    expect(statSync(first?.path ?? '').size).toBe((second?.offset ?? -1) + 100_000);
    guest.free(first?.offset ?? -1);
    expect(guest.takePlace(100_000)?.offset).toBe(0);
  });

  test('slots are told where to see which round has come, and what rings', () => {
    const guest = join();
    host.leaveWeights(0, 1, 7, Float32Array.of(1));
    const arrivals = guest.arrivals(0, 1);
    expect(arrivals?.round).toEqual({ path: roundFile(host.offer.folder, 0, 1), offset: 0, bytes: 4 });
    const newest = (): number => readFileSync(arrivals?.round.path ?? '').readInt32LE();
    expect(newest()).toBe(7);
    host.leaveWeights(0, 1, 8, Float32Array.of(1));
    expect(newest()).toBe(8);
    expect(guest.arrivals(0, 2)).toBeUndefined();
    guest.ring();
    expect(readFileSync(arrivals?.bell ?? '').byteLength).toBe(1);
    guest.close();
    expect(existsSync(arrivals?.bell ?? '')).toBe(false);
  });

  test('a run that is over has no parameters', () => {
    const guest = join();
    host.leaveWeights(4, 0, 0, Float32Array.of(1));
    host.forget(4);
    expect(guest.readWeights(4, 0, new Uint8Array(4))).toBe(false);
    expect(guest.arrivals(4, 0)).toBeUndefined();
  });

  test('after its end a worker leaves and reads nothing', () => {
    const guest = join();
    host.leaveWeights(0, 0, 0, Float32Array.of(1));
    guest.close();
    expect(guest.leaveGradient(Uint8Array.of(1))).toBeNull();
    expect(guest.readWeights(0, 0, new Uint8Array(4))).toBe(false);
    expect(guest.weightsAt(0, 0, 4)).toBeUndefined();
    expect(guest.arrivals(0, 0)).toBeUndefined();
    expect(guest.takePlace(4)).toBeNull();
    guest.ring();
  });

  describe.skipIf(nativeMemory === null)('where files can be mapped', () => {
    const SIZE = 20_000;
    const paged = (value: number): Float32Array => {
      const values = new VectorMemory(1, SIZE).pages(SIZE);
      if (values === null) throw new Error('there is room');
      return values.fill(value);
    };
    const readBy = (guest: SharedFolder): Float32Array => {
      const target = new Float32Array(SIZE);
      expect(guest.readWeights(0, 0, new Uint8Array(target.buffer))).toBe(true);
      return target;
    };

    test('parameters with pages of their own are changed for workers when they are changed', () => {
      const guest = join();
      const weights = paged(1);
      host.leaveWeights(0, 0, 0, weights);
      weights[SIZE - 1] = 2;
      weights[0] = 3;
      host.leaveWeights(0, 0, 1, weights);
      expect(readBy(guest)).toEqual(weights);
      expect(readFileSync(roundFile(host.offer.folder, 0, 0)).readInt32LE()).toBe(1);
    });

    test('other parameters do not become those that were left before', () => {
      const guest = join();
      const weights = paged(1);
      host.leaveWeights(0, 0, 0, weights);
      host.leaveWeights(0, 0, 1, new Float32Array(SIZE).fill(5));
      expect(readBy(guest)[0]).toBe(5);
      expect(weights[0]).toBe(1);
      weights[0] = 2;
      expect(readBy(guest)[0]).toBe(5);
      host.leaveWeights(0, 0, 2, weights);
      expect(readBy(guest)).toEqual(weights);
    });

    test('parameters outlive the files that they were left in', () => {
      const weights = paged(4);
      host.leaveWeights(0, 0, 0, weights);
      host.forget(0);
      host.close();
      weights[1] = 5;
      expect([...weights.subarray(0, 3)]).toEqual([4, 5, 4]);
    });

    test('gradients are where the worker writes them, and stay when it has gone', () => {
      const guest = join();
      guest.takePlace(4 * SIZE);
      const place = guest.takePlace(4 * SIZE);
      if (place === null) throw new Error('there is room');
      const gradients = host.gradientsOf(WORKER);
      const values = paged(9);
      expect(gradients.mapOver(place.offset, values)).toBe(true);
      const file = openSync(place.path, 'r+');
      writeSync(file, new Uint8Array(Float32Array.of(7, 8).buffer), 0, 8, place.offset);
      closeSync(file);
      expect([...values.subarray(0, 3)]).toEqual([7, 8, 0]);
      guest.close();
      gradients.close();
      expect([...values.subarray(0, 3)]).toEqual([7, 8, 0]);
      gradients.unmap(values);
      expect(values.every((value) => value === 0)).toBe(true);
    });

    test.each([
      ['beyond the end', 65_536],
      ['not where a page begins', 4],
    ])('what lies %s is not mapped', (_, offset) => {
      const guest = join();
      guest.takePlace(4 * SIZE);
      const gradients = host.gradientsOf(WORKER);
      const values = paged(9);
      expect(gradients.mapOver(offset, values)).toBe(false);
      expect(values.every((value) => value === 9)).toBe(true);
      gradients.close();
    });
  });

  test("a folder with another secret is not taken for the coordinator's", () => {
    expect(SharedFolder.open({ ...host.offer, secret: 'f'.repeat(64) }, WORKER)).toBeNull();
  });

  test('a folder that others may open is not used', () => {
    chmodSync(host.offer.folder, 0o755);
    expect(SharedFolder.open(host.offer, WORKER)).toBeNull();
  });

  test('a link in the place of a file is not followed', () => {
    const guest = join();
    symlinkSync('/etc/hostname', weightsFile(host.offer.folder, 0, 0));
    expect(() => guest.readWeights(0, 0, new Uint8Array(1))).toThrow('ELOOP');
    symlinkSync('/etc/hostname', gradientsFile(host.offer.folder, 9, 1));
    expect(() => host.gradientsOf({ worker: 9, epoch: 1 })).toThrow('has left no file');
  });

  test('nothing is left in memory when it is closed', () => {
    join();
    host.leaveWeights(0, 0, 0, Float32Array.of(1));
    host.close();
    expect(existsSync(host.offer.folder)).toBe(false);
  });

  test('the folder of a coordinator that was killed is removed by the next one', () => {
    const leftover = mkdtempSync(EXCHANGE_FOLDER);
    // No process has this number: it is beyond the largest.
    const owner = { host: hostname(), pid: 2 ** 22 + 1, secret: 'a'.repeat(64) };
    writeFileSync(ownerFile(leftover), JSON.stringify(owner));
    Exchange.open()?.close();
    const wasSwept = !existsSync(leftover);
    rmSync(leftover, { recursive: true, force: true });
    expect(wasSwept).toBe(true);
    expect(existsSync(host.offer.folder)).toBe(true);
  });
});
