import { expect, test } from 'vitest';
import { RoundFrames } from '../../coordinator/round-frames.js';
import { float32Of } from '../../shared/protocol/frame.js';
import { decodeFromCoordinator } from '../../shared/protocol/messages.js';

type Round = Parameters<RoundFrames['encode']>[0];
const round = (number: number): Round => ({
  type: 'round',
  run: 0,
  trial: 0,
  round: number,
  work: { kind: 'step', epoch: 0, stepInEpoch: number },
});
const weights = (value: number): Float32Array => new Float32Array(5).fill(value);
const contents = (bytes: Buffer): unknown => {
  const { message, payload } = decodeFromCoordinator(bytes);
  return { message, values: [...float32Of(payload)] };
};

test('a frame keeps its contents for as long as anybody holds it', () => {
  const frames = new RoundFrames(20);
  const first = frames.encode(round(1), weights(1));
  first.hold();
  first.release();
  const second = frames.encode(round(2), weights(2));
  expect(contents(first.bytes)).toEqual({ message: round(1), values: [1, 1, 1, 1, 1] });
  expect(contents(second.bytes)).toEqual({ message: round(2), values: [2, 2, 2, 2, 2] });
});

test('the memory of a frame that everybody let go is used again', () => {
  const frames = new RoundFrames(20);
  const first = frames.encode(round(1), weights(1));
  const { buffer } = first.bytes;
  first.release();
  const second = frames.encode(round(2), weights(2));
  expect(second.bytes.buffer).toBe(buffer);
  expect(frames.encode(round(3), weights(3)).bytes.buffer).not.toBe(buffer);
});
