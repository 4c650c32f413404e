/*
 * The few forms of protobuf's wire format (https://protobuf.dev/programming-guides/encoding/) that an event file needs.
 */

const Wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) + 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return Buffer.from([...bytes, rest]);
}

const tag = (field: number, wire: number): Buffer => varint(field * 8 + wire);

function doubles(values: readonly number[]): Buffer {
  const buffer = Buffer.alloc(8 * values.length);
  values.forEach((value, i) => buffer.writeDoubleLE(value, 8 * i));
  return buffer;
}

/** A whole number from 0 to 2^53 - 1. */
export const int64Field = (field: number, value: number): Buffer =>
  Buffer.concat([tag(field, Wire.varint), varint(value)]);

export const doubleField = (field: number, value: number): Buffer =>
  Buffer.concat([tag(field, Wire.fixed64), doubles([value])]);

export function floatField(field: number, value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return Buffer.concat([tag(field, Wire.fixed32), buffer]);
}

/** Bytes, or a message inside a message. */
export const bytesField = (field: number, value: Uint8Array): Buffer =>
  Buffer.concat([tag(field, Wire.bytes), varint(value.length), value]);

export const stringField = (field: number, value: string): Buffer => bytesField(field, Buffer.from(value));

/** A packed list of doubles. */
export const doublesField = (field: number, values: readonly number[]): Buffer =>
  bytesField(field, doubles(values));
