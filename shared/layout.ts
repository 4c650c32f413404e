import { createHash } from 'node:crypto';
import { z } from 'zod';

/** One tensor inside the flat parameter array. `offset` and `size` count float32 elements. */
export const TensorSpec = z.strictObject({
  name: z.string().min(1).max(256),
  shape: z.array(z.int().min(0)).max(8),
  offset: z.int().min(0),
  size: z.int().min(0),
});
export type TensorSpec = z.infer<typeof TensorSpec>;

/**
 * Where each tensor of a model lies in one flat Float32Array: first the trainable tensors (`trainable`
 * elements), then the non-trainable state, such as moving averages (`size - trainable` elements).
 */
export const TensorLayout = z.strictObject({
  tensors: z.array(TensorSpec).max(10_000),
  trainable: z.int().min(0),
  size: z.int().min(1),
});
export type TensorLayout = z.infer<typeof TensorLayout>;

export interface NamedShape {
  readonly name: string;
  readonly shape: readonly number[];
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((size, d) => size * d, 1);

export function makeLayout(trainable: readonly NamedShape[], state: readonly NamedShape[]): TensorLayout {
  let offset = 0;
  const place = ({ name, shape }: NamedShape): TensorSpec => {
    const spec = { name, shape: [...shape], offset, size: sizeOf(shape) };
    offset += spec.size;
    return spec;
  };
  const trainableSpecs = trainable.map(place);
  const trainableSize = offset;
  const stateSpecs = state.map(place);
  return { tensors: [...trainableSpecs, ...stateSpecs], trainable: trainableSize, size: offset };
}

/** SHA-256 (hex) over the little-endian float32 parameters, then non-trainable state, in layout order. */
export function weightsSha256(weights: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength))
    .digest('hex');
}
