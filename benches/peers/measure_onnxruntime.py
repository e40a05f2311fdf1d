#!/usr/bin/env python3
"""One measurement of ONNX Runtime on the CPU, of a file that export_onnx.py wrote. Inference only."""

import argparse
import sys

from protocol import arguments, measure, report


def main():
    file = argparse.ArgumentParser(add_help=False)
    file.add_argument("--onnx", required=True, help="the file that export_onnx.py wrote")
    own, rest = file.parse_known_args()
    sys.argv = [sys.argv[0], *rest]
    args = arguments(__doc__.splitlines()[0], ["onnxruntime"])
    if args.task != "infer":
        sys.exit("onnxruntime: inference only")
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(own.onnx, options, providers=["CPUExecutionProvider"])
    shape = (args.batch, 1, args.image_size, args.image_size)
    images = numpy.random.default_rng(0).random(shape, dtype=numpy.float32)
    name = session.get_inputs()[0].name
    times = measure(args, lambda: session.run(None, {name: images}))
    report(args, times, {"onnxruntime": onnxruntime.__version__})


if __name__ == "__main__":
    main()
