/** A layer as it is shown: in tables, by name on the command line. */
export interface LayerInfo {
  readonly name: string;
  /** Keras' class name, such as `Conv2D`. */
  readonly type: string;
  /** Without the batch axis; -1 where it is free. */
  readonly outputShape: readonly number[];
  readonly parameters: number;
  readonly trainableParameters: number;
}

/** The output of one layer for one image. */
export interface LayerOutput {
  readonly layer: string;
  readonly type: string;
  /** Without the batch axis: height x width x channels, or units. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** The kernel of a convolution: height x width x inputs x filters. */
export interface Kernel {
  readonly layer: string;
  readonly shape: readonly [height: number, width: number, inputs: number, filters: number];
  readonly values: Float32Array;
}

/** A model that can be asked, whatever runs it. */
export interface TrainedModel {
  /** Height, width, channels; a model without a channel axis has one channel. */
  readonly imageShape: readonly [height: number, width: number, channels: number];
  readonly classes: number;
  readonly layers: readonly LayerInfo[];
  /**
   * @param pixels rows x height x width x channels, unsigned bytes
   * @returns rows x classes probabilities
   */
  predict(pixels: Uint8Array): Float32Array;
  /**
   * What the named layers give for one image, in the order of the names.
   * @param image height x width x channels, unsigned bytes
   * @throws AtelierError `usage` for a name that no layer has
   */
  layerOutputs(image: Uint8Array, names: readonly string[]): LayerOutput[];
  /** The kernels of all 2-d convolutions, in the order of the layers. */
  kernels(): Kernel[];
  dispose(): void;
}
