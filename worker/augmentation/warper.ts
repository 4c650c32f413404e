import type { ImageShape } from '../../shared/models/presets.js';
import { MAP_ORDER, warp, type Affine } from './affine.js';
import { PIXELS_AT_ONCE, warpModule, type WarpFunction } from './warp-kernel.js';

const PAGE_BYTES = 65_536;
const VECTOR_BYTES = 16;

interface Kernel {
  readonly memory: WebAssembly.Memory;
  readonly warp: WarpFunction;
}

/** Where micro-batches are warped: by the vector kernel where it reaches, else by the plain loop. The same bits. */
export class Warper {
  private kernel: Kernel | undefined;

  /**
   * @param images rows x height x width x channels bytes
   * @param maps one for each row
   * @returns as many floats, 0 to 255; they stay until the next call
   */
  warp(images: Uint8Array, shape: ImageShape, maps: readonly Affine[]): Float32Array {
    const [height, width, channels] = shape;
    if (channels !== 1 || width % PIXELS_AT_ONCE !== 0) {
      const target = new Float32Array(images.length);
      const size = height * width * channels;
      maps.forEach((map, row) => {
        const [start, end] = [row * size, (row + 1) * size];
        warp(images.subarray(start, end), target.subarray(start, end), shape, map);
      });
      return target;
    }
    // Maps, then results, then images, after which the kernel may read a row and a pixel on.
    const mapFloats = maps.length * MAP_ORDER.length;
    const targetAt = Math.ceil((mapFloats * 4) / VECTOR_BYTES) * VECTOR_BYTES;
    const sourceAt = targetAt + images.length * 4;
    const { memory, warp: kernel } = this.kernelOf(sourceAt + images.length + width + 1);
    const map = new Float32Array(memory.buffer, 0, mapFloats);
    maps.forEach((affine, row) => {
      MAP_ORDER.forEach((key, i) => (map[row * MAP_ORDER.length + i] = affine[key]));
    });
    new Uint8Array(memory.buffer, sourceAt, images.length).set(images);
    if (maps.length > 0) kernel(sourceAt, targetAt, 0, maps.length, height, width);
    return new Float32Array(memory.buffer, targetAt, images.length);
  }

  private kernelOf(bytes: number): Kernel {
    if (this.kernel === undefined || this.kernel.memory.buffer.byteLength < bytes) {
      const pages = Math.ceil(bytes / PAGE_BYTES);
      const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: false });
      const module = new WebAssembly.Module(warpModule(pages));
      const { exports } = new WebAssembly.Instance(module, { env: { memory } });
      this.kernel = { memory, warp: exports['warp'] as WarpFunction };
    }
    return this.kernel;
  }
}
