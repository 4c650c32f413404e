import { invariant } from './errors.js';

/** `count` consecutive leaves from `start`. */
export interface Range {
  readonly start: number;
  readonly count: number;
}

/**
 * The fixed binary reduction tree. A node over `count` > 1 leaves splits after its largest power of two of
 * leaves that is smaller than `count`. The shape depends on the number of leaves alone, so a sum along the
 * tree adds in the same order whoever does the additions.
 */
export function leftCount(count: number): number {
  return 1 << (31 - Math.clz32(count - 1));
}

export const isSameRange = (a: Range, b: Range): boolean => a.start === b.start && a.count === b.count;

/** The fewest tree nodes that together cover `range` of a tree over `leaves` leaves, left to right. */
export function coveringNodes(range: Range, leaves: number): Range[] {
  const nodes: Range[] = [];
  const end = range.start + range.count;
  const visit = (start: number, count: number): void => {
    if (start >= end || start + count <= range.start) return;
    if (start >= range.start && start + count <= end) {
      nodes.push({ start, count });
      return;
    }
    const left = leftCount(count);
    visit(start, left);
    visit(start + left, count - left);
  };
  if (range.count > 0) visit(0, leaves);
  return nodes;
}

/** The two halves of a node over more than one leaf. */
function halves({ start, count }: Range): [Range, Range] {
  const left = leftCount(count);
  return [
    { start, count: left },
    { start: start + left, count: count - left },
  ];
}

/**
 * A node as nodes below it for `slots` to compute at the same time: as few as possible that take no longer than single
 * leaves would.
 */
export function partsForSlots(node: Range, slots: number): Range[] {
  const partsOf = (limit: number, part: Range): Range[] =>
    part.count <= limit ? [part] : halves(part).flatMap((half) => partsOf(limit, half));
  let parts = partsOf(1, node);
  let shortest = Math.ceil(node.count / slots);
  for (let limit = 2; limit < 2 * node.count; limit *= 2) {
    const fewer = partsOf(limit, node);
    const largest = Math.max(...fewer.map(({ count }) => count));
    const time = Math.ceil(fewer.length / slots) * largest;
    if (time <= shortest) [parts, shortest] = [fewer, time];
  }
  return parts;
}

/** Is `range` one node of the tree over `leaves` leaves? */
export function isTreeNode(range: Range, leaves: number): boolean {
  let [start, count] = [0, leaves];
  while (count > range.count && range.count > 0) {
    const left = leftCount(count);
    if (range.start < start + left) count = left;
    else [start, count] = [start + left, count - left];
  }
  return start === range.start && count === range.count;
}

/**
 * Adds values along the tree below `root`. Values arrive in any order; `combine(left, right)` is called once
 * for each inner node, always with the same operands. What has not met its sibling yet is held; at most
 * one value for each leaf.
 */
export class TreeSum<Value> {
  private readonly root: Range;
  private readonly combine: (left: Value, right: Value) => Value;
  /** The half that came first, of each inner node that waits for the other one: by where its right half begins, which tells nodes apart. */
  private readonly held = new Map<number, Value>();
  private readonly covered: Uint8Array;

  constructor(root: Range, combine: (left: Value, right: Value) => Value) {
    this.root = root;
    this.combine = combine;
    this.covered = new Uint8Array(root.count);
  }

  /** Has any leaf of `node` been counted already? */
  overlaps(node: Range): boolean {
    for (let leaf = node.start; leaf < node.start + node.count; leaf++) {
      if (this.covered[leaf - this.root.start] === 1) return true;
    }
    return false;
  }

  /**
   * Adds the value of one node. `node` must be a node of this tree and overlap nothing added before.
   * @returns the sum of the whole tree once its last part has arrived, else undefined.
   */
  add(node: Range, value: Value): Value | undefined {
    const { root } = this;
    invariant(!this.overlaps(node), 'a leaf of the node was added before');
    invariant(
      isTreeNode({ start: node.start - root.start, count: node.count }, root.count),
      'this is not a node of the tree',
    );
    this.covered.fill(1, node.start - root.start, node.start - root.start + node.count);
    return this.addBelow(root.start, root.count, node, value);
  }

  /** @returns the sum of the node over `count` leaves from `start`, to which `node` belongs, if it is complete now */
  private addBelow(start: number, count: number, node: Range, value: Value): Value | undefined {
    if (count === node.count) return value;
    const left = leftCount(count);
    const middle = start + left;
    const isLeft = node.start < middle;
    const half = isLeft
      ? this.addBelow(start, left, node, value)
      : this.addBelow(middle, count - left, node, value);
    if (half === undefined) return undefined;
    const other = this.held.get(middle);
    if (other === undefined) {
      this.held.set(middle, half);
      return undefined;
    }
    this.held.delete(middle);
    return isLeft ? this.combine(half, other) : this.combine(other, half);
  }
}
