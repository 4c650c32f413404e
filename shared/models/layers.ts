/** A Keras layer or model as JSON. */
export interface Topology {
  readonly class_name: string;
  readonly config: Readonly<Record<string, unknown>>;
}

export type ImageShape = readonly [height: number, width: number, channels: number];

export const layer = (className: string, name: string, config: Record<string, unknown> = {}): Topology => ({
  class_name: className,
  config: { name, trainable: true, ...config },
});

export const GLOROT_UNIFORM = {
  class_name: 'VarianceScaling',
  config: { scale: 1, mode: 'fan_avg', distribution: 'uniform', seed: null },
};
export const HE_NORMAL = {
  class_name: 'VarianceScaling',
  config: { scale: 2, mode: 'fan_in', distribution: 'normal', seed: null },
};
export const ZEROS = { class_name: 'Zeros', config: {} };
