"""What every measurement has in common: its arguments, its clock, and the line of JSON that it prints.

A worker process measures one variant on one task and prints one line. The fields are those of `nin bench --json`.
"""

import argparse
import json
import platform
import resource
import statistics
import time

SIZES = {"nin": 224, "nin-d2l": 224, "nin-cifar": 28}


def arguments(description, variants):
    """The command line of a worker."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--variant", choices=variants, default=variants[0])
    parser.add_argument("--task", choices=["train", "infer"], default="train")
    parser.add_argument("--model", choices=list(SIZES), default="nin")
    parser.add_argument("--batch", type=int, default=32, help="images of a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--image-size", type=int, help="pixels a side [default: what the network was made for]")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to measure, after the warm-up")
    parser.add_argument("--steps", type=int, help="measure so many steps instead")
    args = parser.parse_args()
    args.image_size = args.image_size or SIZES[args.model]
    return args


def measure(args, step):
    """Calls `step` until it is warm, then until the time is over, and returns the seconds of each call.

    Two calls warm up, and more until a tenth of the time is over. Three calls are timed at least.
    """
    begin, calls = time.perf_counter(), 0
    while calls < 2 or (args.steps is None and time.perf_counter() - begin < args.seconds / 10):
        step()
        calls += 1
    times, begin = [], time.perf_counter()
    while len(times) < (args.steps or 3) or (args.steps is None and time.perf_counter() - begin < args.seconds):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def report(args, times, versions):
    """Prints the line."""
    line = {
        "variant": args.variant,
        "task": args.task,
        "model": args.model,
        "image_size": args.image_size,
        "batch": args.batch,
        "threads": args.threads,
        "steps": len(times),
        "images_per_s": args.batch / statistics.median(times),
        "images_per_s_min": args.batch / max(times),
        "images_per_s_max": args.batch / min(times),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": {"python": platform.python_version(), **versions},
    }
    print(json.dumps(line))
