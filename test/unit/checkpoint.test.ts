import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint, sha256Of } from '../../coordinator/checkpoint.js';
import { CheckpointStore } from '../../coordinator/checkpoint-store.js';
import { atelierRejection } from '../support/errors.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { madeUpCheckpoint } from '../support/trial-state.js';

const folder = temporaryFolder();
const bytes = Uint8Array.from(encodeCheckpoint(madeUpCheckpoint()));
const whole = Uint8Array.from([...bytes, ...(await sha256Of(bytes))]);

describe('a checkpoint file', () => {
  test('comes out as it went in, to the bit', async () => {
    expect(await decodeCheckpoint(whole)).toEqual(madeUpCheckpoint());
  });

  test('that is cut off anywhere is refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), async (length) => {
        const { message } = await atelierRejection('data', decodeCheckpoint(whole.slice(0, length)));
        expect(message).toContain('damaged checkpoint');
      }),
    );
  });

  test('with any bit flipped is refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.nat(7), async (at, bit) => {
        const flipped = whole.slice();
        flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
        await atelierRejection('data', decodeCheckpoint(flipped));
      }),
    );
  });

  /** The file with some bytes replaced, under a hash that is right. */
  const forged = (offset: number, value: number): Uint8Array<ArrayBuffer> => {
    const copy = Buffer.from(bytes);
    copy.writeUInt32LE(value, offset);
    return Uint8Array.from([...copy, ...createHash('sha256').update(copy).digest()]);
  };

  test('of another version is refused, and both versions are named', async () => {
    const { message } = await atelierRejection('data', decodeCheckpoint(forged(8, 2)));
    expect(message).toContain('it has version 2, this program reads 1');
  });

  test.each([0, 1, 0xffff_ffff])('that says its header has %d bytes is refused', async (length) => {
    await atelierRejection('data', decodeCheckpoint(forged(12, length)));
  });
});

describe('a checkpoint store', () => {
  let made = 0;
  const home = (): string => join(folder, `store-${made++}`);
  const { identity } = madeUpCheckpoint();

  /** Writes one after the other; returns the errors. */
  async function write(
    store: CheckpointStore,
    numbers: readonly number[],
    best: readonly number[] = [],
  ): Promise<unknown[]> {
    const errors: unknown[] = [];
    for (const number of numbers) {
      store.write(number, madeUpCheckpoint(number), {
        best: best.includes(number),
        onWritten: () => undefined,
        onError: (cause) => errors.push(cause),
      });
      await store.settled();
    }
    return errors;
  }
  const name = (number: number): string => `${String(number).padStart(10, '0')}.checkpoint`;

  test('keeps the newest and the best, and no temporary files', async () => {
    const path = home();
    const errors = await write(new CheckpointStore(path, 2), [1, 2, 3, 10], [1, 2]);
    expect(errors).toEqual([]);
    expect(readdirSync(path).sort()).toEqual([name(3), name(10), 'best.checkpoint']);
    const best = await decodeCheckpoint(Uint8Array.from(readFileSync(join(path, 'best.checkpoint'))));
    expect(best).toEqual(madeUpCheckpoint(2));
  });

  test('counts those that were there before among the ones it keeps', async () => {
    const path = home();
    await write(new CheckpointStore(path, 3), [1, 2, 3]);
    await write(new CheckpointStore(path, 2), [4]);
    expect(readdirSync(path).sort()).toEqual([name(3), name(4)]);
  });

  test('finds the newest', async () => {
    const path = home();
    await write(new CheckpointStore(path, 5), [1, 9, 10]);
    const found = await new CheckpointStore(path, 5).newest(identity, () => expect.unreachable());
    expect(found).toEqual({ checkpoint: madeUpCheckpoint(10), file: join(path, name(10)) });
  });

  test('finds the newest that fits', async () => {
    const path = home();
    await write(new CheckpointStore(path, 5), [1, 2, 3]);
    const fits = ({ optimizer }: { optimizer: Record<string, number> }): boolean => optimizer['step'] === 19;
    const found = await new CheckpointStore(path, 5).newest(identity, () => undefined, fits);
    expect(found?.checkpoint).toEqual(madeUpCheckpoint(2));
  });

  test('removes what a killed process left half-written, and nothing else', async () => {
    const path = home();
    await write(new CheckpointStore(path, 5), [1]);
    writeFileSync(join(path, `${name(2)}.4711.tmp`), 'half');
    await new CheckpointStore(path, 5).removeLeftovers();
    expect(readdirSync(path)).toEqual([name(1)]);
  });

  test('falls back to the one before a damaged one, and says which and why', async () => {
    const path = home();
    await write(new CheckpointStore(path, 5), [1, 2, 3]);
    truncateSync(join(path, name(3)), 100);
    writeFileSync(join(path, name(2)), '');
    const damaged: string[] = [];
    const found = await new CheckpointStore(path, 5).newest(identity, (file, why) =>
      damaged.push(`${file}: ${why}`),
    );
    expect(found?.checkpoint).toEqual(madeUpCheckpoint(1));
    expect(damaged).toEqual([
      expect.stringMatching(/0003\.checkpoint: damaged checkpoint/),
      expect.stringMatching(/0002\.checkpoint: damaged checkpoint: it is cut off/),
    ]);
  });

  test('refuses one of another identity', async () => {
    const path = home();
    await write(new CheckpointStore(path, 5), [1]);
    const newest = new CheckpointStore(path, 5).newest('another', () => expect.unreachable());
    const { message } = await atelierRejection('refused', newest);
    expect(message).toContain('another config, model or dataset');
  });

  test('that is empty or not there has none', async () => {
    expect(await new CheckpointStore(home(), 5).newest(identity, () => undefined)).toBeUndefined();
  });

  test('that cannot write says so and leaves the earlier ones as they are', async () => {
    const path = home();
    const store = new CheckpointStore(path, 1);
    await write(store, [1]);
    // A file cannot be renamed over a folder.
    mkdirSync(join(path, name(2), 'x'), { recursive: true });
    const errors = await write(store, [2]);
    expect(errors).toHaveLength(1);
    expect(readdirSync(path).sort()).toEqual([name(1), name(2)]);
    expect((await store.newest(identity, () => undefined))?.checkpoint).toEqual(madeUpCheckpoint(1));
    expect(await write(store, [3])).toEqual([]);
  });

  test('never holds the training up: of those asked for while it writes, the newest is written', async () => {
    const path = home();
    const store = new CheckpointStore(path, 10);
    const written: string[] = [];
    for (const number of [1, 2, 3, 4]) {
      store.write(number, madeUpCheckpoint(number), {
        best: number === 2,
        onWritten: ({ file }) => written.push(file),
        onError: () => expect.unreachable(),
      });
    }
    await store.settled();
    expect(written).toEqual([name(1), name(4)]);
    expect(readdirSync(path).sort()).toEqual([name(1), name(4), 'best.checkpoint']);
  });
});
