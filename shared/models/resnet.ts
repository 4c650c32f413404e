import { GLOROT_UNIFORM, HE_NORMAL, layer, ZEROS, type ImageShape, type Topology } from './layers.js';

/** Channels of the first convolution, which sees the image at its full size. */
const STEM_CHANNELS = 32;
/** Residual blocks; each stage halves height and width. */
const STAGES = [
  { channels: 64, blocks: 1 },
  { channels: 128, blocks: 1 },
] as const;

/** Keras' default of 0.99 would still remember the first weights after a short training. */
const MOVING_MOMENTUM = 0.9;

/** A graph of layers in the making: every method adds one and gives its name. */
class Graph {
  private readonly nodes: unknown[] = [];

  add(className: string, name: string, config: Record<string, unknown>, ...inputs: string[]): string {
    const inbound = inputs.length === 0 ? [] : [inputs.map((input) => [input, 0, 0, {}])];
    this.nodes.push({ name, ...layer(className, name, config), inbound_nodes: inbound });
    return name;
  }

  convolution(name: string, input: string, filters: number, kernelSize: number, stride: number): string {
    const config = {
      filters,
      kernel_size: [kernelSize, kernelSize],
      strides: [stride, stride],
      padding: 'same',
      data_format: 'channels_last',
      dilation_rate: [1, 1],
      activation: 'linear',
      use_bias: false,
      kernel_initializer: HE_NORMAL,
    };
    const convolved = this.add('Conv2D', name, config, input);
    const normalization = { axis: -1, momentum: MOVING_MOMENTUM, epsilon: 1e-3, center: true, scale: true };
    return this.add('BatchNormalization', `${name}_norm`, normalization, convolved);
  }

  relu(name: string, input: string): string {
    return this.add('Activation', name, { activation: 'relu' }, input);
  }

  topology(name: string, input: string, output: string): Topology {
    const config = {
      name,
      layers: this.nodes,
      input_layers: [[input, 0, 0]],
      output_layers: [[output, 0, 0]],
    };
    return { class_name: 'Functional', config };
  }
}

/** Two convolutions and what they are added to (He et al. 2016, figure 2; option B where the shape changes). */
function residualBlock(graph: Graph, name: string, input: string, channels: number, stride: number): string {
  const first = graph.relu(`${name}_relu1`, graph.convolution(`${name}_conv1`, input, channels, 3, stride));
  const second = graph.convolution(`${name}_conv2`, first, channels, 3, 1);
  const shortcut = stride === 1 ? input : graph.convolution(`${name}_shortcut`, input, channels, 1, stride);
  return graph.relu(`${name}_relu2`, graph.add('Add', `${name}_add`, {}, second, shortcut));
}

/** A small residual network with batch normalization. */
export function resnet(input: ImageShape, classes: number): Topology {
  const graph = new Graph();
  const pixels = graph.add('InputLayer', 'pixels', { batch_input_shape: [null, ...input], dtype: 'float32' });
  let last = graph.relu('stem_relu', graph.convolution('stem', pixels, STEM_CHANNELS, 3, 1));
  STAGES.forEach(({ channels, blocks }, stage) => {
    for (let block = 0; block < blocks; block++) {
      const name = `stage${stage + 1}_block${block + 1}`;
      last = residualBlock(graph, name, last, channels, block === 0 ? 2 : 1);
    }
  });
  const pooled = graph.add('GlobalAveragePooling2D', 'pool', { data_format: 'channels_last' }, last);
  const output = {
    units: classes,
    activation: 'softmax',
    use_bias: true,
    kernel_initializer: GLOROT_UNIFORM,
    bias_initializer: ZEROS,
  };
  return graph.topology('resnet', pixels, graph.add('Dense', 'output', output, pooled));
}
