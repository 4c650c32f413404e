import { EvaluationSum } from '../coordinator/evaluation-sum.js';
import type { GradientBuffers } from '../coordinator/gradient-buffers.js';
import { RowLedger } from '../coordinator/row-ledger.js';
import type { Verdict } from '../coordinator/trial.js';
import { Bitmap } from '../shared/bitmap.js';
import { AtelierError } from '../shared/errors.js';
import type { GradientSum } from '../shared/gradient-sum.js';
import type {
  CoordinatorToWorker,
  PartialMessage,
  Received,
  RunSpec,
  Work,
  WorkerToCoordinator,
} from '../shared/protocol/messages.js';
import type { RowDigest } from '../shared/row-digest.js';
import { ShardPlan } from '../shared/shards.js';
import { coveringNodes, isTreeNode, TreeSum, type Range } from '../shared/tree.js';

export type RoundMessage = Extract<CoordinatorToWorker, { type: 'round' }>;
export type EvaluatedMessage = Extract<WorkerToCoordinator, { type: 'evaluated' }>;
type StepWork = Extract<Work, { kind: 'step' }>;

/** What is answered for a node that was leased, but for its address. */
export interface NodeAnswer {
  readonly node: Range;
  readonly sum: GradientSum;
  readonly rowDigests: readonly RowDigest[];
  readonly computeMs: number;
  readonly retries: number;
}

/** A largest node of a lease, while it is not complete. */
interface OpenNode {
  readonly node: Range;
  readonly sum: TreeSum<GradientSum>;
  readonly rowDigests: RowDigest[];
  /** Where the parts of the sum are. */
  readonly lent: Set<Float32Array>;
  computeMs: number;
  retries: number;
}

type Phase =
  | { readonly kind: 'idle' }
  | { readonly kind: 'step'; readonly round: number; readonly work: StepWork; nodes: readonly OpenNode[] }
  | {
      readonly kind: 'evaluate';
      readonly round: number;
      readonly evaluation: EvaluationSum;
      /** Leased and not answered. */
      readonly chunks: Set<number>;
    };

/**
 * A relay's part of one trial: what it was leased of the round in work, and the sums of it. A state machine without sockets.
 * It adds along the tree up to the largest nodes of each lease, and checks answers as the trial itself would, so that
 * a worker that computes wrongly is found where it is joined.
 */
export class RelayedTrial {
  private readonly spec: RunSpec;
  private readonly plan: ShardPlan;
  private readonly ledger: RowLedger;
  private readonly evaluationRows: Readonly<Record<'validation' | 'test', number>>;
  private readonly buffers: GradientBuffers;
  private phase: Phase = { kind: 'idle' };

  /**
   * @param bitmaps of training rows, of validation rows
   * @param buffers where partials are held until they are added
   * @throws AtelierError `protocol`
   */
  constructor(spec: RunSpec, trial: number, bitmaps: Uint8Array, buffers: GradientBuffers) {
    const { dataset, shards, batchSize, seed } = spec;
    const bytes = Bitmap.byteLength(dataset.trainRows);
    if (bitmaps.byteLength !== 2 * bytes) {
      throw new AtelierError('protocol', `trial: ${bitmaps.byteLength} bytes of bitmaps, not ${2 * bytes}`);
    }
    const rowsOf = (bitmap: Uint8Array): Uint32Array => new Bitmap(dataset.trainRows, bitmap).rows();
    this.spec = spec;
    this.plan = new ShardPlan(rowsOf(bitmaps.subarray(0, bytes)), shards, batchSize);
    this.ledger = new RowLedger(this.plan, { seed, trial });
    this.evaluationRows = { validation: rowsOf(bitmaps.subarray(bytes)).length, test: dataset.testRows };
    this.buffers = buffers;
  }

  /** Units that the whole round in work has. */
  get units(): number {
    return this.phase.kind === 'evaluate' ? this.phase.evaluation.chunks : this.plan.shards;
  }

  /** The next round. Returns what of the one before was leased and will not be answered. */
  open({ round, work }: RoundMessage): Range[] {
    const left = this.abandon();
    const { spec, evaluationRows } = this;
    if (work.kind === 'step') this.phase = { kind: 'step', round, work, nodes: [] };
    else {
      const classes = spec.dataset.classNames.length;
      const evaluation = new EvaluationSum(evaluationRows[work.split], spec.evaluationRows, classes);
      this.phase = { kind: 'evaluate', round, evaluation, chunks: new Set() };
    }
    return left;
  }

  /**
   * Units of the round are to be answered.
   * @throws AtelierError `protocol` for units that are not there, or leased already, or of another round
   */
  lease(round: number, range: Range): void {
    const { phase } = this;
    if (phase.kind === 'idle' || phase.round !== round)
      throw new AtelierError('protocol', `a lease of round ${round}, which is not here`);
    const end = range.start + range.count;
    if (end > this.units) throw new AtelierError('protocol', `there is no unit ${end - 1}`);
    if (phase.kind === 'step') {
      if (phase.nodes.some(({ node }) => node.start < end && range.start < node.start + node.count))
        throw leasedTwice(range);
      phase.nodes = [...phase.nodes, ...coveringNodes(range, this.plan.shards).map(openNode(this.buffers))];
    } else {
      for (let chunk = range.start; chunk < end; chunk++) {
        if (phase.chunks.has(chunk)) throw leasedTwice(range);
        phase.chunks.add(chunk);
      }
    }
  }

  /**
   * A worker's sum of a node. The answer is there when the last part of a leased node has come; its values are to be released.
   */
  receivePartial({ message, payload }: Received<PartialMessage>): {
    verdict: Verdict;
    answer: NodeAnswer | null;
  } {
    const { phase } = this;
    const { rows, lossSum, correct, rowDigests } = message;
    if (phase.kind !== 'step' || phase.round !== message.round) {
      return { verdict: this.verdictOfOther(message.round), answer: null };
    }
    const part = { start: message.start, count: message.count };
    if (
      payload.byteLength !== this.buffers.payloadBytes(message) ||
      correct > rows ||
      !isTreeNode(part, this.plan.shards) ||
      !this.ledger.isOfStep(phase.work, part, rows, rowDigests)
    ) {
      return { verdict: 'invalid', answer: null };
    }
    const end = part.start + part.count;
    const open = phase.nodes.find(({ node }) => node.start <= part.start && end <= node.start + node.count);
    if (open === undefined || open.sum.overlaps(part)) return { verdict: 'late', answer: null };
    rowDigests.forEach((digest, i) => (open.rowDigests[part.start - open.node.start + i] = digest));
    open.computeMs += message.computeMs;
    open.retries += message.retries;
    const values = this.buffers.valuesOf(message, payload);
    const sum = open.sum.add(part, this.hold({ rows, lossSum, correct, values }, open));
    if (sum === undefined) return { verdict: 'used', answer: null };
    phase.nodes = phase.nodes.filter((other) => other !== open);
    const { node, computeMs, retries } = open;
    return { verdict: 'used', answer: { node, sum, rowDigests: open.rowDigests, computeMs, retries } };
  }

  /** A worker's result of a chunk: `used` when it is to be handed on. */
  receiveChunk({ message, payload }: Received<EvaluatedMessage>): Verdict {
    const { phase } = this;
    const { round, chunk, rows, lossSum } = message;
    if (phase.kind !== 'evaluate' || phase.round !== round) return this.verdictOfOther(round);
    if (payload.byteLength !== this.spec.dataset.classNames.length ** 2 * Uint32Array.BYTES_PER_ELEMENT)
      return 'invalid';
    const confusion = new Uint32Array(payload.slice().buffer);
    if (!phase.evaluation.fits(chunk, { rows, lossSum, confusion })) return 'invalid';
    return phase.chunks.delete(chunk) ? 'used' : 'late';
  }

  private verdictOfOther(round: number): Verdict {
    return this.phase.kind !== 'idle' && round < this.phase.round ? 'late' : 'invalid';
  }

  private abandon(): Range[] {
    const { phase, buffers } = this;
    if (phase.kind === 'idle') return [];
    if (phase.kind === 'evaluate') return [...phase.chunks].map((start) => ({ start, count: 1 }));
    for (const { lent } of phase.nodes) for (const buffer of lent) buffers.release(buffer);
    return phase.nodes.map(({ node }) => node);
  }

  private hold(sum: GradientSum, { lent }: OpenNode): GradientSum {
    const held = this.buffers.hold(sum);
    if (held.values !== null) lent.add(held.values);
    return held;
  }
}

const openNode =
  (buffers: GradientBuffers) =>
  (node: Range): OpenNode => {
    const lent = new Set<Float32Array>();
    const sum = new TreeSum<GradientSum>(node, (left, right) => {
      if (left.values !== null && right.values !== null) lent.delete(right.values);
      return buffers.combine(left, right);
    });
    return { node, sum, rowDigests: [], lent, computeMs: 0, retries: 0 };
  };

const leasedTwice = ({ start, count }: Range): AtelierError =>
  new AtelierError('protocol', `units ${start} to ${start + count - 1} were leased already`);
