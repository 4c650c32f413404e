/**
 * `npm run bench -- kernels`: what the coordinator and the workers do to arrays outside TensorFlow, in GB/s of bytes
 * read and written, against a plain copy of as many bytes, alternating, medians. Each kernel's result is compared
 * with that of a plain loop, bit by bit, before it is timed.
 */
import { Adam } from '../../coordinator/optimizer/adam.js';
import { Sgd } from '../../coordinator/optimizer/sgd.js';
import { invariant } from '../../shared/errors.js';
import { RoundFrames } from '../../coordinator/round-frames.js';
import { addInPlace } from '../../shared/gradient-sum.js';
import {
  bytesOf,
  decodeFrame,
  encodeFrame,
  encodeFrameAround,
  HEAD_ROOM_BYTES,
} from '../../shared/protocol/frame.js';
import { runKernel, VectorMemory } from '../../shared/vector/memory.js';
import { wireOf } from '../../shared/wire.js';
import { gatherRows, gatherRowsPlainly } from '../../worker/gather-rows.js';
import { tensorflowVersion } from '../../worker/tensorflow.js';
import { circumstances, publish } from './results.js';
import { median } from './train-here.js';

const SIZES = [61_706, 898_510, 10_000_000];
const ROUNDS = 15;
/** Long enough for the clock, however small the arrays are. */
const MIN_MS = 10;
const FLOAT = 4;

interface Contest {
  readonly name: string;
  /** Arrays read and written, as often as they are. */
  readonly passes: number;
  readonly run: () => void;
}

const random = (length: number, seed: number): Float32Array => {
  let state = seed;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  });
};

function sameBits(name: string, got: Float32Array, expected: Float32Array): void {
  const [a, b] = [got, expected].map((values) => Buffer.from(bytesOf(values)));
  if (a === undefined || b === undefined || !a.equals(b))
    throw new Error(`${name}: other bits than the plain loop's`);
}

function contests(size: number): Contest[] {
  const memory = new VectorMemory(6, size);
  const place = (values: Float32Array, where = memory): Float32Array => {
    const array = where.array(size);
    array.set(values);
    return array;
  };
  const [first, second] = [random(size, 1), random(size, 2)];
  const parameters = place(first);
  const gradient = place(second);
  const sum = place(first);

  sameBits('add', addInPlace(sum, gradient), addInPlace(first.slice(), second));
  const scaled = place(second);
  const { done } = runKernel('scaleAndAdd', [scaled, parameters], [1 / 93, 2e-4]);
  const [share, strength] = [1 / 93, 2e-4].map(Math.fround) as [number, number];
  const f = Math.fround;
  const expected = second.map((x, i) => f(f(share * x) + f(strength * (first[i] ?? NaN))));
  sameBits('mean', scaled.subarray(0, done), expected.subarray(0, done));
  const ownMemory = new VectorMemory(6, size);
  const optimizers = [
    {
      name: 'Adam',
      passes: 7,
      parameters,
      gradient,
      fast: new Adam(size, {}, memory),
      plain: new Adam(size),
    },
    {
      ...{
        name: 'SGD with momentum',
        passes: 5,
        parameters: place(first, ownMemory),
        gradient: place(second, ownMemory),
      },
      fast: new Sgd(size, { momentum: 0.9 }, ownMemory),
      plain: new Sgd(size, { momentum: 0.9 }),
    },
  ];
  for (const each of optimizers) {
    const reference = first.slice();
    each.fast.update(each.parameters, each.gradient, 1e-3);
    each.plain.update(reference, second, 1e-3);
    sameBits(each.name, each.parameters, reference);
  }
  const room = new SharedArrayBuffer(HEAD_ROOM_BYTES + size * FLOAT);
  const inPlace = new Uint8Array(room, HEAD_ROOM_BYTES);
  const header = { type: 'partial', round: 1 };
  const frame = encodeFrame(header, bytesOf(first));
  sameBits('frames', new Float32Array(decodeFrame(frame).payload.slice().buffer), first);
  const frames = new RoundFrames(size, wireOf(), () => false);
  const round = {
    type: 'round',
    run: 0,
    trial: 0,
    round: 1,
    work: { kind: 'evaluate', split: 'test' },
  } as const;
  const rows = Uint32Array.from({ length: Math.floor((size * FLOAT) / 784) }, (_, i) => (i * 7_919) % 60_000);
  const images = new Uint8Array(new SharedArrayBuffer(60_000 * 784));
  images.forEach((_, i) => (images[i] = (i * 31) % 251));
  const [batch, plainBatch] = [new Uint8Array(rows.length * 784), new Uint8Array(rows.length * 784)];
  gatherRows(images, rows, batch);
  gatherRowsPlainly(images, rows, plainBatch);
  sameBits('row assembly', new Float32Array(batch.buffer), new Float32Array(plainBatch.buffer));
  const copied = new Float32Array(size);
  return [
    { name: 'copy', passes: 2, run: () => copied.set(first) },
    { name: 'reduction (add)', passes: 3, run: () => addInPlace(sum, gradient) },
    {
      name: 'mean, L2 and finiteness',
      passes: 3,
      run: () => runKernel('scaleAndAdd', [scaled, parameters], [1, 2e-4]),
    },
    ...optimizers.map((each) => ({
      name: each.name,
      passes: each.passes,
      run: () => each.fast.update(each.parameters, each.gradient, 1e-3),
    })),
    {
      name: 'encode the broadcast',
      passes: 2,
      run: () => {
        const held = frames.encode(round, first);
        invariant(held.full.byteLength > first.byteLength, 'a frame holds the parameters');
        held.release();
      },
    },
    { name: 'encode a gradient in place', passes: 2, run: () => encodeFrameAround(header, inPlace) },
    { name: 'decode', passes: 2, run: () => decodeFrame(frame) },
    {
      name: 'row assembly',
      passes: 2,
      run: () => gatherRows(images, rows, batch),
    },
  ];
}

/** @returns milliseconds of one run */
function time(run: () => void): number {
  let repeats = 0;
  const startedAt = performance.now();
  let now = startedAt;
  do {
    run();
    repeats++;
    now = performance.now();
  } while (now - startedAt < MIN_MS);
  return (now - startedAt) / repeats;
}

const table = SIZES.map((size) => {
  const field = contests(size);
  const samples = new Map<string, number[]>(field.map(({ name }) => [name, []]));
  for (const { run } of field) time(run);
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name, run } of field) samples.get(name)?.push(time(run));
  }
  const rateOf = ({ name, passes }: Contest): number =>
    (passes * size * FLOAT) / (median(samples.get(name) ?? []) * 1e6);
  return { field, rateOf };
});
const [firstTable] = table;
const names = firstTable?.field.map(({ name }) => name) ?? [];
const lines = names.map((name, i) => {
  const cells = table.map(({ field, rateOf }) => {
    const [copy, contest] = [field[0], field[i]];
    if (copy === undefined || contest === undefined) throw new Error('every size has every contest');
    const rate = rateOf(contest);
    const shown =
      rate > 1_000 ? 'no bytes moved' : `${rate.toFixed(1)} (${(rate / rateOf(copy)).toFixed(2)})`;
    return shown;
  });
  return `| ${name} | ${cells.join(' | ')} |`;
});
publish(
  'kernels',
  `# Kernels, GB/s of bytes read and written

${circumstances(tensorflowVersion())}
- One thread; ${ROUNDS} rounds, alternating, medians. In brackets: over the copy. All bits are those of the plain loops.
- Arrays of float32; row assembly: rows of 784 bytes out of shared memory of 60,000, as many bytes as the array, by TensorFlow's addon.

| | ${SIZES.map((size) => `${size.toLocaleString('en-US')} floats`).join(' | ')} |
|---|${'---|'.repeat(SIZES.length)}
${lines.join('\n')}
`,
);
