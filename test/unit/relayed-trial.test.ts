import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GradientBuffers } from '../../coordinator/gradient-buffers.js';
import { RelayedTrial, type NodeAnswer, type RoundMessage } from '../../relay/relayed-trial.js';
import { Bitmap } from '../../shared/bitmap.js';
import { addGradientSums, type GradientSum } from '../../shared/gradient-sum.js';
import { bytesOf } from '../../shared/protocol/frame.js';
import type { PartialMessage, RunSpec } from '../../shared/protocol/messages.js';
import { rowDigest } from '../../shared/row-digest.js';
import { ShardPlan } from '../../shared/shards.js';
import { coveringNodes, TreeSum, type Range } from '../../shared/tree.js';
import { VectorMemory } from '../../shared/vector/memory.js';
import { atelierError } from '../support/errors.js';

const ROWS = 50;
const VALIDATION = 7;
const SHARDS = 5;
const BATCH = 20;
const SIZE = 6;
const SEED = 3;
const spec: RunSpec = {
  ...{ seed: SEED, batchSize: BATCH, shards: SHARDS, evaluationRows: 3, step: 'auto' },
  recipe: { augmentation: null, labelSmoothing: 0, pixelMax: 255 },
  dataset: {
    ...{ name: 'toy', sha256: 'a'.repeat(64), trainRows: ROWS, testRows: 4 },
    ...{ imageShape: [1, 1, 1], classNames: ['a', 'b'] },
  },
  layout: { tensors: [], trainable: SIZE, size: SIZE },
  topology: {},
};
const training = Uint32Array.from({ length: ROWS - VALIDATION }, (_, i) => i);
const validation = Uint32Array.from({ length: VALIDATION }, (_, i) => ROWS - VALIDATION + i);
const bitmaps = Buffer.concat([Bitmap.of(ROWS, training).bytes, Bitmap.of(ROWS, validation).bytes]);
const plan = new ShardPlan(training, SHARDS, BATCH);
const STEP = { kind: 'step', epoch: 1, stepInEpoch: 0 } as const;

/** Counts the buffers that are held. */
class CountedBuffers extends GradientBuffers {
  holding = 0;

  override hold(sum: GradientSum): GradientSum {
    if (sum.values !== null) this.holding++;
    return super.hold(sum);
  }

  override release(values: Float32Array): void {
    this.holding--;
    super.release(values);
  }

  override readonly combine = (left: GradientSum, right: GradientSum): GradientSum => {
    this.holding--;
    return addGradientSums(left, right);
  };
}

function makeTrial(): { trial: RelayedTrial; buffers: CountedBuffers } {
  const buffers = new CountedBuffers(new VectorMemory(SHARDS, SIZE), { size: SIZE });
  return { trial: new RelayedTrial(spec, 0, bitmaps, buffers), buffers };
}

const roundOf = (round: number, work: RoundMessage['work'] = STEP): RoundMessage => ({
  type: 'round',
  ...{ run: 0, trial: 0, round, work, left: false },
});

/** A gradient sum of one shard whose additions do not commute with their order. */
const leafOf = (shard: number): GradientSum => ({
  rows: BATCH / SHARDS,
  lossSum: 0.1 * 3 ** shard,
  correct: shard % 3,
  values: Float32Array.from({ length: SIZE }, (_, i) => Math.fround(1 / 3 + i) * 10 ** ((shard * 7) % 5)),
});

/** What a worker would say of a node that it holds alone. */
function sumOf(node: Range): GradientSum {
  const tree = new TreeSum<GradientSum>(node, addGradientSums);
  let sum: GradientSum | undefined;
  for (let shard = node.start; shard < node.start + node.count; shard++)
    sum = tree.add({ start: shard, count: 1 }, leafOf(shard)) ?? sum;
  if (sum === undefined) throw new Error('the node is complete');
  return sum;
}

function partialOf(round: number, node: Range): { message: PartialMessage; payload: Uint8Array } {
  const { values, ...figures } = sumOf(node);
  const rowDigests = Array.from({ length: node.count }, (_, i) =>
    rowDigest(plan.epochOrder(SEED, 0, STEP.epoch, node.start + i).subarray(0, BATCH / SHARDS)),
  );
  const message: PartialMessage = {
    type: 'partial',
    ...{ run: 0, trial: 0, round, ...node, ...figures },
    ...{ rowDigests, leftAt: null, computeMs: node.count, retries: 1 },
  };
  return { message, payload: values === null ? new Uint8Array(0) : bytesOf(values) };
}

describe('a trial at a relay', () => {
  test('adds what its workers answer to the bits that one worker would have sent, whatever the order', () => {
    const ranges = fc
      .tuple(fc.nat(SHARDS - 1), fc.integer({ min: 1, max: SHARDS }))
      .map(([start, count]) => ({ start, count: Math.min(count, SHARDS - start) }));
    fc.assert(
      fc.property(ranges, fc.array(fc.nat(1_000)), (lease, order) => {
        const { trial, buffers } = makeTrial();
        trial.open(roundOf(7));
        trial.lease(7, lease);
        const units = Array.from({ length: lease.count }, (_, i) => lease.start + i);
        units.sort((a, b) => (order[a] ?? a) - (order[b] ?? b));
        const answers: NodeAnswer[] = [];
        for (const start of units) {
          const { verdict, answer } = trial.receivePartial(partialOf(7, { start, count: 1 }));
          expect(verdict).toBe('used');
          if (answer !== null) answers.push(answer);
        }
        answers.sort((a, b) => a.node.start - b.node.start);
        const nodes = coveringNodes(lease, SHARDS);
        expect(answers.map(({ node }) => node)).toEqual(nodes);
        for (const { node, sum, rowDigests, computeMs, retries } of answers) {
          expect(sum).toEqual(sumOf(node));
          expect(rowDigests).toEqual(partialOf(7, node).message.rowDigests);
          expect({ computeMs, retries }).toEqual({ computeMs: node.count, retries: node.count });
        }
        // What is answered is the answer's; nothing else is held.
        expect(buffers.holding).toBe(answers.length);
      }),
    );
  });

  test('takes the first answer for a part and drops the others', () => {
    const { trial } = makeTrial();
    trial.open(roundOf(1));
    trial.lease(1, { start: 0, count: 4 });
    expect(trial.receivePartial(partialOf(1, { start: 0, count: 2 })).verdict).toBe('used');
    expect(trial.receivePartial(partialOf(1, { start: 1, count: 1 })).verdict).toBe('late');
    expect(trial.receivePartial(partialOf(1, { start: 2, count: 2 })).answer).not.toBeNull();
    expect(trial.receivePartial(partialOf(1, { start: 2, count: 2 })).verdict).toBe('late');
  });

  test('says what of a round it will not answer when the next one comes, and frees its memory', () => {
    const { trial, buffers } = makeTrial();
    expect(trial.open(roundOf(1))).toEqual([]);
    trial.lease(1, { start: 0, count: 3 });
    trial.receivePartial(partialOf(1, { start: 0, count: 1 }));
    trial.receivePartial(partialOf(1, { start: 2, count: 1 })).answer?.sum.values?.fill(0);
    expect(trial.open(roundOf(2))).toEqual([{ start: 0, count: 2 }]);
    expect(buffers.holding).toBe(1);
    expect(trial.receivePartial(partialOf(1, { start: 1, count: 1 })).verdict).toBe('late');
    expect(trial.receivePartial(partialOf(3, { start: 1, count: 1 })).verdict).toBe('invalid');
  });

  test('can be leased again what it has answered', () => {
    const { trial } = makeTrial();
    trial.open(roundOf(1));
    for (let times = 0; times < 2; times++) {
      trial.lease(1, { start: 4, count: 1 });
      expect(trial.receivePartial(partialOf(1, { start: 4, count: 1 })).answer?.sum).toEqual(leafOf(4));
    }
  });

  test.each([
    ['other rows', { rowDigests: [[1, 2] as [number, number]] }],
    ['fewer rows', { rows: 3 }],
    ['more right ones than rows', { correct: 5 }],
    ['no node of the tree', { start: 1, count: 2 }],
  ])('finds an answer with %s invalid, and changes nothing', (_what, change) => {
    const { trial, buffers } = makeTrial();
    trial.open(roundOf(1));
    trial.lease(1, { start: 0, count: 1 });
    const { message, payload } = partialOf(1, { start: 0, count: 1 });
    expect(trial.receivePartial({ message: { ...message, ...change }, payload }).verdict).toBe('invalid');
    expect(trial.receivePartial({ message, payload: payload.subarray(4) }).verdict).toBe('invalid');
    expect(buffers.holding).toBe(0);
    expect(trial.receivePartial({ message, payload }).verdict).toBe('used');
  });

  test('hands on each leased chunk of an evaluation once', () => {
    const { trial } = makeTrial();
    trial.open(roundOf(5, { kind: 'evaluate', split: 'validation' }));
    expect(trial.units).toBe(3);
    trial.lease(5, { start: 1, count: 2 });
    const chunk = (number: number, rows: number): ReturnType<RelayedTrial['receiveChunk']> => {
      const message = { type: 'evaluated', run: 0, trial: 0, round: 5, chunk: number, rows } as const;
      const payload = bytesOf(Uint32Array.of(rows, 0, 0, 0));
      return trial.receiveChunk({ message: { ...message, lossSum: 1, computeMs: 1, retries: 0 }, payload });
    };
    expect(chunk(2, 3)).toBe('invalid');
    expect(chunk(2, 1)).toBe('used');
    expect(chunk(2, 1)).toBe('late');
    expect(chunk(0, 3)).toBe('late');
    expect(trial.open(roundOf(6))).toEqual([{ start: 1, count: 1 }]);
  });

  test('refuses leases that cannot be right', () => {
    const { trial } = makeTrial();
    const refusal = (round: number, start: number, count: number): string =>
      atelierError('protocol', () => trial.lease(round, { start, count })).message;
    expect(refusal(1, 0, 1)).toContain('round 1');
    trial.open(roundOf(1));
    expect(refusal(2, 0, 1)).toContain('round 2');
    expect(refusal(1, 4, 2)).toContain('no unit 5');
    trial.lease(1, { start: 0, count: 3 });
    expect(refusal(1, 1, 1)).toContain('already');
  });
});
