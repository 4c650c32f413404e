"""Loads SavedModels as any TensorFlow user would and writes their probabilities.

usage: predict_saved_model.py HEIGHT WIDTH CHANNELS FOLDER...
Each folder has `saved_model.pb` and `images` (float32, 0 to 1) and gets `out` (float32, rows x classes).
"""
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf

shape = [int(size) for size in sys.argv[1:4]]
for folder in sys.argv[4:]:
    predict = tf.saved_model.load(folder).signatures["serving_default"]
    rows = np.fromfile(os.path.join(folder, "images"), dtype="<f4").reshape([-1, *shape])
    batches = [predict(images=tf.constant(rows[i : i + 999]))["probabilities"].numpy() for i in range(0, len(rows), 999)]
    np.concatenate(batches).astype("<f4").tofile(os.path.join(folder, "out"))
