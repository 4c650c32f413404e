import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { crc32c, maskedCrc32c } from '../../coordinator/tensorboard/crc32c.js';
import { TensorBoardWriter } from '../../coordinator/tensorboard/event-file.js';
import { histogramOf } from '../../coordinator/tensorboard/histogram.js';
import { int64Field } from '../../coordinator/tensorboard/protobuf.js';
import { temporaryFolder } from '../support/temporary-folder.js';

test('CRC-32C has the check values of RFC 3720, B.4', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
});

test('whole numbers are varints, beyond 32 bits too', () => {
  expect([...int64Field(2, 300)]).toEqual([0x10, 0xac, 0x02]);
  expect([...int64Field(1, 2 ** 40)]).toEqual([0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]);
});

describe('a histogram', () => {
  test('counts every finite value once, in buckets of equal width', () => {
    const values = Float32Array.from({ length: 300 }, (_, i) => i / 10);
    const { min, max, count, limits, counts } = histogramOf(
      Float32Array.from([...values, Number.NaN, Infinity]),
    );
    expect([min, count, limits.length]).toEqual([0, 300, 30]);
    expect(max).toBeCloseTo(29.9, 5);
    expect(limits.at(-1)).toBe(max);
    expect(counts.reduce((sum, n) => sum + n, 0)).toBe(300);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  test('of equal values has one bucket, of none no count', () => {
    expect(histogramOf(Float32Array.of(2, 2))).toMatchObject({ min: 2, max: 2, limits: [2], counts: [2] });
    expect(histogramOf(new Float32Array())).toMatchObject({ count: 0, counts: [0] });
  });
});

/** The payloads of a TFRecord file; throws when a checksum is wrong. */
function records(path: string): Buffer[] {
  const bytes = readFileSync(path);
  const found: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    const event = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc32c(bytes.subarray(at, at + 8)));
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc32c(event));
    found.push(event);
    at += 16 + length;
  }
  return found;
}

describe('an event file', () => {
  const root = temporaryFolder();
  const weights = Float32Array.of(1, 2, 3, 4, 9);

  test('holds each record when the call returns, with its checksums', () => {
    const writer = new TensorBoardWriter(join(root, 'live'), () => 1_700_000_000_000);
    expect(records(writer.path)).toHaveLength(1);
    expect(records(writer.path)[0]?.toString('latin1')).toContain('brain.Event:2');
    writer.scalar('loss', 1, 0.25);
    expect(records(writer.path)).toHaveLength(2);
    writer.histogram('weights', 1, weights);
    expect(records(writer.path)).toHaveLength(3);
    writer.close();
  });

  test('of a resumed run comes after those that are there', () => {
    const folder = join(root, 'resumed');
    for (const time of [999_999_999_999, 1_700_000_000_000])
      new TensorBoardWriter(folder, () => time).close();
    const names = readdirSync(folder).sort();
    expect(names).toHaveLength(2);
    expect(names[0]).toMatch(/^events\.out\.tfevents\.0999999999999\./);
  });
});
