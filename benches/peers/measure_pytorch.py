#!/usr/bin/env python3
"""One measurement of PyTorch on the CPU.

Variants:
  pytorch           as installed: contiguous tensors, the allocator as it is
  pytorch-tuned     channels_last, fused SGD, and a malloc that never gives memory back
  pytorch-compile   the same through torch.compile (needs a C++ compiler)
  pytorch-bf16      as tuned, in bfloat16 by autocast: less exact arithmetic than all the others
"""

import contextlib
import os
import sys

VARIANTS = ["pytorch", "pytorch-tuned", "pytorch-compile", "pytorch-bf16"]
# glibc reads these once, when a process begins.
MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_MMAP_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "1000000000",
}


def main():
    from protocol import arguments, measure, report

    args = arguments(__doc__.splitlines()[0], VARIANTS)
    environment = {"OMP_NUM_THREADS": str(args.threads)}
    if args.variant != "pytorch":
        environment |= MALLOC
    if any(os.environ.get(name) != value for name, value in environment.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | environment)

    import torch
    from torch_network import build

    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    net = build(args.model)
    images = torch.rand(args.batch, 1, args.image_size, args.image_size)
    labels = torch.randint(0, 10, (args.batch,))
    tuned = args.variant != "pytorch"
    if tuned:
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    forward = torch.compile(net) if args.variant == "pytorch-compile" else net
    half = args.variant == "pytorch-bf16"

    def precision():
        return torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext()

    if args.task == "train":
        net.train()
        # Weight decay on weights and not on biases, as ours.
        groups = [
            {"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": 5e-4},
            {"params": [p for p in net.parameters() if p.dim() == 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=True if tuned else None)
        criterion = torch.nn.CrossEntropyLoss()

        def step():
            optimizer.zero_grad()
            with precision():
                logits = forward(images)
            criterion(logits.float(), labels).backward()
            optimizer.step()

    else:
        net.eval()

        def step():
            with torch.inference_mode(), precision():
                forward(images)

    report(args, measure(args, step), {"torch": torch.__version__})


if __name__ == "__main__":
    main()
