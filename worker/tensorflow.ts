/**
 * The only place that loads native TensorFlow. Import it in compute threads alone: the socket thread must never
 * wait for TensorFlow.
 *
 * `TF_NUM_INTRAOP_THREADS=1` must be in the process's environment before the first import: with more, the bits of
 * a result depend on the machine's load (see ARCHITECTURE.md).
 */
import tf from '@tensorflow/tfjs-node';

export { tf };

/** Version of the native library. */
export const tensorflowVersion = (): string =>
  (tf.backend() as unknown as { binding: { TF_Version: string } }).binding.TF_Version;
