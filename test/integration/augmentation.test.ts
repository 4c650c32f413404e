import { afterAll, describe, expect, test } from 'vitest';
import { AUGMENTATIONS } from '../../shared/augmentation.js';
import { PRESETS } from '../../shared/models/presets.js';
import { affineOf, warp } from '../../worker/augmentation/affine.js';
import { augment, drawRows } from '../../worker/augmentation/augment.js';
import { CompiledFunctions } from '../../worker/compiled/compiled-functions.js';
import { ComputePool } from '../../worker/compute-pool.js';
import { EagerFunctions } from '../../worker/eager-functions.js';
import { EagerLock } from '../../worker/eager-lock.js';
import { nodeBackend, tf } from '../../worker/tensorflow.js';
import type { RunMemory } from '../../worker/slot.js';
import { modelFixture, PLACE, relativeError, type ModelFixture } from '../support/model-fixture.js';

const ROWS = 8;
const fixture = await modelFixture(PRESETS.lenet([28, 28, 1], 10));
const size = fixture.model.layout.size;
const plain = fixture.batch(ROWS);
const weights = new SharedArrayBuffer(size * 4);
new Float32Array(weights).set(fixture.weights);

const pools: ComputePool[] = [];
afterAll(() => Promise.all(pools.map((pool) => pool.close())));

let runs = 0;
/** A run whose dataset are the rows of `plain`. */
function runMemory(spec: ModelFixture['spec']): RunMemory {
  const shared = (bytes: Uint8Array): SharedArrayBuffer => {
    const memory = new SharedArrayBuffer(bytes.byteLength);
    new Uint8Array(memory).set(bytes);
    return memory;
  };
  const rows = { images: shared(plain.images), labels: shared(Uint8Array.from(plain.labels)) };
  return { id: ++runs, spec: shared(Buffer.from(JSON.stringify(spec))), rows };
}

test("the warp is TensorFlow's ImageProjectiveTransformV3 with its nearest fill, to 0.01 of a grey level", () => {
  const shape = [28, 28, 1] as const;
  const draws = drawRows(AUGMENTATIONS.strong, shape, PLACE, ROWS);
  const ours = new Float32Array(plain.images.length);
  const transforms = draws.flatMap(({ affine }, row) => {
    const map = affineOf(affine, shape);
    warp(plain.images.subarray(row * 784, (row + 1) * 784), ours.subarray(row * 784), shape, map);
    return [map.xx, map.xy, map.x0, map.yx, map.yy, map.y0, 0, 0];
  });
  const theirs = tf.tidy(() => {
    const { TF_ATTR_TYPE, TF_ATTR_STRING, TF_FLOAT } = nodeBackend().binding;
    const attrs = [
      { name: 'dtype', type: TF_ATTR_TYPE, value: TF_FLOAT },
      { name: 'interpolation', type: TF_ATTR_STRING, value: 'BILINEAR' },
      { name: 'fill_mode', type: TF_ATTR_STRING, value: 'NEAREST' },
    ];
    const images = tf.tensor4d(Float32Array.from(plain.images), [ROWS, 28, 28, 1]);
    const inputs = [images, tf.tensor2d(transforms, [ROWS, 8]), tf.tensor1d([28, 28], 'int32'), tf.scalar(0)];
    return nodeBackend().executeSingleOutput('ImageProjectiveTransformV3', attrs, inputs).dataSync();
  });
  expect(Math.max(...ours.map((value, i) => Math.abs(value - (theirs[i] ?? NaN))))).toBeLessThan(0.01);
});

describe.each(['compiled', 'eager'] as const)('a %s slot', async (step) => {
  const augmented = {
    ...fixture.spec,
    step,
    recipe: { augmentation: AUGMENTATIONS.strong, labelSmoothing: 0.1, pixelMax: 255 },
  };
  const pool = new ComputePool(1);
  pools.push(pool);
  await pool.warmUp();
  const rows = Uint32Array.from({ length: ROWS }, (_, i) => i);
  const version = { version: 'one', values: weights };

  const gradient = async (run: RunMemory, epoch: number): Promise<Float32Array> => {
    const out = new Float32Array(new SharedArrayBuffer(size * 4));
    const place = { ...PLACE, epoch };
    await pool.gradient({ run, weights: version, out, batches: [{ rows, seed: plain.seed, place }] });
    return out;
  };

  test('learns from augmented rows and smoothed labels: the gradient of the rows that augment gives', async () => {
    const functions = await (step === 'eager' ? EagerFunctions : CompiledFunctions).create(
      augmented,
      new EagerLock(EagerLock.memory()),
    );
    const images = augment(plain.images, AUGMENTATIONS.strong, [28, 28, 1], PLACE);
    const expected = new Float32Array(size);
    functions.gradient({ version: 'one', values: fixture.weights }, { ...plain, images }, expected);
    functions.dispose();
    const run = runMemory(augmented);
    expect(await gradient(run, 0)).toEqual(expected);
    expect(await gradient(run, 0)).toEqual(expected);
    expect(relativeError(await gradient(run, 1), expected)).toBeGreaterThan(0.01);
  });

  test('evaluates rows and labels as they are', async () => {
    const evaluate = async (spec: ModelFixture['spec']): Promise<unknown> => {
      const { lossSum, confusion } = await pool.evaluate({ run: runMemory(spec), weights: version, rows });
      return { lossSum, confusion };
    };
    expect(await evaluate(augmented)).toEqual(await evaluate({ ...fixture.spec, step }));
  });
});
