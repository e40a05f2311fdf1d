"""The bars of a comparison, a group for each task and a bar for each variant, as `nin plot --bars` draws them."""


def bars(comparison, names, inexact, task_name):
    """The chart as JSON has it."""
    settings, groups = comparison.data["settings"], []
    for task in comparison.tasks:
        group = []
        for variant in comparison.variants:
            value, ratio = comparison.median(task, variant), comparison.ratio(task, variant)
            if not value:
                continue
            if variant == "nin":
                kind = "ours"
            elif variant.startswith("nin-"):
                kind = "own"
            else:
                kind = "inexact" if variant in inexact else "peer"
            label = f"{value:.1f}" if variant == "nin" or not ratio else f"{value:.1f}  (ours {ratio:.2f}x)"
            group.append({"name": names[variant], "value": value, "label": label, "kind": kind})
        if group:
            title = task_name(task)
            groups.append({"title": title[0].upper() + title[1:], "bars": group})
    cpu, threads, rounds = comparison.data["machine"]["cpu"], settings["threads"], settings["rounds"]
    return {
        "title": "Network in Network at 224 x 224: images per second, more is better",
        "note": f"{cpu}, threads: {threads}; f32 but for the dashed bars; rounds run in turn: {rounds}",
        "groups": groups,
    }
