import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { TensorLayout } from '../../shared/layout.js';
import type { EpochRecord } from '../../shared/summary.js';
import { maskedCrc32c } from './crc32c.js';
import { histogramOf } from './histogram.js';
import { bytesField, doubleField, doublesField, floatField, int64Field, stringField } from './protobuf.js';

/*
 * TensorBoard's event files: records of TFRecord
 * (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), each an Event of
 * tensorflow/core/util/event.proto, with summaries of tensorflow/core/framework/summary.proto. Field numbers are theirs.
 */

const Event = { wallTime: 1, step: 2, fileVersion: 3, summary: 5 } as const;
const Summary = { value: 1 } as const;
const Value = { tag: 1, simpleValue: 2, histogram: 5 } as const;
const Histo = { min: 1, max: 2, num: 3, sum: 4, sumSquares: 5, bucketLimit: 6, bucket: 7 } as const;
const FILE_VERSION = 'brain.Event:2';

/**
 * Appends to one event file. Each record is in the file when the call returns, so TensorBoard shows it while the run
 * goes on; what a killed process leaves half-written TensorBoard waits for, and ignores.
 */
export class TensorBoardWriter {
  readonly path: string;
  private readonly file: number;
  private readonly now: () => number;

  /**
   * Makes the folder and in it a new file: a resumed run adds one to those that are there.
   * @param now milliseconds since 1970
   */
  constructor(folder: string, now: () => number = Date.now) {
    this.now = now;
    mkdirSync(folder, { recursive: true });
    // Files are read in the order of their names: the time comes first.
    const name = `events.out.tfevents.${String(Math.floor(now())).padStart(13, '0')}.${hostname()}.${process.pid}`;
    this.path = join(folder, name);
    this.file = openSync(this.path, 'a');
    this.write(stringField(Event.fileVersion, FILE_VERSION), 0);
  }

  /** @param tag such as `epoch/accuracy`; TensorBoard groups by what comes before the slash */
  scalar(tag: string, step: number, value: number): void {
    this.value(step, Buffer.concat([stringField(Value.tag, tag), floatField(Value.simpleValue, value)]));
  }

  histogram(tag: string, step: number, values: Float32Array): void {
    const { min, max, count, sum, sumOfSquares, limits, counts } = histogramOf(values);
    const histogram = Buffer.concat([
      doubleField(Histo.min, min),
      doubleField(Histo.max, max),
      doubleField(Histo.num, count),
      doubleField(Histo.sum, sum),
      doubleField(Histo.sumSquares, sumOfSquares),
      doublesField(Histo.bucketLimit, limits),
      doublesField(Histo.bucket, counts),
    ]);
    this.value(step, Buffer.concat([stringField(Value.tag, tag), bytesField(Value.histogram, histogram)]));
  }

  /** The figures of one epoch of one trial, and a histogram of each of its weights. */
  epoch(record: EpochRecord, layout: TensorLayout, weights: Float32Array): void {
    const { epoch, loss, accuracy, valLoss, valAccuracy, seconds, rows } = record;
    this.scalar('loss/training', epoch, loss);
    this.scalar('accuracy/training', epoch, accuracy);
    if (valLoss !== null) this.scalar('loss/validation', epoch, valLoss);
    if (valAccuracy !== null) this.scalar('accuracy/validation', epoch, valAccuracy);
    this.scalar('speed/seconds_per_epoch', epoch, seconds);
    if (seconds > 0) this.scalar('speed/images_per_second', epoch, rows / seconds);
    for (const { name, offset, size } of layout.tensors) {
      this.histogram(`weights/${name}`, epoch, weights.subarray(offset, offset + size));
    }
  }

  close(): void {
    closeSync(this.file);
  }

  private value(step: number, value: Buffer): void {
    this.write(bytesField(Event.summary, bytesField(Summary.value, value)), step);
  }

  /** One TFRecord: length, its checksum, the event, its checksum. */
  private write(what: Buffer, step: number): void {
    const event = Buffer.concat([
      doubleField(Event.wallTime, this.now() / 1000),
      int64Field(Event.step, step),
      what,
    ]);
    const record = Buffer.alloc(12 + event.length + 4);
    record.writeBigUInt64LE(BigInt(event.length), 0);
    record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8);
    event.copy(record, 12);
    record.writeUInt32LE(maskedCrc32c(event), 12 + event.length);
    for (let written = 0; written < record.length;) written += writeSync(this.file, record, written);
  }
}
