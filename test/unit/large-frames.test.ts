import { describe, expect, it } from 'vitest';
import { LargeFrames, MIN_LARGE_BYTES, type Arrival } from '../../coordinator/large-frames.js';
import { encodeFrame, frameHeadBytes } from '../../shared/protocol/frame.js';

const PAYLOAD = Uint8Array.from({ length: 3 * MIN_LARGE_BYTES }, (_, i) => (i * 7) & 0xff);

/** A WebSocket frame of a client. */
function frame(data: Uint8Array, { first = 0x82, mask = 0 } = {}): Buffer {
  const length = data.byteLength;
  const header = length < 126 ? Buffer.alloc(6) : length < 65_536 ? Buffer.alloc(8) : Buffer.alloc(14);
  header[0] = first;
  header[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (header.byteLength === 8) header.writeUInt16BE(length, 2);
  if (header.byteLength === 14) header.writeUIntBE(length, 4, 6);
  header[header.byteLength - 1] = mask;
  return Buffer.concat([header, data]);
}

const large = frame(encodeFrame({ type: 'partial' }, PAYLOAD));
const small = frame(Buffer.from('a heartbeat'));

/** What became of what was fed. */
function tap({ takes = true, roomAtOnce = true } = {}) {
  const passed: Buffer[] = [];
  const received: Buffer[] = [];
  const events: string[] = [];
  let giveRoom: () => void = () => undefined;
  const frames = new LargeFrames({
    pass: (bytes) => passed.push(Buffer.from(bytes)),
    arriving: (head, payloadBytes): Arrival | null => {
      expect(frameHeadBytes(head)).toBe(head.byteLength);
      if (!takes) return null;
      const place = Buffer.alloc(payloadBytes);
      return {
        place: (given) => {
          giveRoom = () => given(place);
          if (roomAtOnce) given(place);
        },
        complete: () => {
          received.push(place);
          events.push('complete');
        },
        abandon: () => events.push('abandon'),
      };
    },
    pause: () => events.push('pause'),
    resume: () => events.push('resume'),
  });
  return { frames, received, events, passed: () => Buffer.concat(passed), giveRoom: () => giveRoom() };
}

describe('large frames', () => {
  it.each([1, 2, 13, 14, 15, 100, 65_535, 65_536, 1_000_000])(
    'are received in place and the rest is passed on, in chunks of %i bytes',
    (chunkBytes) => {
      const { frames, received, passed } = tap();
      const stream = Buffer.concat([small, large, small, small, large]);
      for (let at = 0; at < stream.byteLength; at += chunkBytes)
        frames.feed(stream.subarray(at, at + chunkBytes));
      expect(received.map((each) => each.equals(PAYLOAD))).toEqual([true, true]);
      expect(passed()).toEqual(Buffer.concat([small, small, small]));
    },
  );

  it('are read where they belong, once it is known where that is', () => {
    const { frames, received, passed } = tap();
    const common = Buffer.alloc(256 * 1024);
    const stream = Buffer.concat([small, large, small]);
    const targets: Uint8Array[] = [];
    for (let at = 0; at < stream.byteLength;) {
      const target = frames.target(common);
      const count = stream.copy(target, 0, at);
      targets.push(target);
      frames.feed(Buffer.from(target.buffer, target.byteOffset, count));
      at += count;
    }
    expect(received.map((each) => each.equals(PAYLOAD))).toEqual([true]);
    expect(passed()).toEqual(Buffer.concat([small, small]));
    // The beginning of the payload came with the frame's header, and what follows it is not read with it.
    expect(targets.map(({ buffer }) => buffer === received[0]?.buffer)).toEqual([false, true, false]);
    expect(targets[0]?.byteLength).toBeLessThan(common.byteLength);
  });

  const fragmented = Buffer.concat([frame(PAYLOAD, { first: 0x02 }), frame(PAYLOAD, { first: 0x80 })]);
  it.each([
    ['nobody takes', large, { takes: false }],
    ['are masked', frame(encodeFrame({ type: 'partial' }, PAYLOAD), { mask: 1 }), {}],
    ['are text', frame(PAYLOAD, { first: 0x81 }), {}],
    ['are compressed', frame(PAYLOAD, { first: 0xc2 }), {}],
    ['are fragments', fragmented, {}],
    ['stand between fragments', Buffer.concat([frame(PAYLOAD, { first: 0x02 }), large]), {}],
    ['claim a header longer than themselves', frame(Buffer.alloc(2 * MIN_LARGE_BYTES, 0xff)), {}],
    ['are medium', frame(encodeFrame({ type: 'partial' }, PAYLOAD.subarray(0, 1_000))), {}],
  ])('that %s are passed on', (_, bytes, options) => {
    const { frames, passed, events } = tap(options);
    for (let at = 0; at < bytes.byteLength; at += 10_000) frames.feed(bytes.subarray(at, at + 10_000));
    expect(passed().equals(bytes)).toBe(true);
    expect(events).toEqual([]);
  });

  it('wait for room, and go on where they were', () => {
    const { frames, received, events, passed, giveRoom } = tap({ roomAtOnce: false });
    const stream = Buffer.concat([large, small]);
    frames.feed(stream.subarray(0, 1_000));
    expect(events).toEqual(['pause']);
    giveRoom();
    expect(events).toEqual(['pause', 'resume']);
    frames.feed(stream.subarray(1_000));
    expect(received[0]?.equals(PAYLOAD)).toBe(true);
    expect(passed()).toEqual(small);
  });

  it('are abandoned when the connection goes, whether they wait or not', () => {
    for (const roomAtOnce of [true, false]) {
      const { frames, events, giveRoom, received } = tap({ roomAtOnce });
      frames.feed(large.subarray(0, 1_000));
      frames.close();
      giveRoom();
      frames.feed(large.subarray(1_000));
      expect(events.at(-1)).toBe('abandon');
      expect(received).toEqual([]);
    }
  });
});
