/**
 * Arguments: port, model, workers, steps to warm up, steps to time, those who join: the workers, or relays before them. A coordinator as
 * `atelier train` has one, with one shard for each worker; prints one line of JSON.
 */
import { RoundFrames, type HeldFrame } from '../../../coordinator/round-frames.js';
import { Traffic } from '../../../coordinator/traffic.js';
import { trainHere } from '../train-here.js';
import { ignoreSpeeds } from './ignore-speeds.js';
import { settingsOf } from './settings.js';

const SAMPLE_MS = 250;

/** What the coordinator of a cell says at its end. */
export interface CoordinatorReport {
  /** Of each timed step. */
  readonly stepMs: readonly number[];
  readonly cpuMsPerStep: number;
  readonly encodesPerStep: number;
  /** Frames of partials, and of rounds to all who joined. */
  readonly bytesInPerStep: number;
  readonly bytesOutPerStep: number;
  /** Before the first round, and at most after it. */
  readonly residentBefore: number;
  readonly residentPeak: number;
  readonly externalPeak: number;
  readonly steps: number;
  readonly weightsSha256: string;
}

const [port = '', model = '', ...numbers] = process.argv.slice(2);
const [workers = 0, warm = 0, steps = 0, joining = 0] = numbers.map(Number);

ignoreSpeeds();

let encodes = 0;
const encoded = new WeakSet<Buffer>();
const counted = (frame: Buffer): Buffer => {
  if (!encoded.has(frame)) encodes++;
  encoded.add(frame);
  return frame;
};
const frames = RoundFrames.prototype as { encode: (this: RoundFrames, ...args: never[]) => HeldFrame };
const { encode } = frames;
frames.encode = function (...args) {
  const frame = encode.apply(this, args);
  return {
    get full() {
      return counted(frame.full);
    },
    get light() {
      return counted(frame.light);
    },
    hold: () => frame.hold(),
    release: () => frame.release(),
  };
};

let bytesIn = 0;
let bytesOut = 0;
let isTimed = false;
const counts = Traffic.prototype as unknown as Record<
  'received' | 'sent',
  (this: Traffic, type: string, bytes: number) => void
>;
const { received, sent } = counts;
counts.received = function (type, bytes) {
  if (isTimed && type === 'partial') bytesIn += bytes;
  received.call(this, type, bytes);
};
counts.sent = function (type, bytes) {
  if (isTimed && type === 'round') bytesOut += bytes;
  sent.call(this, type, bytes);
};

let residentBefore = 0;
let residentPeak = 0;
let externalPeak = 0;
const sample = (): void => {
  const { rss, external } = process.memoryUsage();
  residentPeak = Math.max(residentPeak, rss);
  externalPeak = Math.max(externalPeak, external);
};
const ends: number[] = [];
let cpuBefore = process.cpuUsage();
let cpu = cpuBefore;
let encodesBefore = 0;
let timer: NodeJS.Timeout | undefined;
const { weightsSha256 } = await trainHere(
  { ...settingsOf(model, workers), minWorkers: joining, listen: `127.0.0.1:${port}` },
  {
    started: () => {
      residentBefore = process.memoryUsage().rss;
      timer = setInterval(sample, SAMPLE_MS);
    },
    stepped: () => {
      ends.push(performance.now());
      if (ends.length === warm) {
        cpuBefore = process.cpuUsage();
        encodesBefore = encodes;
        isTimed = true;
      } else if (ends.length === warm + steps) {
        cpu = process.cpuUsage(cpuBefore);
        isTimed = false;
      }
    },
  },
  () => ends.length === warm + steps,
);
clearInterval(timer);
const report: CoordinatorReport = {
  stepMs: ends.slice(warm).map((end, i) => end - (ends[warm + i - 1] ?? 0)),
  cpuMsPerStep: (cpu.user + cpu.system) / 1_000 / steps,
  encodesPerStep: (encodes - encodesBefore) / steps,
  ...{ bytesInPerStep: bytesIn / steps, bytesOutPerStep: bytesOut / steps },
  ...{ residentBefore, residentPeak, externalPeak, steps: ends.length, weightsSha256 },
};
process.stdout.write(`${JSON.stringify(report)}\n`);
