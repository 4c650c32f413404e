/**
 * How native TensorFlow computes here, as environment variables: it reads them once, when it is first loaded, so they are set
 * before any slot starts. What the user has set of the last two stays.
 *
 * - One thread an op: with more, the bits of a result depend on the number of threads (see ARCHITECTURE.md).
 * - As many ops at a time as there are slots.
 * - oneDNN's kernels everywhere: left alone, TensorFlow takes them only on processors with AVX-512 VNNI and the like.
 */
export const tensorflowSettings = (slots: number, env: NodeJS.ProcessEnv): Record<string, string> => ({
  TF_NUM_INTRAOP_THREADS: '1',
  TF_NUM_INTEROP_THREADS: String(slots),
  TF_ENABLE_ONEDNN_OPTS: env['TF_ENABLE_ONEDNN_OPTS'] ?? '1',
  TF_CPP_MIN_LOG_LEVEL: env['TF_CPP_MIN_LOG_LEVEL'] ?? '3',
});
