"""The benchmark's figures as small bar charts, PNG and SVG."""

from pathlib import Path
from typing import Any

SHOWN = {
    "ratio": "raw : stored",
    "ingest_gb_s": "ingest, GB/s",
    "pass_gb_s": "whole pass, GB/s",
    "token_ms": "one token's history, ms (less is better)",
    "step_ms": "one random step, ms (less is better)",
    "blocking_ms": "blocking a step, ms (less is better)",
}


def draw(results: dict[str, Any], output: Path) -> None:
    """One panel a column, one bar a peer; ours in colour. Writes beside `output`, with .png and .svg."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(results["peers"])
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained", sharey=True)
    for axis, (column, title) in zip(axes.flat, SHOWN.items(), strict=True):
        values = [results["peers"][name][column] for name in names]
        colours = ["steelblue" if name.startswith("trajectory_store") else "lightgray" for name in names]
        bars = axis.barh(names, values, color=colours)
        axis.bar_label(bars, [f"{value:,.3g}" for value in values], padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    axes[0, 0].invert_yaxis()
    shape = " × ".join(f"{n:,}" for n in results["shape"])
    figure.suptitle(f"{results['workload']} recording, {shape} bfloat16; {results['machine']}; {results['date']}")
    for suffix in (".png", ".svg"):
        figure.savefig(output.with_suffix(suffix), dpi=150)
    plt.close(figure)
