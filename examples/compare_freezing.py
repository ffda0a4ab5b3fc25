"""When the tokens of several runs freeze: a table on stdout, and a figure.

python examples/compare_freezing.py "3e-4=runs/thimble/trajectory" "1e-3=runs/crucible/trajectory" -o freezing.svg
"""

import argparse
from pathlib import Path

import numpy as np

import trajectory_store as ts
from trajectory_store import analysis
from trajectory_store.report.charts import Curve, line_chart
from trajectory_store.report.drawing import renderer, standalone
from trajectory_store.report.frame import WIDE, percent

STYLES = ("c1", "c2", "c3")
HEAD = ("run", "first", "10 %", "median", "90 %", "last", "moved in the last 1 %", "steps without a move")


def row(name, onset, still):
    """The line of a run in the table; quantiles of the tokens' last moves."""
    last = int(still.steps[-1])
    marks = np.quantile(onset, [0, 0.1, 0.5, 0.9, 1], method="inverted_cdf").astype(int)
    return name, *(f"{mark:,}" for mark in marks), f"{(onset > last * 0.99).sum():,}", f"{still.n_still:,} of {last:,}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN", help="up to three runs and what to call them")
    parser.add_argument("-o", "--output", type=Path, default=Path("freezing.svg"), help="an .svg or .png file")
    arguments = parser.parse_args()
    curves, last = [], 1
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for named, style in zip(arguments.runs, STYLES, strict=False):
        name, _, path = named.rpartition("=")
        with ts.open(path) as run:
            onset, still = analysis.scan(run, [analysis.FreezeOnset(), analysis.StillRuns()])
        print(f"| {' | '.join(row(name, onset, still))} |")
        shares = np.searchsorted(np.sort(onset), still.steps, side="right") / len(onset)
        steps = still.steps[:: max(1, len(still.steps) // 500)]
        curves.append(Curve(name, steps.astype(float), shares[steps - still.steps[0]], style))
        last = max(last, int(still.steps[-1]))
    title = "Tokens that never move again"
    chart = line_chart(
        title, curves, WIDE, steps=(1, last), is_log=False, y_label=title.lower(), y_range=(0, 1), y_text=percent
    )
    arguments.output.write_bytes(renderer(arguments.output.suffix[1:])(standalone(chart)))


if __name__ == "__main__":
    main()
