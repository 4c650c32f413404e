"""One contestant of `npm run bench -- step`: forward and backward in Keras' tf.function or in PyTorch.

Arguments: keras | torch, model, rows of a batch, threads. Says `ready LOSS`, answers each `run SECONDS` on stdin with
`result ROWS SECONDS`, as step-contestant.ts does. FASHION_MNIST names the folder of the IDX files.
"""
import gzip
import os
import sys
import time

import numpy as np

framework, name, rows, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def idx(file, offset):
    path = os.path.join(os.environ["FASHION_MNIST"], file)
    data = open(path, "rb").read() if os.path.exists(path) else gzip.open(path + ".gz").read()
    return np.frombuffer(data, np.uint8, offset=offset)


images = idx("train-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1)
labels = idx("train-labels-idx1-ubyte", 8)

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
activation, pooling, network = NETWORKS[name]


def keras_step():
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    L = tf.keras.layers
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
            layers.append(L.Dense(part, activation=None if last else activation))
    model = tf.keras.Sequential(layers)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(tf.cast(x, tf.float32) / 255.0, training=True))
        return value, tape.gradient(value, model.trainable_variables)

    def run(x, y):
        value, gradients = step(tf.constant(x), tf.constant(y.astype(np.int32)))
        for gradient in gradients:
            gradient.numpy()
        return float(value)

    return run


def torch_step():
    import torch
    from torch import nn

    torch.set_num_threads(threads)
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
    model = nn.Sequential(*layers)
    loss = nn.CrossEntropyLoss()

    def run(x, y):
        inputs = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float() / 255
        model.zero_grad()
        value = loss(model(inputs), torch.from_numpy(y.astype(np.int64)))
        value.backward()
        return float(value)

    return run


step = keras_step() if framework == "keras" else torch_step()
position = 0


def next_step():
    global position
    start = position * rows % (len(labels) - rows)
    position += 1
    return step(images[start : start + rows], labels[start : start + rows])


print("ready", next_step(), flush=True)
for line in sys.stdin:
    seconds = float(line.split()[1])
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        next_step()
        count += 1
    print("result", count * rows, time.perf_counter() - started, flush=True)
