import { expect, test } from 'vitest';
import { RoundFrames } from '../../coordinator/round-frames.js';
import { float32Of } from '../../shared/protocol/frame.js';
import { decodeFromCoordinator } from '../../shared/protocol/messages.js';
import { wireOf } from '../../shared/wire.js';

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
  const frames = new RoundFrames(5, wireOf(), () => false);
  const first = frames.encode(round(1), weights(1));
  first.hold();
  first.release();
  const second = frames.encode(round(2), weights(2));
  expect(contents(first.full)).toEqual({ message: { ...round(1), left: false }, values: [1, 1, 1, 1, 1] });
  expect(contents(second.full)).toEqual({ message: { ...round(2), left: false }, values: [2, 2, 2, 2, 2] });
});

test('the memory of a frame that everybody let go is used again', () => {
  const frames = new RoundFrames(5, wireOf(), () => false);
  const first = frames.encode(round(1), weights(1));
  const { buffer } = first.full;
  first.release();
  const second = frames.encode(round(2), weights(2));
  expect(second.full.buffer).toBe(buffer);
  expect(frames.encode(round(3), weights(3)).full.buffer).not.toBe(buffer);
});

test('parameters that were left in the exchange are not sent, and left once for all', () => {
  const left: number[][] = [];
  const frames = new RoundFrames(5, wireOf(), (number, values) => left.push([number, ...values]) > 0);
  const frame = frames.encode(round(1), weights(1));
  expect(contents(frame.light)).toEqual({ message: { ...round(1), left: true }, values: [] });
  expect(frame.light).toBe(frame.light);
  expect(left).toEqual([[1, 1, 1, 1, 1, 1]]);
});

test('parameters that were left ahead are not left again, those of another round are', () => {
  const left: number[] = [];
  const frames = new RoundFrames(5, wireOf(), (number) => left.push(number) > 0);
  frames.leaveAhead(1, weights(1));
  const [first, second] = [1, 2].map((number) => frames.encode(round(number), weights(number)));
  expect([first?.isLeft, second?.isLeft]).toEqual([true, false]);
  expect([first, second].map((frame) => frame && contents(frame.light))).toEqual(
    [1, 2].map((number) => ({ message: { ...round(number), left: true }, values: [] })),
  );
  expect(left).toEqual([1, 2]);
  expect(second?.isLeft).toBe(true);
});

test('parameters that found no room when they were left ahead are sent', () => {
  const frames = new RoundFrames(5, wireOf(), () => false);
  frames.leaveAhead(1, weights(1));
  const frame = frames.encode(round(1), weights(1));
  expect(frame.isLeft).toBe(false);
  expect(frame.light).toBe(frame.full);
});

test('parameters that find no room in the exchange are sent', () => {
  const frame = new RoundFrames(5, wireOf(), () => false).encode(round(1), weights(1));
  expect(contents(frame.light)).toEqual({ message: { ...round(1), left: false }, values: [1, 1, 1, 1, 1] });
  expect(frame.light).toBe(frame.full);
});
