"""Whole networks: logits, gradients and ten steps of SGD from the same weights, in float32 and in float64."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from torch import nn

from draws import HERE, U64, draw, fingerprint, symmetric, unit, write_json
from networks import alexnet, lenet, nin, nin_cifar, resnet18, vgg11

BIAS_RANGE = np.float32(0.1)
IMAGE_BLOCK = 8
PERTURBATION = 5e-6
TRIALS = 5


def weights(model):
    """name -> float32 array for parameter number p of the state dict, from stream p.

    Weight: float32(sqrt(3 / fan_in)) * symmetric, one float32 multiplication.
    Bias: float32(0.1) * unit, one float32 multiplication: small and positive.
    Weight of a normalization: 1 minus that.
    He's bound sqrt(6 / fan_in) makes ten steps on so few images chaotic: one ReLU that
    falls on the other side of zero by rounding moved the last losses by 1 %.
    """
    result = {}
    for stream, (name, parameter) in enumerate(model.named_parameters()):
        shape, count = tuple(parameter.shape), parameter.numel()
        if len(shape) == 1 and name.endswith("weight"):
            data = np.float32(1.0) - BIAS_RANGE * unit(stream, count)
        elif len(shape) > 1:
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
    model.load_state_dict({name: torch.from_numpy(data).to(dtype) for name, data in initial.items()}, strict=False)
    named = dict(model.named_parameters())
    optimizer = torch.optim.SGD(
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
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        if step == 0:
            result["logits"] = logits.detach().numpy().copy()
            result["grads"] = {name: p.grad.numpy().copy() for name, p in named.items()}
        result["losses"].append(loss.item())
        optimizer.step()
    with torch.no_grad():
        # By the running statistics, where the model has normalizations.
        result["evaluated_loss"] = F.cross_entropy(model.eval()(x), y).item()
        logits = model.train()(x)
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

# Narrow copies of networks with normalizations, which make ten steps at the others' rate chaotic.
RESIDUAL = [
    ("resnet18-narrow", "resnet18", lambda: resnet18(narrow=16), (6, 1, 64, 64), [3, 7, 0, 9, 1, 8], 13, None, 16),
    ("resnet18-cifar-narrow", "resnet18-cifar", lambda: resnet18(cifar=True, narrow=16), (6, 1, 20, 20),
     [5, 2, 9, 4, 6, 0], 5, None, 16),
]


def models(table, file, lr=0.003):
    tensors, index = {}, []
    for name, architecture, make, shape, labels, seed, *variant in table:
        model = make()
        initial, batch = weights(model), images(seed, *shape)
        labels = np.array(labels, dtype=np.int64)
        recipe = {"lr": lr, "momentum": 0.9, "weight_decay": 5e-4, "steps": 10}
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
            **({"evaluated_loss": single["evaluated_loss"]} if list(model.buffers()) else {}),
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
