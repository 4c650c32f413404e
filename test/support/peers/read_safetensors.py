"""Prints what the safetensors library finds in a file: shape, type, sum and first value of each tensor, and metadata."""
import json
import sys

from safetensors import safe_open

with safe_open(sys.argv[1], framework="numpy") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
    found = {
        name: [list(t.shape), str(t.dtype), float(t.astype("f8").sum()), float(t.flat[0])] for name, t in tensors.items()
    }
    print(json.dumps({"metadata": file.metadata(), "tensors": found}))
