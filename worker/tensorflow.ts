/**
 * The only place that loads native TensorFlow. Import it in compute threads alone: the socket thread must never
 * wait for TensorFlow.
 *
 * What tensorflow-settings.ts gives must be in the process's environment before the first import.
 */
import './node-compatibility.js';
import tf from '@tensorflow/tfjs-node';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { AttrKinds, OpAttr } from './compiled/graph-def.js';

export { tf };

export interface OutputMetadata {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

/** tfjs-node's native addon: what of it is used here (its own types are not exported). */
export interface Binding extends AttrKinds {
  readonly TF_Version: string;
  readonly TF_FLOAT: number;
  readonly TF_INT32: number;
  readonly TF_INT64: number;
  readonly TF_BOOL: number;
  readonly TF_UINT8: number;
  createTensor(shape: readonly number[], dtype: number, values: ArrayBufferView | readonly unknown[]): number;
  deleteTensor(id: number): void;
  tensorDataSync(id: number): Float32Array | Int32Array | Uint8Array;
  /** Copies a tensor's values into memory of ours; only where set-up compiled the addon (setup/binding-patch.ts). */
  readTensor?(id: number, target: Float32Array | Int32Array | Uint8Array): void;
  executeOp(
    name: string,
    attrs: readonly OpAttr[],
    inputIds: readonly number[],
    outputs: number,
  ): OutputMetadata[];
  loadSavedModel(folder: string, tags: string): number;
  deleteSavedModel(id: number): void;
  runSavedModel(id: number, inputIds: readonly number[], inputs: string, outputs: string): OutputMetadata[];
  getNumOfTensors(): number;
  getNumOfSavedModels(): number;
}

/** tfjs-node's backend: what of it is used here. */
export interface NodeBackend {
  binding: Binding;
  getInputTensorIds(tensors: readonly Tensor[]): number[];
  createOutputTensor(metadata: OutputMetadata): Tensor;
  executeSingleOutput(name: string, attrs: readonly OpAttr[], inputs: readonly Tensor[]): Tensor;
  executeMultipleOutputs(
    name: string,
    attrs: readonly OpAttr[],
    inputs: readonly Tensor[],
    outputs: number,
  ): Tensor[];
}

export const nodeBackend = (): NodeBackend => tf.backend() as unknown as NodeBackend;

/** Version of the native library. */
export const tensorflowVersion = (): string => nodeBackend().binding.TF_Version;
