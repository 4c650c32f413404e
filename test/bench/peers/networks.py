"""The study's networks in Keras and in PyTorch, and Fashion-MNIST. FASHION_MNIST names the folder of the IDX files."""
import gzip
import os

import numpy as np

# kernel or units, padding; "p" pools, "f" flattens. The last dense layer gives logits.
NETWORKS = {
    "lenet": ("tanh", "avg", [(6, 5, "same"), "p", (16, 5, "valid"), "p", (120, 5, "valid"), "f", 84, 10]),
    "cnn": (
        "relu",
        "max",
        [(8, 3, "same"), (16, 5, "same"), "p", (16, 3, "same"), (32, 14, "same"), "p", (32, 3, "same"), (32, 7, "valid"), "f", 84, 10],
    ),
    "dense": ("relu", "max", ["f", 500, 500, 500, 10]),
}


def idx(file, offset):
    path = os.path.join(os.environ["FASHION_MNIST"], file)
    data = open(path, "rb").read() if os.path.exists(path) else gzip.open(path + ".gz").read()
    return np.frombuffer(data, np.uint8, offset=offset)


def fashion_mnist():
    """Training images [n, 28, 28, 1] and labels [n], uint8."""
    return idx("train-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1), idx("train-labels-idx1-ubyte", 8)


def keras_network(name, l2=None):
    import tensorflow as tf

    L = tf.keras.layers
    activation, pooling, network = NETWORKS[name]
    layers = [L.Input((28, 28, 1))]
    for i, part in enumerate(network):
        last = i == len(network) - 1
        if part == "p":
            layers.append(L.MaxPool2D(2) if pooling == "max" else L.AveragePooling2D(2))
        elif part == "f":
            layers.append(L.Flatten())
        elif isinstance(part, tuple):
            layers.append(L.Conv2D(part[0], part[1], padding=part[2], activation=activation))
        else:
            regularizer = None if l2 is None else tf.keras.regularizers.L2(l2)
            layers.append(L.Dense(part, activation=None if last else activation, kernel_regularizer=regularizer))
    return tf.keras.Sequential(layers)


def torch_network(name):
    from torch import nn

    activation, pooling, network = NETWORKS[name]
    act = nn.Tanh if activation == "tanh" else nn.ReLU
    layers, channels, size = [], 1, 28
    for i, part in enumerate(network):
        last = i == len(network) - 1
        if part == "p":
            layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
            size //= 2
        elif part == "f":
            layers.append(nn.Flatten())
            channels, size = channels * size * size, 1
        elif isinstance(part, tuple):
            layers += [nn.Conv2d(channels, part[0], part[1], padding=part[2]), act()]
            channels = part[0]
            size = size if part[2] == "same" else size - part[1] + 1
        else:
            layers += [nn.Linear(channels, part)] + ([] if last else [act()])
            channels = part
    return nn.Sequential(*layers)
