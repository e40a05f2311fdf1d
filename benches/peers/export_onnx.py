#!/usr/bin/env python3
"""Writes a network as ONNX for measure_onnxruntime.py, with the weights PyTorch begins with and a fixed batch size."""

import argparse

import torch
from torch_network import build


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nin")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("output")
    args = parser.parse_args()
    torch.manual_seed(0)
    images = torch.zeros(args.batch, 1, args.image_size, args.image_size)
    torch.onnx.export(build(args.model).eval(), (images,), args.output, dynamo=True, external_data=False)


if __name__ == "__main__":
    main()
