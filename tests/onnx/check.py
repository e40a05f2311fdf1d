#!/usr/bin/env python3
"""Checks ONNX files that tests/onnx/mod.rs wrote into a folder: by onnx.checker with its inference of shapes, and in ONNX Runtime,
whose outputs must be ours to 1e-5 of the largest, for all images and for the first alone. A changed weight must be seen.

Needs onnx and onnxruntime: pip install -r tests/onnx/requirements.txt"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

TOLERANCE = 1e-5


def array(described):
    return numpy.array(described["numbers"], numpy.float32).reshape(described["shape"])


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": images})[0]


def difference(found, expected):
    """The largest, as a share of the largest number."""
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    return abs(found - expected).max() / abs(expected).max()


def check(path, images, expected):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    several = difference(run(model, images), expected)
    # What is summed over the batch has another value for one image.
    alone = difference(run(model, images[:1]), expected[:1]) if path.stem != "sums" else several
    assert max(several, alone) <= TOLERANCE, f"{several} and {alone} of the largest"
    weights = [own for own in model.graph.initializer if own.name.endswith("weight")]
    for weight in weights[:1]:
        changed = numpy_helper.to_array(weight).copy()
        changed += 0.1 * abs(changed).max()
        weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
        assert difference(run(model, images), expected) > TOLERANCE, "a changed weight is not seen"
    return max(several, alone)


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    for case in cases:
        found = check(folder / f"{case['name']}.onnx", array(case["input"]), array(case["output"]))
        print(f"{case['name']}: {found:.1e}")
    print(f"{len(cases)} files, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")


if __name__ == "__main__":
    main()
