#!/usr/bin/env python3
"""Runs this crate's networks and the same networks in other frameworks in turn, and writes what came of it.

    python benches/peers/run.py                      # the comparison: three rounds over every task and variant
    python benches/peers/run.py --layers --scaling   # ours alone: every layer; images/s against batch, threads and size
    python benches/peers/run.py --render             # tables and chart anew from the JSON, nothing measured
    python benches/peers/run.py --check              # fails if tables or chart differ from what the JSON gives

Every measurement is a process of its own that warms up, times steps and prints a line of JSON. A round visits every
variant of every task once, so that whatever slows the machine down for a while slows all of them down. Results go to
docs/results/peers/*.json, a chart beside them, and the tables between the markers of docs/performance.md and README.md.
"""

import argparse
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys

import machine
import render

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MODELS = ["nin", "nin-d2l", "nin-cifar"]
TASKS = ["train-128", "train-32", "infer-32", "infer-1"]
BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
SWEEPS = ["layers", "scaling batch", "scaling threads", "scaling image size", "scaling machine"]
IMAGE_SIZES = [96, 128, 160, 192, 224, 256, 320, 384]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = lambda text: text.split(",")
    parser.add_argument("--tasks", type=words, default=TASKS, help=f"of {','.join(TASKS)}, or any other batch size")
    parser.add_argument("--variants", type=words, default=render.DEFAULT, help=f"of {','.join(render.VARIANTS)}")
    parser.add_argument("--model", choices=MODELS, default="nin")
    parser.add_argument("--rounds", type=int, help="[default: 3 for the comparison, 1 for scaling]")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement after its warm-up")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--python", default=sys.executable, help="interpreter that has the other frameworks")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs/results/peers", help="folder of the results")
    parser.add_argument(
        "--docs",
        type=pathlib.Path,
        nargs="+",
        default=[ROOT / "docs/performance.md", ROOT / "README.md"],
        help="files with the markers",
    )
    parser.add_argument(
        "--quiet",
        type=float,
        metavar="SHARE",
        help="repeat (up to five times) a measurement while other processes took more than this share of the cores, 0 to 1",
    )
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    for variant in args.variants:
        if variant not in render.VARIANTS:
            parser.error(f"variant {variant!r}: expected one of {', '.join(render.VARIANTS)}")
    for task in args.tasks:
        name, _, batch = task.partition("-")
        if name not in ("train", "infer") or not batch.isdigit() or int(batch) == 0:
            parser.error(f"task {task!r}: expected train-N or infer-N")
    return args


class Bench:
    """Runs one measurement after the other."""

    def __init__(self, args):
        self.args = args
        subprocess.run(["cargo", "build", "--release", "--bin", "nin"], cwd=ROOT, check=True)
        # A copy, so that building something else meanwhile does not change what is measured.
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.work = target / "peers"
        self.work.mkdir(parents=True, exist_ok=True)
        self.nin = self.work / "nin"
        shutil.copy2(target / "release" / "nin", self.nin)
        self.failed = []

    def command(self, variant, task, batch, threads, seconds, model, image_size):
        common = ["--task", task, "--model", model, "--threads", threads, "--seconds", seconds]
        if image_size:
            common += ["--image-size", image_size]
        if variant.startswith("nin"):
            conv = variant.removeprefix("nin").removeprefix("-") or "auto"
            return [self.nin, "bench", "--json", "--batch-size", batch, "--conv", conv, *common]
        script = HERE / f"measure_{variant.partition('-')[0]}.py"
        command = [self.args.python, script, "--variant", variant, "--batch", batch, *common]
        if variant == "onnxruntime":
            command += ["--onnx", self.onnx(model, batch, image_size)]
        return command

    def onnx(self, model, batch, image_size):
        """The network as ONNX, exported once for each batch size."""
        from protocol import SIZES

        size = image_size or SIZES[model]
        path = self.work / f"{model}-{size}-{batch}.onnx"
        if not path.exists():
            arguments = ["--model", model, "--batch", batch, "--image-size", size, path]
            command = [str(word) for word in [self.args.python, HERE / "export_onnx.py", *arguments]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return path

    def measure(self, variant, task, batch, threads=None, seconds=None, image_size=None, model=None):
        """One measurement as a dictionary, None if it failed."""
        threads, seconds = threads or self.args.threads, seconds or self.args.seconds
        words = self.command(variant, task, batch, threads, seconds, model or self.args.model, image_size)
        for _attempt in range(5):
            load = machine.OtherLoad()
            run = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
            other = load.share()
            if self.args.quiet is None or other is None or other <= self.args.quiet:
                break
            print(f"    {100 * other:.0f} % of the cores' time went to others: again", file=sys.stderr)
        name = f"{variant} {task} {batch}"
        if run.returncode != 0:
            print(f"  {name}: failed\n{run.stderr[-2000:]}", file=sys.stderr)
            self.failed.append(name)
            return None
        line = json.loads(run.stdout.strip().splitlines()[-1])
        print(
            f"  {name:<28} {line['images_per_s']:8.1f} images/s, {line['steps']:4} steps, "
            f"{line['peak_rss_mib']:6.0f} MiB, others {100 * (other or 0):.0f} %",
            flush=True,
        )
        return line | {"other_load": other}


def save(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(data, indent=1, sort_keys=True) + "\n"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def header(args, rounds):
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    settings = {"rounds": rounds, "seconds": args.seconds, "threads": args.threads, "model": args.model}
    return {"date": today, "machine": machine.describe(), "settings": settings, "runs": []}


def compare(bench, args):
    """Every round visits every variant of every task once."""
    rounds = args.rounds or 3
    data = header(args, rounds)
    for number in range(1, rounds + 1):
        for task in args.tasks:
            name, _, batch = task.partition("-")
            print(f"round {number} of {rounds}, {task}", flush=True)
            for variant in args.variants:
                if name == "train" and variant == "onnxruntime":
                    continue
                line = bench.measure(variant, name, int(batch))
                if line:
                    data["runs"].append(line | {"round": number})
                    save(args.out / f"{args.model}.json", data)


def scale(bench, args):
    """Ours alone: one thing changes, all others stay."""
    rounds = args.rounds or 1
    data = header(args, rounds)
    points = [("batch", task, {"batch": batch}) for task in ("train", "infer") for batch in BATCHES]
    for task, batch in (("train", 128), ("infer", 32), ("infer", 1)):
        points += [("threads", task, {"batch": batch, "threads": n}) for n in range(1, args.threads + 1)]
    for task in ("train", "infer"):
        points += [("image size", task, {"batch": 32, "image_size": size}) for size in IMAGE_SIZES]
    for number in range(1, rounds + 1):
        print(f"scaling, round {number} of {rounds}", flush=True)
        for sweep, task, settings in points:
            line = bench.measure("nin", task, **settings)
            if line:
                data["runs"].append(line | {"round": number, "sweep": sweep})
                save(args.out / "scaling.json", data)


def measure_layers(bench, args):
    """Ours alone, layer by layer on one thread."""
    words = [bench.nin, "bench", "--layers", "--json", "--seconds", 3 * args.seconds, "--model", args.model]
    run = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    data = header(args, 1)
    del data["runs"]
    save(args.out / "layers.json", data | json.loads(run.stdout))


def main():
    args = parse()
    failed = []
    if not args.render and not args.check:
        bench = Bench(args)
        if args.layers:
            measure_layers(bench, args)
        if args.scaling:
            scale(bench, args)
        if not args.layers and not args.scaling:
            compare(bench, args)
        failed = bench.failed
        render.show(args.out, [f"peers {args.model}"] if not args.layers and not args.scaling else SWEEPS)
    stale = render.write(args.out, args.docs, check=args.check)
    for path in stale:
        print(f"{path}: not what the JSON gives; run benches/peers/run.py --render", file=sys.stderr)
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    sys.exit(1 if stale or failed else 0)


if __name__ == "__main__":
    main()
