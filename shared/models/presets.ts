import { GLOROT_UNIFORM, layer, ZEROS, type ImageShape, type Topology } from './layers.js';
import { resnet } from './resnet.js';

export type { ImageShape, Topology } from './layers.js';

/*
 * The study's three networks, as Keras topologies, and a residual one. Parameters: lenet 61,706, cnn 169,078,
 * dense 898,510, resnet 289,514 for 28x28x1 images and 10 classes.
 */

/** L2 strength the study uses on its dense kernels. */
export const STUDY_L2 = 1e-4;

type Activation = 'relu' | 'tanh' | 'softmax';

const sequential = (name: string, input: ImageShape, layers: Topology[]): Topology => {
  const [first, ...rest] = layers as [Topology, ...Topology[]];
  const withInput = {
    ...first,
    config: { ...first.config, batch_input_shape: [null, ...input], dtype: 'float32' },
  };
  return { class_name: 'Sequential', config: { name, layers: [withInput, ...rest] } };
};

const conv = (
  name: string,
  filters: number,
  kernelSize: number,
  padding: 'same' | 'valid',
  activation: Activation,
): Topology =>
  layer('Conv2D', name, {
    filters,
    kernel_size: [kernelSize, kernelSize],
    strides: [1, 1],
    padding,
    data_format: 'channels_last',
    dilation_rate: [1, 1],
    activation,
    use_bias: true,
    kernel_initializer: GLOROT_UNIFORM,
    bias_initializer: ZEROS,
  });

const dense = (name: string, units: number, activation: Activation): Topology =>
  layer('Dense', name, {
    units,
    activation,
    use_bias: true,
    kernel_initializer: GLOROT_UNIFORM,
    bias_initializer: ZEROS,
    kernel_regularizer: { class_name: 'L1L2', config: { l1: 0, l2: STUDY_L2 } },
  });

const pool = (className: 'MaxPooling2D' | 'AveragePooling2D', name: string): Topology =>
  layer(className, name, {
    pool_size: [2, 2],
    strides: [2, 2],
    padding: 'valid',
    data_format: 'channels_last',
  });

/** The study's "example": LeNet-5 with tanh and average pooling. */
function lenet(input: ImageShape, classes: number): Topology {
  return sequential('lenet', input, [
    conv('conv1', 6, 5, 'same', 'tanh'),
    pool('AveragePooling2D', 'pool1'),
    conv('conv2', 16, 5, 'valid', 'tanh'),
    pool('AveragePooling2D', 'pool2'),
    conv('conv3', 120, 5, 'valid', 'tanh'),
    layer('Flatten', 'flatten'),
    dense('dense1', 84, 'tanh'),
    dense('output', classes, 'softmax'),
  ]);
}

/** The study's VGG-like network. Its fourth convolution is 14x14 (the report's table says 5). */
function cnn(input: ImageShape, classes: number): Topology {
  return sequential('cnn', input, [
    conv('conv1', 8, 3, 'same', 'relu'),
    conv('conv2', 16, 5, 'same', 'relu'),
    pool('MaxPooling2D', 'pool1'),
    conv('conv3', 16, 3, 'same', 'relu'),
    conv('conv4', 32, 14, 'same', 'relu'),
    pool('MaxPooling2D', 'pool2'),
    conv('conv5', 32, 3, 'same', 'relu'),
    conv('conv6', 32, 7, 'valid', 'relu'),
    layer('Flatten', 'flatten'),
    dense('dense1', 84, 'relu'),
    dense('output', classes, 'softmax'),
  ]);
}

/** The study's dense network: three layers of 500. */
function denseNetwork(input: ImageShape, classes: number): Topology {
  return sequential('dense', input, [
    layer('Flatten', 'flatten'),
    dense('dense1', 500, 'relu'),
    dense('dense2', 500, 'relu'),
    dense('dense3', 500, 'relu'),
    dense('output', classes, 'softmax'),
  ]);
}

export const PRESETS = { lenet, cnn, dense: denseNetwork, resnet } as const satisfies Record<
  string,
  (input: ImageShape, classes: number) => Topology
>;
export type PresetName = keyof typeof PRESETS;

export const isPreset = (name: string): name is PresetName => Object.hasOwn(PRESETS, name);
