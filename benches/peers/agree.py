#!/usr/bin/env python3
"""Checks that the scripts measure the same network: the same weights give the same logits in PyTorch and TensorFlow.

ONNX Runtime runs what PyTorch exported; this crate is compared with PyTorch by the tests in tests/golden/models.rs.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import torch

import tensorflow_network
import torch_network

PARAMETERS = {"nin": 1_992_166, "nin-d2l": 1_992_166, "nin-cifar": 957_386}


def difference(model, size):
    """The largest difference of two logits over the largest logit."""
    torch.manual_seed(0)
    theirs = torch_network.build(model).eval()
    ours = tensorflow_network.build(model, size)
    with torch.no_grad():
        for parameter in theirs.parameters():
            # He's variance, so that the images and not the biases decide the logits.
            parameter *= 6**0.5 if parameter.dim() > 1 else 1
    parameters = [parameter.detach().numpy() for parameter in theirs.parameters()]
    found = sum(parameter.size for parameter in parameters)
    assert found == PARAMETERS[model], f"{model}: expected {PARAMETERS[model]} parameters, found {found}"
    # O x C x KH x KW becomes KH x KW x C x O.
    ours.set_weights([p.transpose(2, 3, 1, 0) if p.ndim == 4 else p for p in parameters])
    images = np.random.default_rng(0).random((3, 1, size, size), dtype=np.float32)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(images)).numpy()
    actual = ours(tf.constant(images.transpose(0, 2, 3, 1)), training=False).numpy()
    spread = np.ptp(expected, axis=0).max()
    assert spread > 1e-2, f"{model}: the images do not matter: {expected}"
    return np.abs(actual - expected).max() / np.abs(expected).max()


def main():
    wrong = False
    for model, size in [("nin", 224), ("nin", 96), ("nin-d2l", 224), ("nin-cifar", 28), ("nin-cifar", 32)]:
        found = difference(model, size)
        print(f"{model} at {size}: logits differ by {found:.1e} of the largest")
        wrong |= not found < 1e-4
    sys.exit(wrong)


if __name__ == "__main__":
    main()
