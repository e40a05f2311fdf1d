#!/usr/bin/env python3
"""Golden vectors for the tests of this workspace, made with PyTorch 2.15.0.

How to run, from the root of the repository:

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install -r tests/golden/requirements.txt
    /tmp/golden/bin/python tests/golden/generate.py

It rewrites the .safetensors and .json files beside itself, takes two or three minutes
on one core, and refuses to run with another version of PyTorch, torchvision or
Pillow. README.md says what each file holds.

No random generator of PyTorch is used. Every number comes from `draw` below, so
that a reader in another language can rebuild the weights of the models (8 MB,
too large to commit) bit for bit.
"""

import argparse
import gzip
import json
import math
import pathlib

import numpy as np
import PIL
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.numpy import save_file
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
PINNED = {torch: "2.15.0", torchvision: "0.29.2", PIL: "13.0.0"}

for module, wanted in PINNED.items():
    found = module.__version__.split("+")[0]
    assert found == wanted, f"{module.__name__} is {found}, these vectors are pinned to {wanted}"


# ---------------------------------------------------------------- numbers

U64 = np.uint64
GOLDEN = U64(0x9E3779B97F4A7C15)


def mix(z):
    """The finalizer of SplitMix64 on an array of u64 (wrapping arithmetic)."""
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


def draw(stream, index):
    """64 random bits for each element of `index`, a pure function of both arguments."""
    with np.errstate(over="ignore"):
        key = mix(np.array([stream + 1], dtype=U64) * GOLDEN)
        return mix(key + (np.asarray(index, dtype=U64) + U64(1)) * GOLDEN)


def unit(stream, count):
    """float32 in [0, 1): 24 bits, exact."""
    bits = draw(stream, np.arange(count)) >> U64(40)
    return bits.astype(np.float32) * np.float32(2.0**-24)


def symmetric(stream, count):
    """float32 in [-1, 1): 24 bits, exact."""
    bits = (draw(stream, np.arange(count)) >> U64(40)).astype(np.int64) - 2**23
    return bits.astype(np.float32) * np.float32(2.0**-23)


def fingerprint(array):
    """Sum of bits[i] * (2i + 1) modulo 2^64 over the float32 bit patterns, in hexadecimal."""
    bits = np.ascontiguousarray(array, dtype=np.float32).ravel().view(np.uint32).astype(U64)
    with np.errstate(over="ignore"):
        total = (bits * (np.arange(bits.size, dtype=U64) * U64(2) + U64(1))).sum(dtype=U64)
    return f"{int(total):016x}"


def write_json(name, value):
    """One entry of the outermost list per line: small, and a readable diff."""
    if isinstance(value, list):
        text = "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]\n"
    else:
        text = json.dumps(value, indent=1) + "\n"
    (HERE / name).write_text(text)


# ---------------------------------------------------------------- single operations

class Cases:
    """Collects the cases. Computed in float64 from float32 inputs, stored rounded to float32."""

    def __init__(self):
        self.index, self.tensors, self.stream = [], {}, 10_000

    def values(self, *shape, scale=1.0):
        self.stream += 1
        data = symmetric(self.stream, math.prod(shape)) * np.float32(scale)
        return data.reshape(shape)

    def quantised(self, *shape, levels=4, low=-2):
        """Few different values, so that windows hold many ties."""
        self.stream += 1
        bits = draw(self.stream, np.arange(math.prod(shape))) % U64(levels)
        return (bits.astype(np.float32) + np.float32(low)).reshape(shape)

    def add(self, name, op, params, run, inputs, labels=None, forward_only=False):
        """`inputs` maps input/weight/bias/input2 to arrays; `run` gets them as float64 tensors."""
        assert name not in {case["name"] for case in self.index}, name
        leaves = {
            key: torch.from_numpy(array.astype(np.float64)).requires_grad_(not forward_only)
            for key, array in inputs.items()
        }
        extra = [] if labels is None else [torch.from_numpy(labels)]
        output = run(*leaves.values(), *extra)
        store = {key: array for key, array in inputs.items()}
        store["output"] = output.detach().numpy()
        if not forward_only:
            upstream = self.values(*output.shape)
            store["grad_output"] = upstream
            output.backward(torch.from_numpy(upstream.astype(np.float64)))
            for key, leaf in leaves.items():
                store[f"grad_{key}"] = leaf.grad.numpy()
        for key, array in store.items():
            self.tensors[f"{name}.{key}"] = np.array(array, dtype=np.float32, order="C")
        if labels is not None:
            self.tensors[f"{name}.labels"] = labels
        assert "." not in name, name
        entry = {"name": name, "op": op, "params": params}
        if forward_only:
            entry["forward_only"] = True
        self.index.append(entry)


def pair(value):
    return list(value) if isinstance(value, (tuple, list)) else [value, value]


def conv_cases(cases):
    #  name                       N   C   H   W   O   kernel  stride  padding dilation groups bias
    rows = [
        ("11x11_s3",               2,  1, 26, 31,  4, 11,     3,      0,      1,      1, True),
        ("11x11_s4",               1,  2, 27, 33,  3, 11,     4,      0,      1,      1, True),
        ("11x11_s3_remainder",     1,  1, 22, 28,  2, 11,     3,      0,      1,      1, False),
        ("5x5_p2",                 2,  3,  9, 11,  4, 5,      1,      2,      1,      1, True),
        ("5x5_p2_wide",            1, 17, 13, 10, 18, 5,      1,      2,      1,      1, True),
        ("5x5_p0",                 1,  2,  8,  7,  3, 5,      1,      0,      1,      1, False),
        ("5x5_smaller_than_tile",  2,  3,  2,  3,  2, 5,      1,      2,      1,      1, True),
        ("3x3_p1",                 2,  4,  7, 10,  5, 3,      1,      1,      1,      1, True),
        ("3x3_p1_wide",            1, 18, 13, 17, 20, 3,      1,      1,      1,      1, True),
        ("3x3_p1_1x1_image",       2,  3,  1,  1,  4, 3,      1,      1,      1,      1, True),
        ("3x3_p0",                 1,  3,  6,  9,  2, 3,      1,      0,      1,      1, False),
        ("3x3_p2",                 1,  2,  5,  6,  3, 3,      1,      2,      1,      1, True),
        ("3x3_s2_p1",              2,  3,  8,  9,  4, 3,      2,      1,      1,      1, True),
        ("1x1",                    2,  5,  4,  7,  6, 1,      1,      0,      1,      1, True),
        ("1x1_no_bias",            3,  4,  3,  5,  2, 1,      1,      0,      1,      1, False),
        ("1x1_p1",                 1,  2,  3,  4,  3, 1,      1,      1,      1,      1, True),
        ("1x1_s2",                 2,  3,  7,  8,  4, 1,      2,      0,      1,      1, True),
        ("dilation2",              2,  3,  9, 10,  4, 3,      1,      2,      2,      1, True),
        ("dilation_asymmetric",    1,  2, 10, 11,  3, 3,      2,      (1, 3), (2, 3), 1, True),
        ("groups2",                2,  4,  6,  7,  6, 3,      1,      1,      1,      2, True),
        ("groups2_1x1",            2,  4,  5,  3,  6, 1,      1,      0,      1,      2, True),
        ("groups3_s2_no_bias",     1,  6,  7,  8,  3, 3,      2,      1,      1,      3, False),
        ("depthwise",              2,  4,  6,  8,  4, 3,      1,      1,      1,      4, True),
        ("depthwise_multiplier2",  1,  3,  7,  6,  6, 5,      2,      2,      1,      3, True),
        ("asymmetric",             2,  3,  8, 11,  4, (2, 5), (1, 3), (1, 2), 1,      1, True),
        ("asymmetric_no_bias",     1,  2,  9,  7,  3, (4, 1), (3, 2), (2, 0), (1, 2), 1, False),
        ("1x7",                    1,  3,  5,  9,  2, (1, 7), 1,      (0, 3), 1,      1, True),
        ("whole_image",            2,  3,  5,  4,  2, (5, 4), 1,      0,      1,      1, True),
    ]
    for name, n, c, h, w, o, kernel, stride, padding, dilation, groups, bias in rows:
        kernel, stride, padding, dilation = map(pair, (kernel, stride, padding, dilation))
        inputs = {"input": cases.values(n, c, h, w), "weight": cases.values(o, c // groups, *kernel)}
        if bias:
            inputs["bias"] = cases.values(o)
        cases.add(
            f"conv2d_{name}",
            "conv2d",
            {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation,
             "groups": groups, "bias": bias},
            lambda x, weight, b=None, s=stride, p=padding, d=dilation, g=groups: F.conv2d(
                x, weight, b, s, p, d, g
            ),
            inputs,
        )


def pool_cases(cases):
    def maximum(name, data, kernel, stride, padding=0, ceil=False, **more):
        kernel, stride, padding = map(pair, (kernel, stride, padding))
        cases.add(
            f"max_pool2d_{name}",
            "max_pool2d",
            {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil},
            lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil),
            {"input": data},
            **more,
        )

    maximum("3_2", cases.values(2, 3, 9, 11), 3, 2)
    maximum("3_2_remainder", cases.values(2, 2, 8, 10), 3, 2)
    maximum("3_2_ceil", cases.values(2, 2, 8, 10), 3, 2, ceil=True)
    maximum("3_2_ceil_exact", cases.values(1, 2, 7, 9), 3, 2, ceil=True)
    maximum("2_2", cases.values(2, 2, 6, 8), 2, 2)
    maximum("2_2_remainder", cases.values(1, 2, 7, 5), 2, 2)
    maximum("3_2_p1", cases.values(2, 2, 7, 8), 3, 2, 1)
    maximum("3_2_p1_ceil", cases.values(1, 3, 8, 8), 3, 2, 1, ceil=True)
    maximum("3_1_p1", cases.values(1, 2, 5, 6), 3, 1, 1)
    maximum("2_3_gaps", cases.values(1, 2, 8, 9), 2, 3)
    maximum("2_3_ceil_window_dropped", cases.values(1, 2, 5, 6), 2, 3, 1, ceil=True)
    maximum("asymmetric", cases.values(2, 2, 9, 10), (2, 4), (3, 1), (1, 2))
    maximum("negative_p1", cases.values(1, 2, 6, 7) - np.float32(1.5), 3, 2, 1)
    maximum("ties_3_2", cases.quantised(2, 3, 9, 11), 3, 2)
    maximum("ties_2_2", cases.quantised(2, 2, 6, 8, levels=2), 2, 2)
    maximum("ties_3_2_p1_ceil", cases.quantised(2, 2, 8, 9, levels=3), 3, 2, 1, ceil=True)
    maximum("ties_all_equal", np.zeros((1, 2, 7, 7), np.float32), 3, 2)
    poisoned = cases.values(1, 2, 7, 7)
    poisoned[0, 0, 2, 3] = poisoned[0, 1, 0, 0] = np.nan
    poisoned[0, 1, 5, 5] = -np.inf
    poisoned[0, 1, 3, 4] = np.inf
    maximum("nan", poisoned, 3, 2, forward_only=True)

    def average(name, data, kernel, stride, padding=0, ceil=False, include=True):
        kernel, stride, padding = map(pair, (kernel, stride, padding))
        cases.add(
            f"avg_pool2d_{name}",
            "avg_pool2d",
            {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil,
             "count_include_pad": include},
            lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, include),
            {"input": data},
        )

    average("2_2", cases.values(2, 2, 6, 8), 2, 2)
    average("3_2", cases.values(2, 3, 8, 9), 3, 2)
    average("3_2_ceil", cases.values(2, 2, 8, 10), 3, 2, ceil=True)
    average("3_2_ceil_exclude", cases.values(2, 2, 8, 10), 3, 2, ceil=True, include=False)
    average("3_2_p1", cases.values(2, 2, 7, 8), 3, 2, 1)
    average("3_2_p1_exclude", cases.values(2, 2, 7, 8), 3, 2, 1, include=False)
    average("3_2_p1_ceil", cases.values(1, 2, 8, 6), 3, 2, 1, ceil=True)
    average("3_2_p1_ceil_exclude", cases.values(1, 2, 8, 6), 3, 2, 1, ceil=True, include=False)
    average("3_1_p1_exclude", cases.values(1, 2, 4, 5), 3, 1, 1, include=False)
    average("asymmetric", cases.values(2, 2, 9, 10), (2, 5), (3, 1), (1, 2))
    average("asymmetric_exclude", cases.values(2, 2, 9, 10), (2, 5), (3, 1), (1, 2), include=False)
    average("2_3_gaps_ceil", cases.values(1, 2, 8, 9), 2, 3, ceil=True)
    average("2_3_ceil_window_dropped", cases.values(1, 2, 5, 6), 2, 3, 1, ceil=True)

    def adaptive(name, data, size):
        cases.add(
            f"adaptive_avg_pool2d_{name}",
            "adaptive_avg_pool2d",
            {"output_size": list(size)},
            lambda x: F.adaptive_avg_pool2d(x, size),
            {"input": data},
        )

    adaptive("1x1", cases.values(2, 3, 5, 7), (1, 1))
    adaptive("1x1_of_1x1", cases.values(2, 3, 1, 1), (1, 1))
    adaptive("3x2", cases.values(2, 2, 7, 5), (3, 2))
    adaptive("3x2_divides", cases.values(1, 2, 6, 8), (3, 2))
    adaptive("larger_than_input", cases.values(1, 2, 3, 2), (5, 3))


def elementwise_cases(cases):
    for name, function in (("relu", torch.relu), ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)):
        cases.add(f"{name}_4d", name, {}, function, {"input": cases.values(2, 3, 4, 5, scale=3.0)})
        cases.add(f"{name}_2d", name, {}, function, {"input": cases.values(3, 7, scale=5.0)})
        edge = np.array([0.0, -0.0, 1e-30, -1e-30, 30.0, -30.0, 200.0, -200.0], np.float32)
        cases.add(f"{name}_edges", name, {}, function, {"input": edge})
        poisoned = np.array([np.nan, np.inf, -np.inf, 1.0, -1.0], np.float32)
        cases.add(f"{name}_nan", name, {}, function, {"input": poisoned}, forward_only=True)
    for label, factor in (("negative", -1.5), ("quarter", 0.25)):
        cases.add(f"scale_{label}", "scale", {"factor": factor}, lambda x, f=factor: x * f,
                  {"input": cases.values(2, 3, 2, 2)})

    shapes = {
        "same": ((2, 3, 4, 5), (2, 3, 4, 5)),
        "channel": ((2, 3, 4, 5), (1, 3, 1, 1)),
        "channel_short": ((2, 3, 4, 5), (3, 1, 1)),
        "row": ((4, 5), (5,)),
        "column": ((4, 5), (4, 1)),
        "scalar": ((2, 3, 4), (1,)),
        "both": ((2, 1, 4, 1), (3, 1, 5)),
        "left": ((3,), (2, 4, 3)),
    }
    for name, function in (("add", torch.add), ("mul", torch.mul)):
        for label, (left, right) in shapes.items():
            cases.add(f"{name}_{label}", name, {}, function,
                      {"input": cases.values(*left), "input2": cases.values(*right)})


def reduction_cases(cases):
    for name, function in (("sum", torch.sum), ("mean", torch.mean)):
        for shape in ((2, 3, 4, 5), (7,)):
            cases.add(f"{name}_all_{len(shape)}d", name,
                      {"axes": list(range(len(shape))), "keepdim": False},
                      function, {"input": cases.values(*shape)})
        for shape, axes, keep in (
            ((2, 3, 4, 5), (0,), False),
            ((2, 3, 4, 5), (1,), True),
            ((2, 3, 4, 5), (2, 3), False),
            ((2, 3, 4, 5), (2, 3), True),
            ((2, 3, 4, 5), (0, 2, 3), False),
            ((4, 6), (1,), False),
            ((4, 6), (0,), True),
        ):
            label = "".join(map(str, axes)) + ("_keep" if keep else "")
            cases.add(f"{name}_{len(shape)}d_axes{label}", name,
                      {"axes": list(axes), "keepdim": keep},
                      lambda x, a=axes, k=keep, f=function: f(x, dim=a, keepdim=k),
                      {"input": cases.values(*shape)})


def classifier_cases(cases):
    for n, inputs, outputs, bias in ((3, 5, 4, True), (1, 7, 2, True), (4, 3, 6, False), (9, 33, 17, True)):
        tensors = {"input": cases.values(n, inputs), "weight": cases.values(outputs, inputs)}
        if bias:
            tensors["bias"] = cases.values(outputs)
        cases.add(f"linear_{n}x{inputs}_to_{outputs}" + ("" if bias else "_no_bias"), "linear",
                  {"in_features": inputs, "out_features": outputs, "bias": bias},
                  F.linear, tensors)

    for shape, axis in (((4, 10), 1), ((3, 5), 0), ((2, 3, 2, 4), 1), ((2, 3, 2, 4), 3), ((6,), 0)):
        cases.add(f"softmax_{'x'.join(map(str, shape))}_axis{axis}", "softmax", {"axis": axis},
                  lambda x, a=axis: F.softmax(x, dim=a), {"input": cases.values(*shape, scale=4.0)})
    large = cases.values(3, 5, scale=4.0)
    large[0] += 1000
    large[1] -= 1000
    large[2, 3] = 500
    cases.add("softmax_large", "softmax", {"axis": 1}, lambda x: F.softmax(x, dim=1), {"input": large})

    for suffix, smoothing in (("", 0.0), ("_smoothed", 0.1)):
        for name, data in (
            ("4x10", cases.values(4, 10, scale=3.0)),
            ("1x3", cases.values(1, 3)),
            ("7x5", cases.values(7, 5, scale=6.0)),
            ("large", large.copy()),
        ):
            count, classes = data.shape
            labels = (draw(cases.stream, np.arange(count)) % U64(classes)).astype(np.int64)
            cases.add(f"cross_entropy_{name}{suffix}", "cross_entropy",
                      {"reduction": "mean", "label_smoothing": smoothing},
                      lambda x, y, s=smoothing: F.cross_entropy(x, y, label_smoothing=s),
                      {"input": data}, labels=labels)


def operations():
    cases = Cases()
    conv_cases(cases)
    pool_cases(cases)
    elementwise_cases(cases)
    reduction_cases(cases)
    classifier_cases(cases)
    save_file(cases.tensors, HERE / "ops.safetensors")
    write_json("cases.json", cases.index)
    print(f"ops: {len(cases.index)} cases")


# ---------------------------------------------------------------- whole models

def block(*convolutions):
    """A nested Sequential: a ReLU after each convolution (in, out, kernel, stride, padding)."""
    layers = []
    for arguments in convolutions:
        layers += [nn.Conv2d(*arguments), nn.ReLU()]
    return nn.Sequential(*layers)


def nin_block(inputs, outputs, kernel, stride, padding):
    return block((inputs, outputs, kernel, stride, padding),
                 (outputs, outputs, 1, 1, 0), (outputs, outputs, 1, 1, 0))


def end(blocks, maps, head, classes=10):
    """What the class maps go through; `maps` pixels each, for a fully connected head."""
    layers = {
        "gap": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        "fc": lambda: [nn.Flatten(), nn.Linear(classes * maps, classes)],
        "fc-dropout": lambda: [nn.Flatten(), nn.Dropout(0.0), nn.Linear(classes * maps, classes)],
    }
    return nn.Sequential(*blocks, *layers[head]())


def nin(channels=1, classes=10, stride=3, head="gap", maps=None):
    blocks = (
        nin_block(channels, 96, 11, stride, 0), nn.MaxPool2d(3, 2),
        nin_block(96, 256, 5, 1, 2), nn.MaxPool2d(3, 2),
        nin_block(256, 384, 3, 1, 1), nn.MaxPool2d(3, 2),
        nn.Dropout(0.0),
        nin_block(384, classes, 3, 1, 1),
    )
    return end(blocks, maps, head, classes)


def nin_cifar(channels=3, classes=10, head="gap", maps=None):
    blocks = (
        block((channels, 192, 5, 1, 2), (192, 160, 1, 1, 0), (160, 96, 1, 1, 0)),
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(0.0),
        block((96, 192, 5, 1, 2), (192, 192, 1, 1, 0), (192, 192, 1, 1, 0)),
        nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(0.0),
        block((192, 192, 3, 1, 1), (192, 192, 1, 1, 0), (192, classes, 1, 1, 0)),
    )
    return end(blocks, maps, head, classes)


def lenet(pixels=5 * 5, narrow=1):
    a, b, c, d = (max(1, width // narrow) for width in (6, 16, 120, 84))
    return nn.Sequential(
        nn.Conv2d(1, a, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2, 2),
        nn.Conv2d(a, b, 5), nn.Sigmoid(), nn.AvgPool2d(2, 2),
        nn.Flatten(), nn.Linear(b * pixels, c), nn.Sigmoid(),
        nn.Linear(c, d), nn.Sigmoid(), nn.Linear(d, 10),
    )


def classifier(features, hidden):
    return (nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, 10))


def alexnet(pixels=5 * 5, narrow=1):
    a, b, c = (max(1, width // narrow) for width in (96, 256, 384))
    return nn.Sequential(
        nn.Conv2d(1, a, 11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        *classifier(b * pixels, max(1, 4096 // narrow)),
    )


def vgg11(pixels=7 * 7, narrow=1):
    blocks, inputs = [], 1
    for convolutions, width in ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)):
        layers = []
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, max(1, width // narrow), 3, padding=1), nn.ReLU()]
            inputs = max(1, width // narrow)
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2, 2)))
    return nn.Sequential(*blocks, *classifier(inputs * pixels, max(1, 4096 // narrow)))


BIAS_RANGE = np.float32(0.1)
IMAGE_BLOCK = 8
PERTURBATION = 5e-6
TRIALS = 5


def weights(model):
    """name -> float32 array for parameter number p of the state dict, from stream p.

    Weight: float32(sqrt(3 / fan_in)) * symmetric, one float32 multiplication.
    Bias: float32(0.1) * unit, one float32 multiplication: small and positive.
    He's bound sqrt(6 / fan_in) makes ten steps on so few images chaotic: one ReLU that
    falls on the other side of zero by rounding moved the last losses by 1 %.
    """
    result = {}
    for stream, (name, parameter) in enumerate(model.state_dict().items()):
        shape, count = tuple(parameter.shape), parameter.numel()
        if len(shape) > 1:
            bound = np.float32(math.sqrt(3.0 / math.prod(shape[1:])))
            data = bound * symmetric(stream, count)
        else:
            data = BIAS_RANGE * unit(stream, count)
        assert data.dtype == np.float32
        result[name] = data.reshape(shape)
    return result


def images(seed, n, c, h, w):
    """float32 in [-1, 1): squares of 8 x 8 pixels (3/4) with fine noise (1/4), exact."""
    across, down = -(-w // IMAGE_BLOCK), -(-h // IMAGE_BLOCK)
    ni, ci, yi, xi = np.indices((n, c, h, w))
    coarse = ((ni * c + ci) * down + yi // IMAGE_BLOCK) * across + xi // IMAGE_BLOCK
    fine = ((ni * c + ci) * h + yi) * w + xi
    total = U64(3) * (draw(1000 + 2 * seed, coarse) >> U64(42)) + (draw(1001 + 2 * seed, fine) >> U64(42))
    return (total.astype(np.int64) - 2**23).astype(np.float32) * np.float32(2.0**-23)


def sample_stride(count):
    """Smallest s >= ceil(count / 256) that has no divisor in common with count."""
    stride = max(1, -(-count // 256))
    while math.gcd(stride, count) != 1:
        stride += 1
    return stride


def sample(array):
    flat = np.ascontiguousarray(array).ravel()
    return flat[:: sample_stride(flat.size)].copy()


def train(make, initial, batch, labels, dtype, recipe):
    """Logits, loss and gradients at the first weights, then the losses of ten SGD steps."""
    model = make().to(dtype).train()
    model.load_state_dict({name: torch.from_numpy(data).to(dtype) for name, data in initial.items()})
    named = dict(model.named_parameters())
    optimiser = torch.optim.SGD(
        [
            {"params": [p for p in named.values() if p.ndim > 1], "weight_decay": recipe["weight_decay"]},
            {"params": [p for p in named.values() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=recipe["lr"],
        momentum=recipe["momentum"],
    )
    x, y = torch.from_numpy(batch).to(dtype), torch.from_numpy(labels)
    result = {"losses": []}
    for step in range(recipe["steps"]):
        optimiser.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        if step == 0:
            result["logits"] = logits.detach().numpy().copy()
            result["grads"] = {name: p.grad.numpy().copy() for name, p in named.items()}
        result["losses"].append(loss.item())
        optimiser.step()
    with torch.no_grad():
        logits = model(x)
        result["final_loss"] = F.cross_entropy(logits, y).item()
        flatten = next(i for i, layer in enumerate(model) if isinstance(layer, nn.Flatten))
        is_average = isinstance(model[flatten - 1], nn.AdaptiveAvgPool2d)
        last_map = model[: flatten - 1 if is_average else flatten](x)
    result["final"] = {name: p.detach().numpy().copy() for name, p in named.items()}
    result["last_map"] = list(last_map.shape[2:])
    return result


def perturbed(initial, trial):
    """The weights with a relative error of up to PERTURBATION, uniform: an inexact engine."""
    result = {}
    for number, (name, data) in enumerate(initial.items()):
        noise = symmetric(30_000 + 100 * trial + number, data.size).astype(np.float64)
        result[name] = data * (1.0 + PERTURBATION * noise.reshape(data.shape))
    return result


def relative(a, b):
    """Largest difference over the largest value of the reference `b`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / np.abs(b).max())


MODELS = [
    # name, model of the library, constructor, input shape, labels, seed of the images
    # (of a dozen or two seeds, the one whose gradients change least under `perturbed`)
    ("nin", "nin", nin, (4, 1, 82, 82), [3, 7, 0, 9], 20),
    ("nin-d2l", "nin-d2l", lambda: nin(stride=4), (4, 1, 104, 112), [1, 8, 4, 6], 6),
    ("nin-cifar", "nin-cifar", nin_cifar, (4, 3, 32, 32), [5, 2, 9, 4], 6),
    ("nin-cifar-28", "nin-cifar", lambda: nin_cifar(channels=1), (2, 1, 28, 28), [6, 0], 5),
]

# The networks that NiN is compared with, and NiN with a fully connected head. AlexNet and VGG-11 have forty
# million parameters, so they are copies with every width but the input divided by `narrow`.
COMPARED = [
    # name, model of the library, constructor, input shape, labels, seed of the images, head, narrow
    ("lenet", "lenet", lenet, (4, 1, 28, 28), [3, 7, 0, 9], 7, None, 1),
    ("alexnet-narrow", "alexnet", lambda: alexnet(pixels=2, narrow=8), (4, 1, 71, 103), [1, 8, 4, 6], 4, None, 8),
    ("vgg11-narrow", "vgg11", lambda: vgg11(pixels=2, narrow=4), (4, 1, 32, 67), [5, 2, 9, 4], 6, None, 4),
    ("nin-fc", "nin", lambda: nin(head="fc", maps=6), (4, 1, 82, 118), [6, 0, 2, 5], 4, "fc", 1),
    ("nin-d2l-fc", "nin-d2l", lambda: nin(stride=4, head="fc-dropout", maps=4), (4, 1, 104, 112), [1, 8, 4, 6], 0,
     "fc-dropout", 1),
    ("nin-cifar-fc", "nin-cifar", lambda: nin_cifar(channels=1, head="fc-dropout", maps=49), (2, 1, 28, 28), [6, 0],
     1, "fc-dropout", 1),
]


def models(table, file):
    tensors, index = {}, []
    for name, architecture, make, shape, labels, seed, *variant in table:
        model = make()
        initial, batch = weights(model), images(seed, *shape)
        labels = np.array(labels, dtype=np.int64)
        recipe = {"lr": 0.003, "momentum": 0.9, "weight_decay": 5e-4, "steps": 10}
        single = train(make, initial, batch, labels, torch.float32, recipe)
        double = train(make, initial, batch, labels, torch.float64, recipe)
        trials = [
            train(make, perturbed(initial, trial), batch, labels, torch.float64, recipe)
            for trial in range(TRIALS)
        ]
        shaken = {
            "relative": PERTURBATION,
            "losses": max(abs(a - b) / b for t in trials for a, b in zip(t["losses"], double["losses"])),
            "grads": max(relative(t["grads"][k], double["grads"][k]) for t in trials for k in initial),
        }
        parameters = []
        for key, data in initial.items():
            parameters.append({
                "name": key,
                "shape": list(data.shape),
                "sample_stride": sample_stride(data.size),
                "fingerprint": fingerprint(data),
                "grad_l2": float(np.sqrt((single["grads"][key].astype(np.float64) ** 2).sum())),
                "grad_sum": float(single["grads"][key].astype(np.float64).sum()),
                "grad_l2_f64": float(np.sqrt((double["grads"][key] ** 2).sum())),
                "grad_sum_f64": float(double["grads"][key].sum()),
                "grad_noise": relative(single["grads"][key], double["grads"][key]),
            })
        for prefix, run in ((name, single), (f"{name}.f64", double)):
            tensors[f"{prefix}.logits"] = run["logits"]
            for key in initial:
                tensors[f"{prefix}.grad.{key}"] = sample(run["grads"][key])
                tensors[f"{prefix}.final.{key}"] = sample(run["final"][key])
        tensors[f"{name}.labels"] = labels
        extra = dict(zip(("head", "narrow"), variant))
        noise = max(abs(a - b) / abs(b) for a, b in zip(single["losses"], double["losses"]))
        final_noise = abs(single["final_loss"] - double["final_loss"]) / double["final_loss"]
        index.append({
            "name": name,
            "model": architecture,
            **extra,
            "channels": shape[1],
            "classes": 10,
            "input_shape": list(shape),
            "image_seed": seed,
            "input_fingerprint": fingerprint(batch),
            "labels": labels.tolist(),
            "parameter_count": sum(p.numel() for p in model.parameters()),
            "last_map": single["last_map"],
            "recipe": recipe,
            "losses": single["losses"],
            "losses_f64": double["losses"],
            "final_loss": single["final_loss"],
            "final_loss_f64": double["final_loss"],
            "loss_noise": noise,
            "final_loss_noise": final_noise,
            "logits_noise": relative(single["logits"], double["logits"]),
            "perturbed": shaken,
            "parameters": parameters,
        })
        zeros = float((double["logits"] == 0).mean())
        print(f"{name}: {index[-1]['parameter_count']} parameters, last map {single['last_map']}, "
              f"zero logits {zeros:.2f}")
        print("  losses f64", " ".join(f"{loss:.6f}" for loss in double["losses"]),
              f"then {double['final_loss']:.6f}")
        print(f"  f32 against f64: losses {noise:.2e}, final {final_noise:.2e}, "
              f"logits {index[-1]['logits_noise']:.2e}, "
              f"gradients up to {max(p['grad_noise'] for p in parameters):.2e}")
        print(f"  weights off by {PERTURBATION:.0e}: losses {shaken['losses']:.2e}, "
              f"gradients up to {shaken['grads']:.2e}")
        assert zeros < 0.25 and noise < 2e-5
    expected = {"nin": 1_992_166, "nin-d2l": 1_992_166, "nin-cifar": 966_986, "lenet": 61_706}
    for entry in index:
        assert entry["parameter_count"] == expected.get(entry["name"], entry["parameter_count"])
    save_file(tensors, HERE / f"{file}.safetensors")
    write_json(f"{file}.json", index)


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

        for path, module in model.named_modules():
            if path:
                record(module, path)
        with torch.no_grad():
            model(torch.zeros(1, channels, size, size))
        layers.sort(key=lambda layer: [int(part) for part in layer["path"].split(".")])
        result.append({"model": name, "input": [channels, size, size], "layers": layers})
    write_json("shapes.json", result)


# ---------------------------------------------------------------- optimiser

def optimiser():
    tensors, index = {}, []
    start = symmetric(20_000, 7)
    grads = symmetric(20_001, 35).reshape(5, 7)
    tensors["start"], tensors["grads"] = start, grads
    for name, options in {
        "plain": {},
        "decay": {"weight_decay": 0.05},
        "momentum": {"momentum": 0.9},
        "momentum_decay": {"momentum": 0.9, "weight_decay": 0.05},
        "nesterov": {"momentum": 0.9, "nesterov": True},
        "nesterov_decay": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    }.items():
        options = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0} | options
        vector = torch.from_numpy(start.astype(np.float64)).requires_grad_()
        sgd = torch.optim.SGD([vector], **options)
        trace = []
        for grad in grads:
            vector.grad = torch.from_numpy(grad.astype(np.float64))
            sgd.step()
            trace.append(vector.detach().numpy().copy())
        tensors[f"{name}.after"] = np.stack(trace).astype(np.float32)
        index.append({"name": name, "kind": "sgd", "params": options})

    for name, limit in (("clip_above", 1.0), ("clip_below", 100.0)):
        parts = [symmetric(20_002, 6).reshape(2, 3), symmetric(20_003, 4), symmetric(20_004, 5)]
        vectors = []
        for part in parts:
            vector = torch.zeros(part.shape, dtype=torch.float64).requires_grad_()
            vector.grad = torch.from_numpy(part.astype(np.float64))
            vectors.append(vector)
        norm = nn.utils.clip_grad_norm_(vectors, limit)
        for number, (part, vector) in enumerate(zip(parts, vectors)):
            tensors[f"{name}.grad{number}"] = part
            tensors[f"{name}.clipped{number}"] = vector.grad.numpy().astype(np.float32)
        index.append({"name": name, "kind": "clip_grad_norm", "params": {"max_norm": limit},
                      "total_norm": norm.item()})
    save_file(tensors, HERE / "sgd.safetensors")
    write_json("sgd.json", index)


# ---------------------------------------------------------------- resizing

def resizing(dataset):
    path = dataset / "t10k-images-idx3-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    assert raw[:4] == b"\0\0\x08\x03", path
    pictures = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    tensors, index = {}, []
    for size, numbers in ((96, [0, 1, 2]), (224, [3]), (32, [0, 4, 5]), (20, [0, 1, 2])):
        resize = torchvision.transforms.Resize(size)
        tensors[f"{size}.input"] = pictures[numbers].copy()
        tensors[f"{size}.output"] = np.stack(
            [np.asarray(resize(Image.fromarray(pictures[number]))) for number in numbers]
        )
        assert tensors[f"{size}.output"].shape == (len(numbers), size, size)
        index.append({"size": size, "source": path.name, "images": numbers})
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
    optimiser()
    resizing(options.dataset)
    models(MODELS, "models")
    models(COMPARED, "compared")


if __name__ == "__main__":
    main()
