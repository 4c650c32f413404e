"""Prints what TensorBoard's own loader finds in a folder: scalars and histograms by tag."""
import json
import sys

from tensorboard.backend.event_processing import event_accumulator, event_file_loader
import glob, os

folder = sys.argv[1]
accumulator = event_accumulator.EventAccumulator(folder, size_guidance={"tensors": 0, "histograms": 0, "scalars": 0})
accumulator.Reload()
tags = accumulator.Tags()
scalars, histograms = {}, {}
for tag in tags["tensors"]:
    events = accumulator.Tensors(tag)
    plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
    from tensorboard.util import tensor_util

    values = [[event.step, tensor_util.make_ndarray(event.tensor_proto).tolist()] for event in events]
    (scalars if plugin == "scalars" else histograms)[tag] = values
for tag in tags["scalars"]:
    scalars[tag] = [[event.step, event.value] for event in accumulator.Scalars(tag)]
for tag in tags["histograms"]:
    histograms[tag] = [
        [event.step, [list(pair) for pair in zip(event.histogram_value.bucket_limit, event.histogram_value.bucket)]]
        for event in accumulator.Histograms(tag)
    ]
# The loader that `tensorboard` serves from checks every record's checksum.
events = [
    event
    for path in sorted(glob.glob(os.path.join(folder, "*tfevents*")))
    for event in event_file_loader.EventFileLoader(path).Load()
]
served = sorted(
    {(value.tag, value.metadata.plugin_data.plugin_name) for event in events for value in event.summary.value}
)
print(json.dumps({"scalars": scalars, "histograms": histograms, "served": served}))
