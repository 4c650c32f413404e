import type { NamedTensor } from '../../shared/models/exported-model.js';

/** The data begins at a multiple of this: readers map it into memory. */
const ALIGNMENT = 8;

/**
 * Weights in the safetensors format (https://github.com/huggingface/safetensors#format): the length of a JSON header as
 * a little-endian u64, the header padded with spaces, then the values in the header's order.
 * @param metadata free text by key
 */
export function safetensors(
  weights: readonly NamedTensor[],
  metadata: Readonly<Record<string, string>>,
): Buffer {
  let offset = 0;
  const entries = weights.map(({ name, shape, values }) => {
    const begin = offset;
    offset += values.byteLength;
    return [name, { dtype: 'F32', shape, data_offsets: [begin, offset] }] as const;
  });
  const json = Buffer.from(JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }));
  const header = Buffer.alloc(Math.ceil(json.length / ALIGNMENT) * ALIGNMENT, ' ');
  json.copy(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const data = weights.map(
    ({ values }) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  );
  return Buffer.concat([length, header, ...data]);
}
