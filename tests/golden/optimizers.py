"""Five steps of each optimizer, learning rates of each schedule, and clipping by the norm of all gradients."""

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn, optim

from draws import HERE, symmetric, write_json

SGD = {
    "plain": {},
    "decay": {"weight_decay": 0.05},
    "momentum": {"momentum": 0.9},
    "momentum_decay": {"momentum": 0.9, "weight_decay": 0.05},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "nesterov_decay": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    "decoupled": {"momentum": 0.9, "weight_decay": 0.05, "decoupled": True},
}
ADAMW = {
    "adamw": {"lr": 0.01},
    "adamw_options": {"lr": 0.1, "betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.2},
    "adamw_no_decay": {"lr": 0.1, "weight_decay": 0.0},
}
RMSPROP = {
    "rmsprop": {"lr": 0.01},
    "rmsprop_options": {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.2},
    "rmsprop_momentum": {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.05},
}
DEFAULTS = {
    "sgd": {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    "adamw": {"lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    "rmsprop": {"lr": 0.1, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
}
# The parameters of two linear layers, and the groups they are in: a pattern, the factor on the rate, the decay (None for the
# optimizer's own, which weights have and biases have not).
NETWORK = {"0.weight": (2, 3), "0.bias": (2,), "1.weight": (1, 2), "1.bias": (1,)}
GROUPS = [["0.*", 0.1, 0.2], ["1.bias", 0.0, None]]


def steps(kind, options, groups, grads):
    """The parameters after each step, one row a step. `groups` has (vector, rate, decay) for each vector."""
    options = dict(options)
    decoupled = options.pop("decoupled", False)
    make = {"sgd": optim.SGD, "adamw": optim.AdamW, "rmsprop": optim.RMSprop}[kind]
    decays = [decay for _, _, decay in groups]
    parts = [{"params": [vector], "lr": rate, "weight_decay": 0.0 if decoupled else decay}
             for vector, rate, decay in groups]
    optimizer = make(parts, **options)
    trace = []
    for row in grads:
        at = 0
        for (vector, rate, _), decay in zip(groups, decays):
            part = row[at:at + vector.numel()].astype(np.float64)
            vector.grad = torch.from_numpy(part).reshape(vector.shape)
            at += vector.numel()
            if decoupled:
                with torch.no_grad():
                    vector.mul_(1 - rate * decay)
        optimizer.step()
        trace.append(torch.cat([vector.detach().reshape(-1) for vector, _, _ in groups]).numpy())
    return np.stack(trace).astype(np.float32)


def leaf(numbers, shape):
    return torch.from_numpy(numbers.astype(np.float64)).reshape(shape).requires_grad_()


def rates(make, count):
    """The factors on the base rate at `count` steps."""
    optimizer = optim.SGD([torch.zeros(1).requires_grad_()], lr=1.0)
    scheduler, found = make(optimizer), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def optimizers():
    tensors, index = {}, []
    start, grads = symmetric(20_000, 7), symmetric(20_001, 35).reshape(5, 7)
    tensors["start"], tensors["grads"] = start, grads
    count = sum(int(np.prod(shape)) for shape in NETWORK.values())
    tensors["network"], tensors["network_grads"] = symmetric(20_005, count), symmetric(20_006, 5 * count)
    for kind, cases in (("sgd", SGD), ("adamw", ADAMW), ("rmsprop", RMSPROP)):
        for name, options in cases.items():
            options = DEFAULTS[kind] | options
            groups = [(leaf(start, (7,)), options["lr"], options["weight_decay"])]
            tensors[f"{name}.after"] = steps(kind, options, groups, grads)
            index.append({"name": name, "kind": kind, "params": options})

    for name, kind, options in (
        ("sgd_groups", "sgd", DEFAULTS["sgd"] | {"momentum": 0.9, "weight_decay": 0.05}),
        ("adamw_groups", "adamw", DEFAULTS["adamw"]),
        ("rmsprop_groups", "rmsprop", DEFAULTS["rmsprop"] | {"momentum": 0.5, "weight_decay": 0.05}),
    ):
        groups, at = [], 0
        for own, shape in NETWORK.items():
            size = int(np.prod(shape))
            vector = leaf(tensors["network"][at:at + size], shape)
            at += size
            rate, decay = 1.0, None
            for pattern, factor, group_decay in GROUPS:
                if own == pattern or (pattern.endswith("*") and own.startswith(pattern[:-1])):
                    rate, decay = factor, group_decay
            if decay is None:
                decay = options["weight_decay"] if own.endswith("weight") else 0.0
            groups.append((vector, options["lr"] * rate, decay))
        tensors[f"{name}.after"] = steps(kind, options, groups, tensors["network_grads"].reshape(5, count))
        index.append({"name": name, "kind": kind, "params": options, "groups": GROUPS})

    for name, make, total in (
        ("step:3:0.5", lambda own: optim.lr_scheduler.StepLR(own, 3, 0.5), 10),
        ("cosine", lambda own: optim.lr_scheduler.CosineAnnealingLR(own, 10), 10),
        ("one-cycle", lambda own: optim.lr_scheduler.OneCycleLR(own, 1.0, total_steps=20), 20),
        ("one-cycle:0.5", lambda own: optim.lr_scheduler.OneCycleLR(own, 1.0, total_steps=11, pct_start=0.5), 11),
    ):
        index.append({"name": name, "kind": "schedule", "factors": rates(make, total)})

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
    save_file(tensors, HERE / "optimizers.safetensors")
    write_json("optimizers.json", index)
