"""Keras' side of `npm run bench -- keras`: the training of `atelier train` with its defaults, by `fit` in one process with two threads.

Arguments: model, epochs, batch. Prints one line of JSON. FASHION_MNIST names the folder of the IDX files.
"""
import json
import os
import sys
import time

started = time.perf_counter()
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as Atelier: else only where the processor has AVX-512 VNNI and the like

import numpy as np
import tensorflow as tf

from networks import fashion_mnist, idx, keras_network

THREADS, VALIDATION_ROWS, L2 = 2, 5_000, 1e-4
name, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tf.config.threading.set_intra_op_parallelism_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)
tf.keras.utils.set_random_seed(1)
imported = time.perf_counter()

images, labels = fashion_mnist()
x, y = images.astype(np.float32) / 255, labels.astype(np.int32)
test_x = idx("t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255
test_y = idx("t10k-labels-idx1-ubyte", 8).astype(np.int32)
model = keras_network(name, L2)
model.compile(
    tf.keras.optimizers.Adam(1e-3),
    tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
ready = time.perf_counter()
held_out = (x[:VALIDATION_ROWS], y[:VALIDATION_ROWS])
history = model.fit(
    x[VALIDATION_ROWS:], y[VALIDATION_ROWS:], batch_size=batch, epochs=epochs, validation_data=held_out, verbose=0
).history
fitted = time.perf_counter()
_, accuracy = model.evaluate(test_x, test_y, batch_size=batch, verbose=0)
times = {"import": imported - started, "data": ready - imported, "fit": fitted - ready, "test": time.perf_counter() - fitted}
print(
    json.dumps(
        {
            "parameters": model.count_params(),
            "losses": history["loss"],
            "valAccuracies": history["val_accuracy"],
            "testAccuracy": accuracy,
            "seconds": times,
        }
    )
)
