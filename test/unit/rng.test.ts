import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { philox4x32, Purpose, RandomStream, shuffle, type StreamAddress } from '../../shared/rng.js';

const ADDRESS: StreamAddress = { seed: 1, purpose: Purpose.shuffle, trial: 0, epoch: 0, shard: 0 };

const take = (address: StreamAddress, count: number): number[] => {
  const stream = new RandomStream(address);
  return Array.from({ length: count }, () => stream.uint32());
};

describe('Philox4x32-10', () => {
  // Random123's tests/kat_vectors: https://github.com/DEShawResearch/random123
  test.each([
    ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
  ])('encrypts counter %s under key %s as Random123 does', (counter, key, expected) => {
    const words = (text: string): number[] => text.split(' ').map((word) => Number.parseInt(word, 16));
    const out = new Uint32Array(4);
    philox4x32(words(counter) as [number, number, number, number], words(key) as [number, number], out);
    expect([...out]).toEqual(words(expected));
  });
});

describe('a random stream', () => {
  test('is a function of its address', () => {
    expect(take(ADDRESS, 64)).toEqual(take({ ...ADDRESS }, 64));
  });

  test.each([
    ['seed', { seed: 2 }],
    ['seed above 32 bits', { seed: 1 + 2 ** 32 }],
    ['largest seed', { seed: Number.MAX_SAFE_INTEGER }],
    ['purpose', { purpose: Purpose.dropout }],
    ['trial', { trial: 1 }],
    ['trial above 16 bits', { trial: 2 ** 16 }],
    ['epoch', { epoch: 1 }],
    ['shard', { shard: 1 }],
  ])('differs from that of another %s', (_name, other) => {
    const mine = take(ADDRESS, 64);
    const same = take({ ...ADDRESS, ...other }, 64).filter((word, i) => word === mine[i]);
    expect(same).toEqual([]);
  });

  test('does not repeat a block', () => {
    expect(new Set(take(ADDRESS, 4_000)).size).toBeGreaterThan(3_990);
  });

  test('gives uniform numbers in [0, 1) with mean 1/2 and variance 1/12', () => {
    const stream = new RandomStream(ADDRESS);
    const draws = Array.from({ length: 50_000 }, () => stream.uniform());
    const mean = draws.reduce((sum, x) => sum + x, 0) / draws.length;
    const variance = draws.reduce((sum, x) => sum + (x - mean) ** 2, 0) / draws.length;
    expect(draws.every((x) => x >= 0 && x < 1)).toBe(true);
    expect(Math.abs(mean - 1 / 2)).toBeLessThan(0.005);
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(0.002);
  });

  test('gives normal deviates of mean 0 and variance 1', () => {
    const stream = new RandomStream(ADDRESS);
    const draws = Array.from({ length: 50_000 }, () => stream.normal());
    const mean = draws.reduce((sum, x) => sum + x, 0) / draws.length;
    const variance = draws.reduce((sum, x) => sum + (x - mean) ** 2, 0) / draws.length;
    const beyondTwo = draws.filter((x) => Math.abs(x) > 2).length / draws.length;
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(variance - 1)).toBeLessThan(0.03);
    expect(Math.abs(beyondTwo - 0.0455)).toBeLessThan(0.005);
  });

  test('draws below a bound, whatever the bound', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 32 - 1 }), fc.nat(), (bound, seed) => {
        const draw = new RandomStream({ ...ADDRESS, seed }).below(bound);
        return Number.isInteger(draw) && draw >= 0 && draw < bound;
      }),
    );
  });

  test('draws below a bound without bias, even where one more than half of all words is the bound', () => {
    // Reduced modulo without rejection, the lower half of the words would be twice as likely.
    const bound = 2 ** 31 + 1;
    const stream = new RandomStream(ADDRESS);
    const draws = Array.from({ length: 20_000 }, () => stream.below(bound));
    const low = draws.filter((draw) => draw < bound / 2).length / draws.length;
    expect(Math.abs(low - 0.5)).toBeLessThan(0.02);
  });

  test('draws each value below a small bound equally often (chi-squared, p > 0.0001)', () => {
    const bound = 7;
    const counts = new Array<number>(bound).fill(0);
    const stream = new RandomStream(ADDRESS);
    const draws = 70_000;
    for (let i = 0; i < draws; i++) {
      const value = stream.below(bound);
      counts[value] = (counts[value] ?? 0) + 1;
    }
    const expected = draws / bound;
    const chiSquared = counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
    expect(chiSquared).toBeLessThan(27.9);
  });
});

describe('shuffle', () => {
  test('gives a permutation', () => {
    fc.assert(
      fc.property(fc.array(fc.nat()), fc.nat(), (values, seed) => {
        const shuffled = shuffle(Uint32Array.from(values), new RandomStream({ ...ADDRESS, seed }));
        expect([...shuffled].sort((a, b) => a - b)).toEqual([...values].sort((a, b) => a - b));
      }),
    );
  });

  test('gives every order of three values equally often', () => {
    const counts = new Map<string, number>();
    const runs = 12_000;
    for (let seed = 0; seed < runs; seed++) {
      const order = shuffle(Uint32Array.of(0, 1, 2), new RandomStream({ ...ADDRESS, seed })).join('');
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    for (const count of counts.values()) expect(Math.abs(count / runs - 1 / 6)).toBeLessThan(0.02);
  });
});
