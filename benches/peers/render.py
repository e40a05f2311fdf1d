"""Tables and chart from the JSON of the measurements: the same text for the same numbers, none of them typed by hand."""

import json
import re
import statistics
import subprocess
import textwrap

import chart

# In the order of tables and chart, with the name that a reader sees.
VARIANTS = {
    "nin": "nin (this crate)",
    "nin-direct": "nin, without Winograd",
    "pytorch": "PyTorch, as installed",
    "pytorch-tuned": "PyTorch, tuned",
    "pytorch-compile": "PyTorch, tuned and compiled",
    "tensorflow": "TensorFlow",
    "tensorflow-xla": "TensorFlow, XLA",
    "onnxruntime": "ONNX Runtime",
    "pytorch-bf16": "PyTorch, tuned, bfloat16",
}
# XLA and torch.compile compile for a minute in every process: measured on request.
DEFAULT = ["nin", "nin-direct", "pytorch", "pytorch-tuned", "tensorflow", "onnxruntime", "pytorch-bf16"]
# Whose arithmetic is less exact: shown, but nobody is said to be faster or slower than they.
INEXACT = {"pytorch-bf16"}
OURS = "nin"


class Comparison:
    """The runs of one comparison, by task and variant."""

    def __init__(self, data):
        self.data = data
        self.tasks, self.variants = [], []
        self.lines = {}
        for line in data["runs"]:
            task = f"{line['task']}-{line['batch']}"
            if task not in self.tasks:
                self.tasks.append(task)
            self.lines.setdefault((task, line["variant"]), {})[line["round"]] = line
        present = {variant for _, variant in self.lines}
        self.variants = [variant for variant in VARIANTS if variant in present]

    def values(self, task, variant, field="images_per_s"):
        """One number for each round."""
        lines = self.lines.get((task, variant), {})
        return {number: line[field] for number, line in lines.items() if line.get(field) is not None}

    def median(self, task, variant, field="images_per_s"):
        values = self.values(task, variant, field).values()
        return statistics.median(values) if values else None

    def ratio(self, task, variant):
        """How many times as many images a second ours makes: the median of the rounds' ratios."""
        ours, theirs = self.values(task, OURS), self.values(task, variant)
        ratios = [ours[number] / theirs[number] for number in ours if number in theirs]
        return statistics.median(ratios) if ratios else None

    def fastest_peer(self, task):
        peers = [v for v in self.variants if not v.startswith(OURS) and v not in INEXACT]
        peers = [v for v in peers if self.median(task, v)]
        return max(peers, key=lambda variant: self.median(task, variant), default=None)


def task_name(task):
    name, _, batch = task.partition("-")
    return f"{'training' if name == 'train' else 'inference'}, N = {batch}"


def table(head, rows):
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}"


def count(number, noun):
    return f"{number} {noun}" + ("" if number == 1 else "s")


def speed_table(comparison):
    head = ["images/s (times ours is faster)", *map(task_name, comparison.tasks)]
    rows = []
    for variant in comparison.variants:
        row = [VARIANTS[variant]]
        for task in comparison.tasks:
            median = comparison.median(task, variant)
            ratio = comparison.ratio(task, variant)
            text = number(median)
            if variant == OURS and median:
                text = f"**{text}**"
            elif ratio:
                text += f" ({ratio:.2f}x)"
            row.append(text)
        rows.append(row)
    best = ["ours against the fastest in the same arithmetic"]
    for task in comparison.tasks:
        peer = comparison.fastest_peer(task)
        ratio = comparison.ratio(task, peer) if peer else None
        best.append(f"**{ratio:.2f}x** {VARIANTS[peer]}" if ratio else "-")
    return table(head, [*rows, best])


def spread_table(comparison):
    head = ["rounds, slowest to fastest", *map(task_name, comparison.tasks)]
    rows = []
    for variant in comparison.variants:
        row = [VARIANTS[variant]]
        for task in comparison.tasks:
            values = comparison.values(task, variant).values()
            row.append(f"{number(min(values))} to {number(max(values))}" if values else "-")
        rows.append(row)
    return table(head, rows)


def memory_table(comparison):
    head = ["peak resident memory, MiB", *map(task_name, comparison.tasks)]
    rows = []
    for variant in comparison.variants:
        values = [comparison.values(task, variant, "peak_rss_mib").values() for task in comparison.tasks]
        rows.append([VARIANTS[variant], *[f"{max(all):.0f}" if all else "-" for all in values]])
    return table(head, rows)


def machine_text(data):
    machine, settings = data["machine"], data["settings"]
    versions = {}
    others = []
    for line in data["runs"]:
        versions |= line["versions"]
        if line.get("other_load") is not None:
            others.append(line["other_load"])
    names = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    text = (
        f"{data['date']}; {machine['cpu']} ({machine['architecture']}, {machine['cores']} cores, "
        f"{' '.join(machine['instructions'])}), {machine['memory_gib']} GiB, {machine['system']}; {machine['rustc']}; "
        f"{names}. {count(settings['threads'], 'thread')}, {count(settings['rounds'], 'round')}, "
        f"{settings['seconds']:g} s each."
    )
    if others:
        median, most = 100 * statistics.median(others), 100 * max(others)
        text += f" Other processes took {median:.0f} % of the cores' time in the median measurement, {most:.0f} % in the worst."
    return textwrap.fill(text, 130, break_on_hyphens=False)


def layers_table(data):
    head = ["layer", "kind", "input", "output", "algorithm"]
    head += [f"{name}, {unit}" for name in ("forward", "input gradient", "weight gradient") for unit in ("ms", "GFLOP/s")]
    rows = []
    for layer in data["layers"]:
        row = [layer["path"], layer["kind"]]
        row += ["x".join(map(str, layer[side])) for side in ("input", "output")]
        row.append(layer["forward"]["algorithm"] or "")
        for name in ("forward", "input_gradient", "weight_gradient"):
            of = layer[name]
            row.append(f"{of['ms']:.2f}" if of else "")
            row.append(f"{of['gflop_per_s']:.0f}" if of and of["gflop_per_s"] else "")
        rows.append(row)
    text = table(head, rows).replace("|---|---:|---:|---:|---:", "|---|---|---|---|---", 1)
    caption = f"{data['images']} images on one thread, conv {data['conv']}, {data['isa']}; {data['machine']['cpu']}, {data['date']}."
    return f"{text}\n\n{caption}"


def scaling_table(data, sweep, field, columns):
    """Rows: the values of what changes. Columns: (title, task, batch or None)."""
    lines = [line for line in data["runs"] if line["sweep"] == sweep]
    rates = {}
    for line in lines:
        rates.setdefault((line["task"], line["batch"], line[field]), []).append(line["images_per_s"])
    values = sorted({line[field] for line in lines})
    rows = []
    for value in values:
        row = [str(value)]
        for _, task, batch in columns:
            rate = rates.get((task, value if batch is None else batch, value))
            first = rates.get((task, value if batch is None else batch, values[0]))
            text = number(statistics.median(rate) if rate else None)
            if sweep == "threads" and rate and value != values[0]:
                text += f" ({statistics.median(rate) / statistics.median(first):.2f}x)"
            row.append(text)
        rows.append(row)
    return table([sweep, *[f"{title}, images/s" for title, _, _ in columns]], rows)


HEADINGS = {
    "nin": "![images per second of this crate and of other frameworks](results/peers/peers.svg)",
    "nin-d2l": "The book's network, `nin-d2l` (stem stride 4):",
    "nin-cifar": "The network of the paper's CIFAR-10 runs, `nin-cifar`, at 28 x 28:",
}


def summary(comparison):
    """A paragraph for the README."""
    settings, machine = comparison.data["settings"], comparison.data["machine"]
    lines = ["![images per second of this crate and of other frameworks](docs/results/peers/peers.svg)", ""]
    lines.append(f"{machine['cpu']}, {count(settings['threads'], 'thread')}, `{settings['model']}` at 224 x 224, `f32`:")
    lines.append("")
    for task in comparison.tasks:
        peer, ours = comparison.fastest_peer(task), comparison.median(task, OURS)
        if not peer or not ours:
            continue
        parts = [f"{number(ours)} images/s, {comparison.ratio(task, peer):.2f} times {VARIANTS[peer]}, the fastest other"]
        if comparison.ratio(task, "pytorch"):
            parts.append(f"{comparison.ratio(task, 'pytorch'):.2f} times PyTorch as installed")
        memory = [comparison.values(task, variant, "peak_rss_mib").values() for variant in (OURS, peer)]
        if all(memory):
            parts.append(f"peak memory {max(memory[0]):.0f} MiB against {max(memory[1]):.0f}")
        lines.append(f"* {task_name(task)}: {'; '.join(parts)}")
    return "\n".join(lines)


def sections(results):
    """Marker name to text; empty where nothing has been measured."""
    texts = {}
    for model, heading in HEADINGS.items():
        data = load(results / f"{model}.json")
        parts = []
        if data:
            of = Comparison(data)
            parts = [heading, speed_table(of), machine_text(data), spread_table(of), memory_table(of)]
        texts[f"peers {model}"] = "\n\n".join(parts)
        if model == OURS:
            texts["peers summary"] = summary(of) if data else ""
    data = load(results / "layers.json")
    texts["layers"] = layers_table(data) if data else ""
    data = load(results / "scaling.json") or {"runs": []}
    both = [("training", "train", None), ("inference", "infer", None)]
    of_32 = [("training, N = 32", "train", 32), ("inference, N = 32", "infer", 32)]
    by_threads = [("training, N = 128", "train", 128), *of_32[1:], ("inference, N = 1", "infer", 1)]
    for sweep, field, columns in [
        ("batch", "batch", both),
        ("threads", "threads", by_threads),
        ("image size", "image_size", of_32),
    ]:
        texts[f"scaling {sweep}"] = scaling_table(data, sweep, field, columns) if data["runs"] else ""
    texts["scaling machine"] = machine_text(data) if data["runs"] else ""
    return texts


def show(results, names):
    """Prints sections as they will stand in the documents."""
    texts = sections(results)
    print("", *[texts[name] for name in names if texts[name]], sep="\n\n")


def load(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def fill(path, texts):
    """The document with each text between its markers, and the names of the markers that it has."""
    document = path.read_text(encoding="utf-8")
    names = re.findall(r"<!-- begin (.+) -->\n", document)
    for name in names:
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if name not in texts or document.count(begin) != 1 or document.count(end) != 1:
            raise SystemExit(f"{path}: expected one pair of markers of a known name, found {name!r}")
        before, rest = document.split(begin)
        _, after = rest.split(end)
        text = f"{texts[name]}\n" if texts[name] else ""
        document = f"{before}{begin}{text}{end}{after}"
    return document, names


def write(results, documents, check=False):
    """Fills the markers and draws the chart. With `check`, changes nothing and returns what would change."""
    texts, outputs, filled = sections(results), {}, set()
    for path in documents:
        outputs[path], names = fill(path, texts)
        filled.update(names)
    missing = set(texts) - filled
    if missing:
        raise SystemExit(f"no markers for: {', '.join(sorted(missing))}")
    data = load(results / "nin.json")
    if data:
        bars = chart.bars(Comparison(data), VARIANTS, INEXACT, task_name)
        outputs[results / "bars.json"] = json.dumps(bars, indent=1) + "\n"
    stale = [path for path, text in outputs.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if check:
        return stale
    for path in stale:
        path.write_text(outputs[path], encoding="utf-8")
        print(f"wrote {path}")
    if results / "bars.json" in stale:
        draw = ["cargo", "run", "--quiet", "--release", "--bin", "nin", "--", "plot"]
        files = ["--bars", results / "bars.json", "--picture", results / "peers.svg"]
        subprocess.run([*draw, *files], check=True)
    return []
