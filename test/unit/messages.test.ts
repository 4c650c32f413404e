import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import { AUGMENTATIONS } from '../../shared/augmentation.js';
import { AtelierError } from '../../shared/errors.js';
import { encodeFrame, encodeFrameOver, decodeFrame, float32Of } from '../../shared/protocol/frame.js';
import { MAX_HEADER_BYTES } from '../../shared/protocol/limits.js';
import {
  decodeFromCoordinator,
  decodeFromWorker,
  encodeToCoordinator,
  encodeToWorker,
  type CoordinatorToWorker,
  type RunSpec,
  type WorkerToCoordinator,
} from '../../shared/protocol/messages.js';
import { atelierError } from '../support/errors.js';

const versions = { atelier: '0.1.0', node: 'v20', tensorflow: '2.18' };
const spec: RunSpec = {
  seed: Number.MAX_SAFE_INTEGER,
  batchSize: 256,
  shards: 8,
  evaluationRows: 250,
  step: 'auto',
  recipe: { augmentation: AUGMENTATIONS.study, labelSmoothing: 0.1, pixelMax: 255 },
  dataset: {
    name: 'made-up',
    sha256: 'a'.repeat(64),
    trainRows: 60_000,
    testRows: 10_000,
    imageShape: [28, 28, 1],
    classNames: ['Hemd', 'Größe', '靴'],
  },
  layout: {
    tensors: [{ name: 'output/kernel', shape: [784, 3], offset: 0, size: 2_352 }],
    trainable: 2_352,
    size: 2_352,
  },
  topology: {
    class_name: 'Sequential',
    config: { name: 'x', layers: [{ class_name: 'Flatten', config: {} }] },
  },
};
const credential = { worker: 3, epoch: 2, secret: 'c'.repeat(64) };

/** Every message, with whether it has a payload. The types make sure that none is forgotten. */
const FROM_WORKER: Record<WorkerToCoordinator['type'], [WorkerToCoordinator, boolean]> = {
  hello: [
    { type: 'hello', protocolVersion: 1, name: 'w', host: 'h', pid: 1, slots: 2, versions, credential },
    false,
  ],
  exchange: [{ type: 'exchange' }, false],
  ready: [{ type: 'ready', run: 1, fingerprint: 'b'.repeat(64) }, false],
  leaving: [{ type: 'leaving', reason: 'SIGTERM' }, false],
  slots: [{ type: 'slots', slots: 64 }, false],
  returned: [{ type: 'returned', run: 1, trial: 0, round: 7, start: 4, count: 4 }, false],
  'need-rows': [{ type: 'need-rows', run: 1 }, true],
  partial: [
    {
      type: 'partial',
      run: 1,
      trial: 0,
      round: 7,
      start: 4,
      count: 4,
      rows: 128,
      lossSum: 12.5,
      correct: 100,
      rowDigests: [
        [0, 0xffff_ffff],
        [1, 2],
      ],
      leftAt: null,
      computeMs: 3.25,
      retries: 1,
    },
    true,
  ],
  evaluated: [
    {
      ...{ type: 'evaluated', run: 1, trial: 0, round: 8, chunk: 3 },
      ...{ rows: 250, lossSum: 0.125, computeMs: 1, retries: 0 },
    },
    true,
  ],
  heartbeat: [{ type: 'heartbeat' }, false],
  report: [
    {
      type: 'report',
      report: {
        ...{ tensors: 40, tensorBytes: 5e9, eventLoopLagMs: 0.5, busySlots: 2, busyRatio: 0.9 },
        ...{ rows: 5e9, rowsPerSecond: 1234.5, residentBytes: 5e8, metrics: { port: 9100, tls: false } },
      },
    },
    false,
  ],
  warning: [{ type: 'warning', run: null, message: 'not compiled' }, false],
  failed: [{ type: 'failed', run: 0, message: 'out of memory' }, false],
};
const FROM_COORDINATOR: Record<CoordinatorToWorker['type'], [CoordinatorToWorker, boolean]> = {
  welcome: [
    {
      ...{ type: 'welcome', credential, resumed: true },
      ...{ heartbeatIntervalMs: 2_000, heartbeatTimeoutMs: 15_000 },
      exchange: { folder: '/dev/shm/atelier-aB3dE6', secret: 'c'.repeat(64) },
    },
    false,
  ],
  run: [{ type: 'run', run: 1, spec }, false],
  trial: [{ type: 'trial', run: 1, trial: 0 }, true],
  rows: [{ type: 'rows', run: 1, count: 12 }, true],
  'run-over': [{ type: 'run-over', run: 1 }, false],
  round: [
    {
      type: 'round',
      run: 1,
      trial: 0,
      round: 1,
      work: { kind: 'step', epoch: 0, stepInEpoch: 1 },
      left: false,
    },
    true,
  ],
  lease: [{ type: 'lease', run: 1, trial: 0, round: 1, start: 4, count: 4 }, false],
  heartbeat: [{ type: 'heartbeat' }, false],
  finished: [{ type: 'finished', reason: 'the run is done' }, false],
};
const PAYLOAD = Uint8Array.from({ length: 24 }, (_, i) => i + 1);

const workerMessages = Object.values(FROM_WORKER);
const coordinatorMessages = Object.values(FROM_COORDINATOR);
const workerFrames = workerMessages.map(([message, payload]) =>
  encodeToCoordinator(message, ...(payload ? [PAYLOAD] : [])),
);
const coordinatorFrames = coordinatorMessages.map(([message, payload]) =>
  encodeToWorker(message, ...(payload ? [PAYLOAD] : [])),
);

/** A frame with any header, whose lengths are right unless said otherwise. */
function frameOf(header: unknown, payload = new Uint8Array(0), headerBytes?: number): Buffer {
  const packed = new Packr({ useRecords: false }).pack(header);
  const start = Math.ceil((4 + packed.byteLength) / 8) * 8;
  const frame = Buffer.alloc(start + payload.byteLength);
  frame.writeUInt32LE(headerBytes ?? packed.byteLength, 0);
  frame.set(packed, 4);
  frame.set(payload, start);
  return frame;
}

/** Both decoders either take a frame or throw AtelierError `protocol`. */
function neverThrowsAnythingElse(frame: Buffer): void {
  for (const decode of [decodeFromWorker, decodeFromCoordinator]) {
    try {
      decode(frame);
    } catch (error) {
      if (!(error instanceof AtelierError) || error.code !== 'protocol') throw error;
    }
  }
}

const refused = (frame: Buffer): string => atelierError('protocol', () => decodeFromWorker(frame)).message;

describe('a message', () => {
  test.each(workerMessages)('of a worker comes out as it went in: %j', (message, payload) => {
    const parts = payload ? [PAYLOAD.subarray(0, 9), PAYLOAD.subarray(9)] : [];
    const received = decodeFromWorker(encodeToCoordinator(message, ...parts));
    expect(received.message).toEqual(message);
    expect([...received.payload]).toEqual(payload ? [...PAYLOAD] : []);
  });

  test.each(coordinatorMessages)('of a coordinator comes out as it went in: %j', (message, payload) => {
    const received = decodeFromCoordinator(encodeToWorker(message, ...(payload ? [PAYLOAD] : [])));
    expect(received.message).toEqual(message);
    expect([...received.payload]).toEqual(payload ? [...PAYLOAD] : []);
  });

  test.each([Number.NaN, Infinity, -Infinity, Number.MIN_VALUE])('carries a loss of %d', (lossSum) => {
    const [message] = FROM_WORKER.evaluated;
    const received = decodeFromWorker(encodeToCoordinator({ ...message, lossSum } as WorkerToCoordinator));
    expect(received.message).toMatchObject({ lossSum });
  });

  test('has its payload at a multiple of eight bytes', () => {
    for (let length = 1; length < 20; length++) {
      const name = 'n'.repeat(length);
      const frame = encodeFrame({ type: 'failed', run: 0, message: name }, PAYLOAD);
      expect(frame.indexOf(Buffer.from(PAYLOAD)) % 8).toBe(0);
    }
  });

  test('has floats that are read wherever the frame lies in memory', () => {
    const floats = Float32Array.of(1.5, -2.25, 3e-30);
    const frame = encodeFrame({ type: 'need-rows', run: 0 }, new Uint8Array(floats.buffer));
    for (let shift = 0; shift < 8; shift++) {
      const memory = Buffer.alloc(frame.byteLength + shift);
      frame.copy(memory, shift);
      const { payload } = decodeFromWorker(memory.subarray(shift));
      expect(float32Of(payload)).toEqual(floats);
    }
  });

  test('takes the place of another before the same payload, in the same memory if it fits there', () => {
    for (const name of ['x', 'short', 'longer than the one before it was by a good deal']) {
      const frame = encodeFrame({ name: 'as long as this' }, PAYLOAD);
      const { buffer } = frame;
      // Small frames lie in one pool: they share their ArrayBuffer, and not their bytes.
      const endsAt = frame.byteOffset + frame.byteLength;
      const other = encodeFrameOver({ name }, frame);
      expect(decodeFrame(other)).toEqual({ header: { name }, payload: PAYLOAD });
      const isInPlace = other.buffer === buffer && other.byteOffset + other.byteLength === endsAt;
      expect(isInPlace).toBe(name.length < 20);
    }
    const empty = encodeFrameOver({ a: 1 }, encodeFrame({ b: 2 }));
    expect(decodeFrame(empty).header).toEqual({ a: 1 });
  });

  test('of a coordinator is not taken from a worker', () => {
    const [welcome] = coordinatorFrames as [Buffer, ...Buffer[]];
    expect(refused(welcome)).toContain('type');
  });
});

describe('a hostile frame', () => {
  test('of random bytes throws nothing but a protocol error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), (bytes) => neverThrowsAnythingElse(Buffer.from(bytes))),
      { numRuns: 500 },
    );
  });

  test('of a random header throws nothing but a protocol error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 256 }), (bytes) => {
        const frame = Buffer.alloc(Math.ceil((4 + bytes.byteLength) / 8) * 8);
        frame.writeUInt32LE(bytes.byteLength, 0);
        frame.set(bytes, 4);
        neverThrowsAnythingElse(frame);
      }),
      { numRuns: 2_000 },
    );
  });

  test('of any map throws nothing but a protocol error', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.anything({ maxDepth: 3 })), (fields) => {
        let frame: Buffer;
        try {
          frame = frameOf({ type: 'partial', payloadBytes: 0, ...fields });
        } catch {
          return; // not everything can be packed
        }
        neverThrowsAnythingElse(frame);
      }),
      { numRuns: 1_000 },
    );
  });

  test('made from a good one by changing bytes throws nothing but a protocol error', () => {
    const frames = [...workerFrames, ...coordinatorFrames];
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.constantFrom(...frames), changes, (frame, bytes) => {
        const changed = Buffer.from(frame);
        for (const [at, byte] of bytes) changed[at % changed.byteLength] = byte;
        neverThrowsAnythingElse(changed);
      }),
      { numRuns: 2_000 },
    );
  });

  test('cut off anywhere is refused', () => {
    for (const frame of workerFrames) {
      // Behind the header there may be padding that nobody misses.
      const needed = 4 + frame.readUInt32LE(0);
      for (let length = 0; length < frame.byteLength; length++) {
        if (length >= needed && length < Math.ceil(needed / 8) * 8) continue;
        if (length === Math.ceil(needed / 8) * 8 && length === frame.byteLength) continue;
        refused(frame.subarray(0, length));
      }
    }
  });

  test.each([MAX_HEADER_BYTES + 1, 0x7fff_ffff, 0xffff_ffff])(
    'that declares a header of %d bytes is refused',
    (declared) => {
      expect(refused(frameOf({ type: 'heartbeat', payloadBytes: 0 }, undefined, declared))).toContain(
        'limit',
      );
    },
  );

  test('that declares more header than there is is refused', () => {
    expect(refused(frameOf({ type: 'heartbeat', payloadBytes: 0 }, undefined, 1_000))).toContain('cut off');
  });

  test('of arrays that declare four billion elements each is refused without the memory for them', () => {
    const header = Buffer.alloc(5 * 1_000);
    for (let i = 0; i < 1_000; i++) {
      header[5 * i] = 0xdd;
      header.writeUInt32BE(0xffff_ffff, 5 * i + 1);
    }
    const frame = Buffer.concat([Buffer.alloc(4), header]);
    frame.writeUInt32LE(header.byteLength, 0);
    expect(refused(frame)).toContain('msgpack');
  });

  test.each([
    ['less', 0],
    ['more', 25],
    ['none at all', undefined],
    ['a negative one', -24],
    ['text', '24'],
    ['a list', [24]],
    ['an object that cannot be printed', { toString: 1, valueOf: 1 }],
  ])('that declares another payload than it has is refused: %s', (_name, payloadBytes) => {
    expect(refused(frameOf({ type: 'need-rows', run: 0, payloadBytes }, PAYLOAD))).toContain('bad frame');
  });

  test.each([
    ['text', 'hello'],
    ['a number', 7],
    ['nothing', null],
    ['a list', ['hello']],
    ['a map without a type', {}],
  ])('whose header is %s is refused', (_name, header) => {
    refused(frameOf(header));
  });

  test('with a payload where none belongs is refused', () => {
    expect(refused(encodeFrame({ type: 'heartbeat' }, PAYLOAD))).toContain('heartbeat has no payload');
  });

  test('with a field too many is refused, for every message', () => {
    for (const [message] of workerMessages) {
      expect(refused(encodeFrame({ ...message, admin: true }))).toContain('admin');
    }
  });

  test('with a field of the wrong type or missing is refused, for every field of every message', () => {
    for (const [message] of workerMessages) {
      for (const key of Object.keys(message)) {
        for (const wrong of [null, undefined, [], {}, true]) {
          // A new worker has no credential, what is sent is not left, some trouble is of no run; the length of the digests is checked where the node is known.
          if (
            (['credential', 'leftAt'].includes(key) && wrong === null) ||
            (['warning', 'failed'].includes(message.type) && key === 'run' && wrong === null) ||
            (key === 'rowDigests' && Array.isArray(wrong))
          )
            continue;
          refused(encodeFrame({ ...message, [key]: wrong }));
        }
      }
    }
  });

  test.each([
    ['rows', -1],
    ['rows', 1.5],
    ['rows', 2 ** 32],
    ['count', 0],
    ['round', Number.NaN],
    ['start', 10n ** 18n],
    ['computeMs', -1],
    ['lossSum', '12'],
  ])('with %s = %s is refused', (key, value) => {
    const [partial] = FROM_WORKER.partial;
    expect(refused(encodeFrame({ ...partial, [key]: value }))).toContain(key);
  });

  test('with __proto__ for a key is refused and leaves objects as they were', () => {
    const header = Buffer.from(
      new Packr({ useRecords: false }).pack(
        new Map<string, unknown>([
          ['type', 'heartbeat'],
          ['payloadBytes', 0],
          ['__proto__', { polluted: true }],
        ]),
      ),
    );
    const frame = Buffer.alloc(Math.ceil((4 + header.byteLength) / 8) * 8);
    frame.writeUInt32LE(header.byteLength, 0);
    frame.set(header, 4);
    refused(frame);
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
  });
});
