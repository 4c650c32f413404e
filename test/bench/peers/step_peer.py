"""One contestant of `npm run bench -- step`: forward and backward in Keras' tf.function or in PyTorch.

Arguments: keras | torch, model, rows of a batch, threads. Says `ready LOSS`, answers each `run SECONDS` on stdin with
`result ROWS SECONDS`, as step-contestant.ts does. FASHION_MNIST names the folder of the IDX files.
"""
import os
import sys
import time

import numpy as np

from networks import fashion_mnist, keras_network, torch_network

framework, name, rows, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
images, labels = fashion_mnist()


def keras_step():
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as Atelier: else only where the processor has AVX-512 VNNI and the like
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = keras_network(name)
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
    model = torch_network(name)
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
