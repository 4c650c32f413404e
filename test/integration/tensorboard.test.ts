import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TensorBoardWriter } from '../../coordinator/tensorboard/event-file.js';
import { makeLayout } from '../../shared/layout.js';
import { hasPeer, runPeer } from '../support/peers.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** Python's TensorBoard imports TensorFlow first. */
const PEER_TIMEOUT_MS = 120_000;
const root = temporaryFolder();
const layout = makeLayout([{ name: 'a/kernel', shape: [2, 2] }], [{ name: 'a/mean', shape: [1] }]);
const weights = Float32Array.of(1, 2, 3, 4, 9);
const record = {
  epoch: 3,
  loss: 0.5,
  accuracy: 0.75,
  valLoss: null,
  valAccuracy: 0.5,
  rows: 100,
  seconds: 4,
  weightsSha256: '0'.repeat(64),
};

test.skipIf(!hasPeer('tensorboard'))(
  "an event file is read by TensorBoard's own loader",
  async () => {
    const folder = join(root, 'peer');
    const writer = new TensorBoardWriter(folder);
    writer.epoch(record, layout, weights);
    writer.epoch({ ...record, epoch: 4, loss: 0.125 }, layout, weights);
    writer.close();
    const found = JSON.parse(await runPeer('read_tensorboard.py', folder)) as {
      scalars: Record<string, [number, number][]>;
      histograms: Record<string, [number, number[][]][]>;
      served: [string, string][];
    };
    expect(found.scalars).toMatchObject({
      'loss/training': [
        [3, 0.5],
        [4, 0.125],
      ],
      'accuracy/validation': [
        [3, 0.5],
        [4, 0.5],
      ],
      'speed/images_per_second': [
        [3, 25],
        [4, 25],
      ],
    });
    expect(found.served).toEqual([
      ['accuracy/training', 'scalars'],
      ['accuracy/validation', 'scalars'],
      ['loss/training', 'scalars'],
      ['speed/images_per_second', 'scalars'],
      ['speed/seconds_per_epoch', 'scalars'],
      ['weights/a/kernel', 'histograms'],
      ['weights/a/mean', 'histograms'],
    ]);
    const [[step, buckets] = [0, []]] = found.histograms['weights/a/kernel'] ?? [];
    expect(step).toBe(3);
    expect(buckets.reduce((sum, bucket) => sum + (bucket.at(-1) ?? 0), 0)).toBe(4);
  },
  PEER_TIMEOUT_MS,
);
