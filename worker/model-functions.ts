/** Rows as TensorFlow gets them. */
export interface Batch {
  readonly rows: number;
  /** rows x height x width x channels, 0 to 255: bytes as the dataset has them, floats once they are augmented. */
  readonly images: Uint8Array | Float32Array;
  /** Class numbers. */
  readonly labels: Int32Array;
  /** Two words that random layers draw from in training: a pure function of the micro-batch's address. */
  readonly seed: Int32Array;
}

export interface GradientFigures {
  /** Sum of the examples' softmax cross-entropies. */
  readonly lossSum: number;
  /** Examples whose largest logit is the right one. */
  readonly correct: number;
}

export interface EvaluationFigures {
  readonly lossSum: number;
  /** Predicted class of each row. */
  readonly predictions: Int32Array;
}

/** Parameters and state, and what tells these from any others: equal versions have equal values. */
export interface Weights {
  readonly version: string;
  /** `layout.size` values. */
  readonly values: Float32Array;
}

/** What a slot computes with one model. Synchronous: it blocks its thread, never the socket's. */
export interface ModelFunctions {
  /**
   * Does of the next `gradient` what can be done before its weights are here, which need not be called.
   * @param version of those weights
   */
  stage?(version: string, batch: Batch): void;
  /**
   * Writes the *sum* of the examples' gradients into `out`, then, for the state, its change times the rows.
   * @param out `layout.size` floats
   */
  gradient(weights: Weights, batch: Batch, out: Float32Array): GradientFigures;
  evaluate(weights: Weights, batch: Batch): EvaluationFigures;
  dispose(): void;
}
