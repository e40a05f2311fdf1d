"""The bar chart of a comparison as SVG: a panel for each task, a bar for each variant, readable on light and dark pages."""

from xml.sax.saxutils import escape

STYLE = """
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 15px; }
  .small { fill: #59636e; font-size: 12px; }
  .axis { stroke: #8c959f; stroke-width: 1; }
  .ours { fill: #c2410c; }
  .own { fill: #f0a578; }
  .peer { fill: #6b7f99; }
  .inexact { fill: none; stroke: #6b7f99; stroke-dasharray: 4 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .ours { fill: #f97316; }
    .own { fill: #9a5a35; }
    .peer { fill: #7d93b2; }
    .inexact { stroke: #7d93b2; }
  }
"""
WIDTH, LABELS, VALUES, BAR, GAP = 880, 200, 140, 20, 6


def draw(comparison, names, inexact, task_name):
    """The chart as text."""
    y, body = 28, []

    def text(x, y, words, kind="", anchor="start"):
        kind = f' class="{kind}"' if kind else ""
        body.append(f'<text x="{x:.1f}" y="{y:.1f}"{kind} text-anchor="{anchor}">{escape(words)}</text>')

    settings = comparison.data["settings"]
    text(0, y, "Network in Network at 224 x 224: images per second, more is better", "title")
    y += 20
    note = f"{comparison.data['machine']['cpu']}, threads: {settings['threads']}; f32 but for the dashed bars"
    text(0, y, f"{note}; rounds run in turn: {settings['rounds']}", "small")
    for task in comparison.tasks:
        bars = [(v, comparison.median(task, v)) for v in comparison.variants if comparison.median(task, v)]
        if not bars:
            continue
        y += 34
        text(0, y, task_name(task)[0].upper() + task_name(task)[1:], "title")
        y += 10
        longest = max(value for _, value in bars)
        top = y
        for variant, value in bars:
            length = (WIDTH - LABELS - VALUES) * value / longest
            if variant == "nin":
                kind = "ours"
            elif variant.startswith("nin-"):
                kind = "own"
            else:
                kind = "inexact" if variant in inexact else "peer"
            text(LABELS - 8, y + BAR - 5, names[variant], "", "end")
            body.append(
                f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" class="{kind}"/>'
            )
            ratio = comparison.ratio(task, variant)
            label = f"{value:.1f}" if variant == "nin" or not ratio else f"{value:.1f}  (ours {ratio:.2f}x)"
            text(LABELS + length + 6, y + BAR - 5, label, "" if variant == "nin" else "small")
            y += BAR + GAP
        body.append(f'<line x1="{LABELS}" y1="{top - 3}" x2="{LABELS}" y2="{y - 3}" class="axis"/>')
    y += 10
    lines = "\n".join(f"  {line}" for line in body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {y}" width="{WIDTH + 20}" height="{y}" '
        f'role="img" aria-label="Images per second of this crate and of other frameworks">\n'
        f"<style>{STYLE}</style>\n{lines}\n</svg>\n"
    )
