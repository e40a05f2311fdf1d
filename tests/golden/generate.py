#!/usr/bin/env python3
"""Golden vectors for the tests of this workspace, made with PyTorch 2.15.0.

How to run, from the root of the repository:

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install -r tests/golden/requirements.txt
    /tmp/golden/bin/python tests/golden/generate.py

It rewrites the .safetensors and .json files beside itself, takes two or three minutes
on one core, and refuses to run with another version of PyTorch, torchvision or
Pillow. README.md says what each file holds.

No random generator of PyTorch is used. Every number comes from `draw` in draws.py, so
that a reader in another language can rebuild the weights of the models (8 MB,
too large to commit) bit for bit.
"""

import argparse
import gzip
import pathlib

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from safetensors.numpy import save_file

from draws import HERE, write_json
from element_types import element_types
from models import COMPARED, MODELS, RESIDUAL, models
from networks import alexnet, lenet, mobilenet_cifar, nin, nin_cifar, resnet18, vgg11
from operations import operations
from optimizers import optimizers
from whitening import whitening

PINNED = {torch: "2.15.0", torchvision: "0.29.2", PIL: "13.0.0"}

for module, wanted in PINNED.items():
    found = module.__version__.split("+")[0]
    assert found == wanted, f"{module.__name__} is {found}, these vectors are pinned to {wanted}"


def layer_shapes():
    """Every module of each model: path in the nested Sequential, output shape, parameters."""
    result = []
    for name, make, channels, size in (
        ("nin", nin, 1, 224),
        ("nin-d2l", lambda: nin(stride=4), 1, 224),
        ("nin-cifar", nin_cifar, 3, 32),
        ("lenet", lenet, 1, 28),
        ("alexnet", alexnet, 1, 224),
        ("vgg11", vgg11, 1, 224),
        ("resnet18", resnet18, 1, 224),
        ("resnet18-cifar", lambda: resnet18(cifar=True), 1, 28),
        ("mobilenet-cifar", mobilenet_cifar, 1, 28),
    ):
        model, layers = make().eval(), []

        def record(module, path):
            def hook(_module, _inputs, output):
                layers.append({
                    "path": path,
                    "kind": type(module).__name__,
                    "output": list(output.shape[1:]),
                    "parameters": sum(p.numel() for p in module.parameters()),
                })
            module.register_forward_hook(hook)

        # Of residual networks the modules with parameters of their own, in the order in which they run.
        residual = name.startswith("resnet")
        for path, module in model.named_modules():
            if path and (not residual or list(module.parameters(recurse=False))):
                record(module, path)
        with torch.no_grad():
            model(torch.zeros(1, channels, size, size))
        if not residual:
            layers.sort(key=lambda layer: [int(part) for part in layer["path"].split(".")])
        result.append({"model": name, "input": [channels, size, size], "layers": layers})
    write_json("shapes.json", result)


def resizing(dataset):
    path = dataset / "t10k-images-idx3-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    assert raw[:4] == b"\0\0\x08\x03", path
    pictures = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    tensors, index = {}, []
    # Height and width before and after. Of the last three the middle one shrinks by exactly twice as much in height as in width.
    for (height, width), size, numbers in (
        ((28, 28), (96, 96), [0, 1, 2]),
        ((28, 28), (224, 224), [3]),
        ((28, 28), (32, 32), [0, 4, 5]),
        ((28, 28), (20, 20), [0, 1, 2]),
        ((20, 28), (30, 17), [0, 1]),
        ((28, 14), (13, 31), [0, 1]),
        ((28, 28), (9, 19), [0, 1, 2]),
        ((28, 28), (10, 19), [0, 1, 2]),
        ((28, 28), (10, 20), [0, 1, 2]),
    ):
        name = f"{height}x{width} to {size[0]}x{size[1]}"
        resize = torchvision.transforms.Resize(size)
        tensors[f"{name}.input"] = pictures[numbers, :height, :width].copy()
        tensors[f"{name}.output"] = np.stack(
            [np.asarray(resize(Image.fromarray(picture))) for picture in tensors[f"{name}.input"]]
        )
        assert tensors[f"{name}.output"].shape == (len(numbers), *size)
        index.append({"name": name, "source": path.name, "images": numbers})
    save_file(tensors, HERE / "resize.safetensors")
    write_json("resize.json", index)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--dataset", type=pathlib.Path,
                           default=HERE.parents[1] / "datasets" / "fashion-mnist-mini")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    operations()
    layer_shapes()
    optimizers()
    resizing(options.dataset)
    element_types()
    whitening()
    models(MODELS, "models")
    models(COMPARED, "compared")
    models(RESIDUAL, "residual", lr=0.0003)


if __name__ == "__main__":
    main()
