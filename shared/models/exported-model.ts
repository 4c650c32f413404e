import { readFileSync, statSync } from 'node:fs';
import { join, normalize, sep } from 'node:path';
import { z } from 'zod';
import { AtelierError, messageOf } from '../errors.js';
import { parseTopology } from './topology.js';
import type { Topology } from './presets.js';

/** The largest `model.json` and the most bytes of weights that are read. */
const MAX_MODEL_JSON_BYTES = 16 * 1024 * 1024;
const MAX_WEIGHT_BYTES = 2 ** 31;

const WeightsManifest = z.array(
  z.looseObject({
    paths: z.array(z.string().min(1)).max(10_000),
    weights: z
      .array(
        z.looseObject({
          name: z.string().min(1).max(256),
          shape: z.array(z.int().min(0)).max(8),
          dtype: z.string(),
          quantization: z.unknown().optional(),
        }),
      )
      .max(10_000),
  }),
);

/** One weight, by the name that the model's layers give it, such as `conv1/kernel`. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Row-major. */
  readonly values: Float32Array;
}

/** A tfjs LayersModel as it lies on the disk. */
export interface ExportedModel {
  readonly folder: string;
  readonly topology: Topology;
  readonly weights: readonly NamedTensor[];
}

/**
 * Reads a folder with `model.json` and its weights, as `atelier train` and tfjs's `model.save` write it.
 * @throws AtelierError `model` when it is not one, or is incomplete
 */
export function readExportedModel(folder: string): ExportedModel {
  const path = join(folder, 'model.json');
  const text = readBounded(path, MAX_MODEL_JSON_BYTES).toString('utf8');
  const topology = parseTopology(text, path);
  const manifest = WeightsManifest.safeParse(
    (JSON.parse(text) as Record<string, unknown>)['weightsManifest'],
  );
  if (!manifest.success) {
    throw new AtelierError('model', `${path} has no weightsManifest: it is a topology without weights`);
  }
  const weights = manifest.data.flatMap((group) => {
    const bytes = Buffer.concat(
      group.paths.map((name) => readBounded(inside(folder, name), MAX_WEIGHT_BYTES)),
    );
    const bytesOf = (shape: readonly number[]): number => 4 * shape.reduce((product, d) => product * d, 1);
    const expected = group.weights.reduce((sum, { shape }) => sum + bytesOf(shape), 0);
    if (expected !== bytes.byteLength) {
      throw new AtelierError(
        'model',
        `${folder}: ${group.paths.join(', ')} has ${bytes.byteLength} bytes, model.json asks for ${expected}: ` +
          `the files do not belong together`,
      );
    }
    let offset = 0;
    const tensors = group.weights.map(({ name, shape, dtype, quantization }) => {
      if (dtype !== 'float32' || quantization !== undefined) {
        throw new AtelierError(
          'model',
          `${path}: ${name} is not plain float32; export it without quantization`,
        );
      }
      const size = bytesOf(shape);
      const values = new Float32Array(size / 4);
      bytes.copy(new Uint8Array(values.buffer), 0, offset, offset + size);
      offset += size;
      return { name, shape, values };
    });
    return tensors;
  });
  return { folder, topology, weights };
}

/** Weight files lie beside `model.json`, never elsewhere. */
function inside(folder: string, name: string): string {
  const relative = normalize(name);
  if (relative.startsWith('..') || relative.startsWith(sep)) {
    throw new AtelierError('model', `${folder}/model.json names weights outside its folder: ${name}`);
  }
  return join(folder, relative);
}

function readBounded(path: string, maxBytes: number): Buffer {
  try {
    const { size } = statSync(path);
    if (size > maxBytes) throw new Error(`it has ${size} bytes, more than ${maxBytes}`);
    return readFileSync(path);
  } catch (cause) {
    throw new AtelierError(
      'model',
      `cannot read ${path}: ${messageOf(cause)}. A model is a folder with model.json and its weights, such as RUN/model`,
      { cause },
    );
  }
}
