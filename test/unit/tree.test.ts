import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { addInPlace } from '../../shared/gradient-sum.js';
import { coveringNodes, isTreeNode, TreeSum, type Range } from '../../shared/tree.js';

/** All nodes of the tree over `count` leaves: a node splits after the largest power of two below its count. */
function allNodes(start: number, count: number): Range[] {
  if (count === 1) return [{ start, count }];
  let left = 1;
  while (left * 2 < count) left *= 2;
  return [{ start, count }, ...allNodes(start, left), ...allNodes(start + left, count - left)];
}

const copy = (values: Float32Array): Float32Array => values.slice();
const bitsOf = (values: Float32Array): number[] => [...new Uint32Array(values.slice().buffer)];
const leavesOf = ({ start, count }: Range): number[] => Array.from({ length: count }, (_, i) => start + i);

function sumOf(root: Range, parts: readonly (readonly [Range, Float32Array])[]): Float32Array {
  const tree = new TreeSum<Float32Array>(root, addInPlace);
  const totals = parts.map(([node, value]) => tree.add(node, copy(value))).filter((t) => t !== undefined);
  expect(totals).toHaveLength(1);
  return totals[0] as Float32Array;
}

/** A tree's leaves with values that round differently in every order, and a range of it. */
const rangeInTree = fc.integer({ min: 1, max: 40 }).chain((leaves) =>
  fc.integer({ min: 0, max: leaves - 1 }).chain((start) =>
    fc.record({
      leaves: fc.constant(leaves),
      range: fc.record({ start: fc.constant(start), count: fc.integer({ min: 1, max: leaves - start }) }),
    }),
  ),
);

const float = fc.float({
  noNaN: true,
  noDefaultInfinity: true,
  min: Math.fround(-1e6),
  max: Math.fround(1e6),
});
const cluster = fc.array(fc.tuple(float, float, float), { minLength: 1, maxLength: 33 }).chain((values) => {
  const n = values.length;
  const permutation = fc.shuffledSubarray(
    values.map((_, i) => i),
    { minLength: n, maxLength: n },
  );
  return fc.record({
    values: fc.constant(values.map((value) => Float32Array.from(value))),
    /** Which leaves begin a part of the partition. */
    cuts: fc.array(fc.boolean(), { minLength: n, maxLength: n }),
    leafOrder: permutation,
    nodeOrder: fc.array(fc.nat(), { minLength: n, maxLength: n }),
  });
});

describe('the reduction tree', () => {
  test('gives the same bits for any partition, whoever adds and whatever comes first', () => {
    fc.assert(
      fc.property(cluster, ({ values, cuts, leafOrder, nodeOrder }) => {
        const n = values.length;
        const root = { start: 0, count: n };
        const leaf = (i: number): readonly [Range, Float32Array] => [
          { start: i, count: 1 },
          values[i] as Float32Array,
        ];
        const oneByOne = sumOf(root, leafOrder.map(leaf));

        const starts = leavesOf(root).filter((i) => i === 0 || cuts[i] === true);
        const ranges = starts.map((start, i) => ({ start, count: (starts[i + 1] ?? n) - start }));
        const nodes = ranges.flatMap((range) => coveringNodes(range, n));
        const parts = nodes.map((node) => [node, sumOf(node, leavesOf(node).map(leaf))] as const);
        const arrived = parts
          .map((part, i) => ({ part, key: nodeOrder[i] ?? 0 }))
          .sort((a, b) => a.key - b.key)
          .map(({ part }) => part);

        expect(bitsOf(sumOf(root, arrived))).toEqual(bitsOf(oneByOne));
      }),
      { numRuns: 300 },
    );
  });

  test('adds in tree order, not from left to right', () => {
    const values = [1e8, 1, -1e8, 1].map((value) => Float32Array.of(value));
    const parts = values.map((value, i) => [{ start: i, count: 1 }, value] as const);
    // (1e8 + 1) + (-1e8 + 1): the ones are lost on both sides; from left to right one of them is not.
    expect([...sumOf({ start: 0, count: 4 }, parts)]).toEqual([0]);
  });

  test('gives its sum with the last part and not before', () => {
    const tree = new TreeSum<number>({ start: 0, count: 3 }, (a, b) => a + b);
    expect(tree.add({ start: 2, count: 1 }, 4)).toBeUndefined();
    expect(tree.add({ start: 0, count: 1 }, 1)).toBeUndefined();
    expect(tree.add({ start: 1, count: 1 }, 2)).toBe(7);
  });

  test('refuses a node of which a leaf was added before', () => {
    const tree = new TreeSum<number>({ start: 0, count: 4 }, (a, b) => a + b);
    tree.add({ start: 1, count: 1 }, 1);
    expect(tree.overlaps({ start: 0, count: 2 })).toBe(true);
    expect(tree.overlaps({ start: 2, count: 2 })).toBe(false);
    expect(() => tree.add({ start: 0, count: 2 }, 1)).toThrow('was added before');
  });

  test('refuses a range that is not one of its nodes', () => {
    const tree = new TreeSum<number>({ start: 0, count: 4 }, (a, b) => a + b);
    expect(() => tree.add({ start: 1, count: 2 }, 1)).toThrow('not a node');
  });
});

describe('coveringNodes', () => {
  test('covers every leaf of the range exactly once, left to right, with nodes of the tree', () => {
    fc.assert(
      fc.property(rangeInTree, ({ leaves, range }) => {
        const nodes = coveringNodes(range, leaves);
        expect(nodes.flatMap(leavesOf)).toEqual(leavesOf(range));
        expect(allNodes(0, leaves)).toEqual(expect.arrayContaining(nodes));
      }),
    );
  });

  test('uses as few nodes as there can be', () => {
    fc.assert(
      fc.property(rangeInTree, ({ leaves, range }) => {
        // fewest[i]: nodes needed for the leaves from range.start up to i.
        const fewest = new Map<number, number>([[range.start, 0]]);
        for (const end of leavesOf(range).map((leaf) => leaf + 1)) {
          const ways = allNodes(0, leaves)
            .filter(({ start, count }) => start + count === end && fewest.has(start))
            .map(({ start }) => (fewest.get(start) ?? Infinity) + 1);
          fewest.set(end, Math.min(...ways));
        }
        expect(coveringNodes(range, leaves)).toHaveLength(fewest.get(range.start + range.count) ?? -1);
      }),
    );
  });

  test('covers nothing with nothing', () => {
    expect(coveringNodes({ start: 3, count: 0 }, 8)).toEqual([]);
  });
});

describe('isTreeNode', () => {
  test('knows the nodes of the tree from all other ranges', () => {
    for (let leaves = 1; leaves <= 12; leaves++) {
      const nodes = new Set(allNodes(0, leaves).map(({ start, count }) => `${start}+${count}`));
      for (let start = -1; start <= leaves; start++) {
        for (let count = 0; count <= leaves + 1; count++) {
          expect(isTreeNode({ start, count }, leaves)).toBe(nodes.has(`${start}+${count}`));
        }
      }
    }
  });
});
