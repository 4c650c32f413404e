"""One of two workers of `npm run bench -- throughput`: PyTorch DDP (gloo) or TensorFlow's MultiWorkerMirroredStrategy.

Arguments: torch | tensorflow, model, rows of a batch for each worker, steps to warm up. One thread. Says `ready LOSS` (of the
first steps) when it is warm, and answers each line `run STEPS` on stdin with `result ROWS SECONDS LOSS` (rows of both workers, the loss of the last steps). torch:
RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set; tensorflow: TF_CONFIG is.
"""
import json
import os
import sys
import time

import numpy as np

from networks import fashion_mnist, keras_network, torch_network

framework, name = sys.argv[1], sys.argv[2]
rows, warm = int(sys.argv[3]), int(sys.argv[4])
SETTLE_STEPS = 2
images, labels = fashion_mnist()


def torch_worker():
    import torch
    import torch.distributed as distributed
    from torch import nn

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(torch_network(name))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loss = nn.CrossEntropyLoss()

    def step(x, y):
        inputs = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float() / 255
        optimizer.zero_grad()
        value = loss(model(inputs), torch.from_numpy(y.astype(np.int64)))
        value.backward()
        optimizer.step()
        return float(value.detach())

    return distributed.get_rank(), step, distributed.barrier


def tensorflow_worker():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as Atelier: else only where the processor has AVX-512 VNNI and the like
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    workers = strategy.num_replicas_in_sync
    with strategy.scope():
        model = keras_network(name)
        optimizer = tf.keras.optimizers.Adam(1e-3)
        optimizer.build(model.trainable_variables)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    @tf.function
    def distributed_step(x, y):
        def replica(x, y):
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(loss(y, model(tf.cast(x, tf.float32) / 255.0, training=True))) / (rows * workers)
            gradients = tape.gradient(value, model.trainable_variables)
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            optimizer.apply_gradients(list(zip(gradients, model.trainable_variables)))
            return value * workers

        return strategy.run(replica, (x, y))

    def step(x, y):
        return float(distributed_step(tf.constant(x), tf.constant(y.astype(np.int32))))

    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    return index, step, lambda: None


rank, step, barrier = torch_worker() if framework == "torch" else tensorflow_worker()
random = np.random.default_rng(rank)
losses = []


def run(steps):
    for _ in range(steps):
        chosen = random.integers(0, len(labels), rows)
        losses.append(step(images[chosen], labels[chosen]))
    barrier()


run(warm)
print("ready", np.mean(losses[:10]), flush=True)
for line in sys.stdin:
    run(SETTLE_STEPS)
    started, steps = time.perf_counter(), int(line.split()[1])
    run(steps)
    print("result", 2 * rows * steps, time.perf_counter() - started, np.mean(losses[-10:]), flush=True)
# Threads of gloo that are still there when the interpreter ends were seen to abort the process.
os._exit(0)
