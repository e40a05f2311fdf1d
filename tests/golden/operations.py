"""Small cases of single operations: inputs, output, gradients."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file

from draws import HERE, U64, draw, symmetric, write_json


class Cases:
    """Collects the cases. Computed in float64 from float32 inputs, stored rounded to float32."""

    def __init__(self):
        self.index, self.tensors, self.stream = [], {}, 10_000

    def values(self, *shape, scale=1.0):
        self.stream += 1
        data = symmetric(self.stream, math.prod(shape)) * np.float32(scale)
        return data.reshape(shape)

    def quantized(self, *shape, levels=4, low=-2):
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
    maximum("ties_3_2", cases.quantized(2, 3, 9, 11), 3, 2)
    maximum("ties_2_2", cases.quantized(2, 2, 6, 8, levels=2), 2, 2)
    maximum("ties_3_2_p1_ceil", cases.quantized(2, 2, 8, 9, levels=3), 3, 2, 1, ceil=True)
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

    pair_cases(cases, ("add", torch.add), ("mul", torch.mul))


def pair_cases(cases, *functions):
    """Of two inputs that broadcast."""
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
    for name, function in functions:
        for label, (left, right) in shapes.items():
            cases.add(f"{name}_{label}", name, {}, function,
                      {"input": cases.values(*left), "input2": cases.values(*right)})


def function_cases(cases):
    """Functions of a number without bounds, each where it is one; e^200 is beyond what the file can hold."""
    edges = [0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0, 30.0, -30.0, -200.0]
    above = [1e-30, 0.5, 1.0, 3.0, 30.0, 200.0]
    for name, function, edge in (("abs", torch.abs, edges), ("exp", torch.exp, edges), ("log", torch.log, above)):
        inside = (lambda x: np.abs(x) + np.float32(0.01)) if name == "log" else (lambda x: x)
        cases.add(f"{name}_4d", name, {}, function, {"input": inside(cases.values(2, 3, 4, 5, scale=4.0))})
        cases.add(f"{name}_2d", name, {}, function, {"input": inside(cases.values(3, 7, scale=8.0))})
        cases.add(f"{name}_edges", name, {}, function, {"input": np.array(edge, np.float32)})
        poisoned = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], np.float32)
        cases.add(f"{name}_nan", name, {}, function, {"input": poisoned}, forward_only=True)


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


def activation_cases(cases, *activations):
    """After all others, so that the numbers of those stay as they were."""
    for label, op, params, function in activations:
        cases.add(f"{label}_4d", op, params, function, {"input": cases.values(2, 3, 4, 5, scale=4.0)})
        cases.add(f"{label}_2d", op, params, function, {"input": cases.values(3, 7, scale=8.0)})
        edge = np.array([0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0, 30.0, -30.0, 200.0, -200.0], np.float32)
        cases.add(f"{label}_edges", op, params, function, {"input": edge})
        poisoned = np.array([np.nan, np.inf, -np.inf, 1.0, -1.0], np.float32)
        cases.add(f"{label}_nan", op, params, function, {"input": poisoned}, forward_only=True)


def normalization_cases(cases):
    for label, shape, groups, eps in (
        ("one", (2, 4, 5, 3), 1, 1e-5),
        ("pairs", (3, 6, 4, 5), 3, 1e-5),
        ("instance", (2, 3, 7, 6), 3, 1e-3),
        ("one_pixel", (2, 8, 1, 1), 2, 1e-5),
    ):
        cases.add(f"group_norm_{label}", "group_norm", {"num_groups": groups, "eps": eps},
                  lambda x, w, b, g=groups, e=eps: F.group_norm(x, g, w, b, e),
                  {"input": cases.values(*shape, scale=3.0) + np.float32(1.0),
                   "weight": cases.values(shape[1]), "bias": cases.values(shape[1])})


def batch_norm_cases(cases):
    for label, shape, training, momentum, eps in (
        ("training", (4, 3, 5, 6), True, 0.1, 1e-5),
        ("training_one_image", (1, 2, 3, 4), True, 0.3, 1e-3),
        ("training_one_pixel", (6, 4, 1, 1), True, 0.1, 1e-5),
        ("evaluation", (2, 3, 4, 5), False, 0.1, 1e-5),
    ):
        c, name = shape[1], f"batch_norm2d_{label}"
        running = {"running_mean": cases.values(c), "running_var": cases.values(c) + np.float32(1.5)}
        mean, var = (torch.from_numpy(array.astype(np.float64)) for array in running.values())
        cases.add(name, "batch_norm2d", {"training": training, "momentum": momentum, "eps": eps},
                  lambda x, w, b, m=mean, v=var, t=training, p=momentum, e=eps: F.batch_norm(
                      x, m, v, w, b, t, p, e
                  ),
                  {"input": cases.values(*shape, scale=3.0) + np.float32(1.0),
                   "weight": cases.values(c), "bias": cases.values(c)})
        if training:
            running |= {"next_mean": mean.numpy(), "next_var": var.numpy()}
        for key, array in running.items():
            cases.tensors[f"{name}.{key}"] = array.astype(np.float32)


def joining_cases(cases):
    for label, axis, shapes in (
        ("channels", 1, ((2, 3, 4, 5), (2, 1, 4, 5), (2, 4, 4, 5))),
        ("images", 0, ((1, 2, 3), (4, 2, 3))),
        ("columns", 3, ((2, 2, 2, 3), (2, 2, 2, 1))),
    ):
        names = ("input", "input2", "input3")
        cases.add(f"cat_{label}", "cat", {"axis": axis}, lambda *x, a=axis: torch.cat(x, a),
                  {name: cases.values(*shape) for name, shape in zip(names, shapes)})


def loss_cases(cases):
    for name, smoothing in (("weighted", 0.0), ("weighted_smoothed", 0.2)):
        data, weights = cases.values(6, 4, scale=3.0), [0.5, 1.0, 2.0, 0.25]
        labels = (draw(cases.stream, np.arange(6)) % U64(4)).astype(np.int64)
        cases.add(f"cross_entropy_{name}", "cross_entropy",
                  {"reduction": "mean", "label_smoothing": smoothing, "weights": weights},
                  lambda x, y, s=smoothing, w=weights: F.cross_entropy(
                      x, y, weight=torch.tensor(w, dtype=torch.float64), label_smoothing=s),
                  {"input": data}, labels=labels)
    cases.add("mse_loss", "mse_loss", {}, F.mse_loss,
              {"input": cases.values(4, 3, scale=2.0), "input2": cases.values(4, 3)})
    logits, targets = cases.values(5, 3, scale=4.0), (cases.values(5, 3) + 1) / 2
    logits[0] = [80, -80, 0]
    cases.add("bce_with_logits", "bce_with_logits", {}, F.binary_cross_entropy_with_logits,
              {"input": logits, "input2": targets})


def probability_cases(cases):
    """Cross-entropy against the probabilities of all classes. Without weights and with, which have no part in the divisor."""
    for name, weights in (("probabilities", None), ("probabilities_weighted", [0.5, 1.0, 2.0, 0.25])):
        data, targets = cases.values(6, 4, scale=3.0), np.abs(cases.values(6, 4))
        targets /= targets.sum(axis=1, keepdims=True)
        params = {"reduction": "mean", "label_smoothing": 0.2} | ({} if weights is None else {"weights": weights})
        weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
        cases.add(f"cross_entropy_{name}", "cross_entropy", params,
                  lambda x, y, w=weight: F.cross_entropy(x, y.double(), weight=w, label_smoothing=0.2),
                  {"input": data}, labels=targets)


def rsqrt_cases(cases):
    """Of positive numbers, and without a gradient of others."""
    for label, shape in (("4d", (2, 3, 4, 5)), ("2d", (3, 7))):
        cases.add(f"rsqrt_{label}", "rsqrt", {}, torch.rsqrt,
                  {"input": np.abs(cases.values(*shape, scale=4.0)) + np.float32(0.25)})
    poisoned = np.array([np.nan, np.inf, 0.0, -1.0, 4.0], np.float32)
    cases.add("rsqrt_nan", "rsqrt", {}, torch.rsqrt, {"input": poisoned}, forward_only=True)


def operations():
    cases = Cases()
    conv_cases(cases)
    pool_cases(cases)
    elementwise_cases(cases)
    reduction_cases(cases)
    classifier_cases(cases)
    activation_cases(
        cases,
        ("leaky_relu", "leaky_relu", {"negative_slope": 0.01}, lambda x: F.leaky_relu(x, 0.01)),
        ("leaky_relu_steep", "leaky_relu", {"negative_slope": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
        ("gelu", "gelu", {"approximate": "none"}, lambda x: F.gelu(x)),
        ("gelu_tanh", "gelu", {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
        ("hardswish", "hardswish", {}, F.hardswish),
    )
    normalization_cases(cases)
    joining_cases(cases)
    batch_norm_cases(cases)
    loss_cases(cases)
    activation_cases(cases, ("silu", "silu", {}, F.silu))
    probability_cases(cases)
    pair_cases(cases, ("sub", torch.sub))
    function_cases(cases)
    rsqrt_cases(cases)
    save_file(cases.tensors, HERE / "ops.safetensors")
    write_json("cases.json", cases.index)
    print(f"ops: {len(cases.index)} cases")
