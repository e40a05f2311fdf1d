"""Numbers of 16 and 64 bits, and what PyTorch's own conversion to float32 makes of them."""

import torch
from safetensors.torch import save_file

from draws import HERE, symmetric


def element_types():
    numbers = torch.from_numpy(symmetric(900, 48)).double()
    edges = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1 / 3, -1e-45, 1e-40, 2.0**-24, -(2.0**-14)]
    tensors = {}
    for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)):
        # Double's own extremes are beyond float32, which is refused; between two floats, it is rounded to the even one.
        limits = torch.finfo(dtype if dtype != torch.float64 else torch.float32)
        more = [limits.max, limits.min, limits.tiny, limits.tiny / 4, 1 + 2.0**-24, 1 + 3 * 2.0**-24]
        odd = torch.tensor(edges + more, dtype=torch.float64)
        values = torch.cat([odd, numbers * limits.tiny * 8, numbers, numbers * limits.max]).to(dtype)
        tensors[f"{name}.input"], tensors[f"{name}.output"] = values, values.float()
    save_file(tensors, HERE / "element_types.safetensors")
