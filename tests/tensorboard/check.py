#!/usr/bin/env python3
"""Reads files of events that `train --tensorboard` wrote (tests/cli/tensorboard.rs) as TensorBoard does: a folder of them, a list of
the scalars that must come out, [tag, step, value] each, and the steps of the images, [5, 10].

Needs TensorBoard: pip install -r tests/tensorboard/requirements.txt"""

import json
import pathlib
import sys

from tensorboard.backend.event_processing import event_accumulator

PNG = b"\x89PNG\r\n\x1a\n"


def main():
    folder, expected = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
    steps = json.loads(sys.argv[3])
    keep_all = {event_accumulator.SCALARS: 0, event_accumulator.IMAGES: 0}
    events = event_accumulator.EventAccumulator(str(folder), size_guidance=keep_all).Reload()
    tags = events.Tags()
    found = [[tag, one.step, one.value] for tag in tags["scalars"] for one in events.Scalars(tag)]
    assert sorted(found) == sorted(expected), f"found {sorted(found)}, expected {sorted(expected)}"
    assert len(tags["images"]) == 10, tags["images"]
    for tag in tags["images"]:
        assert [image.step for image in events.Images(tag)] == steps, tag
        for image in events.Images(tag):
            assert image.encoded_image_string.startswith(PNG) and image.width == image.height == 224, tag
    nodes = events.Graph().node
    assert {"input", "0/0/Conv2d", "0/0/weight"} <= {node.name for node in nodes}
    assert [dim.size for dim in nodes[0].attr["_output_shapes"].list.shape[0].dim] == [1, 1, 14, 14]
    print(f"{len(found)} scalars, {len(tags['images'])} tags of images, {len(nodes)} nodes")


if __name__ == "__main__":
    main()
