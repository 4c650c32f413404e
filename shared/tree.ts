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
  return 2 ** (31 - Math.clz32(count - 1));
}

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
  if (range.count < 1 || range.start < 0 || range.start + range.count > leaves) return false;
  return coveringNodes(range, leaves).length === 1;
}

interface Placement {
  readonly parent: Range;
  readonly sibling: Range;
  readonly isLeft: boolean;
}

const keyOf = (node: Range): string => `${node.start}+${node.count}`;

/**
 * Adds values along the tree below `root`. Values arrive in any order; `combine(left, right)` is called once
 * for each inner node, always with the same operands. What has not met its sibling yet is held; at most
 * one value for each leaf.
 */
export class TreeSum<Value> {
  private readonly root: Range;
  private readonly combine: (left: Value, right: Value) => Value;
  private readonly placements = new Map<string, Placement>();
  private readonly held = new Map<string, Value>();
  private readonly covered: Uint8Array;

  constructor(root: Range, combine: (left: Value, right: Value) => Value) {
    this.root = root;
    this.combine = combine;
    this.covered = new Uint8Array(root.count);
    const place = (parent: Range): void => {
      if (parent.count === 1) return;
      const [left, right] = halves(parent);
      this.placements.set(keyOf(left), { parent, sibling: right, isLeft: true });
      this.placements.set(keyOf(right), { parent, sibling: left, isLeft: false });
      place(left);
      place(right);
    };
    place(root);
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
    invariant(!this.overlaps(node), `node ${keyOf(node)} was added before`);
    invariant(
      this.placements.has(keyOf(node)) || keyOf(node) === keyOf(this.root),
      `${keyOf(node)} is not a node of the tree`,
    );
    this.covered.fill(1, node.start - this.root.start, node.start - this.root.start + node.count);
    let current = node;
    let sum = value;
    for (;;) {
      const placement = this.placements.get(keyOf(current));
      if (placement === undefined) return sum;
      const siblingKey = keyOf(placement.sibling);
      const sibling = this.held.get(siblingKey);
      if (sibling === undefined) {
        this.held.set(keyOf(current), sum);
        return undefined;
      }
      this.held.delete(siblingKey);
      sum = placement.isLeft ? this.combine(sum, sibling) : this.combine(sibling, sum);
      current = placement.parent;
    }
  }
}
