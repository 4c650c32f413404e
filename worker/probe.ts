import { createHash } from 'node:crypto';
import { bytesOf } from '../shared/protocol/frame.js';
import type { RunSpec } from '../shared/protocol/messages.js';
import { Purpose, RandomStream } from '../shared/rng.js';
import type { ModelFunctions } from './model-functions.js';

/** Parameters of the probe lie in [-PROBE_SCALE, PROBE_SCALE). */
const PROBE_SCALE = 0.1;

/**
 * The numerics fingerprint: SHA-256 over the gradient and the loss of a fixed probe micro-batch under the run's own
 * model. Parameters, pixels and labels come from a counter-based stream; they are the same everywhere, so two
 * workers differ in it if their processors or libraries round anything of the step differently.
 */
export function fingerprintOf(spec: RunSpec, functions: ModelFunctions): string {
  const { layout, dataset, batchSize, shards } = spec;
  const stream = new RandomStream({ seed: 0, purpose: Purpose.probe, trial: 0, epoch: 0, shard: 0 });
  const values = Float32Array.from({ length: layout.size }, (_, i) =>
    // State is a variance or a mean: positive fits both.
    i < layout.trainable ? (2 * stream.uniform() - 1) * PROBE_SCALE : 0.5 + stream.uniform(),
  );
  const rows = batchSize / shards;
  const pixels = rows * dataset.imageShape.reduce((size, d) => size * d, 1);
  const batch = {
    rows,
    images: Uint8Array.from({ length: pixels }, () => stream.below(256)),
    labels: Int32Array.from({ length: rows }, () => stream.below(dataset.classNames.length)),
    seed: Int32Array.of(1, 2),
  };
  const gradient = new Float32Array(layout.size);
  const { lossSum } = functions.gradient({ version: 'probe', values }, batch, gradient);
  return createHash('sha256')
    .update(bytesOf(gradient))
    .update(bytesOf(Float64Array.of(lossSum)))
    .digest('hex');
}
