"""Numbers in the documentation come from where the page says."""

import json
import re

from benchmarks.__main__ import table
from tests.harness.doc_pages import ROOT


def test_the_readme_says_what_the_committed_figures_say() -> None:
    """Its picture of the peers and the sentences below it: we and the best peers that compress tenfold or more."""
    page = " ".join((ROOT / "README.md").read_text().split())
    peers = json.loads((ROOT / "benchmarks/results/standard.json").read_text())["peers"]
    ours = peers["trajectory_store"]
    others = [figures for name, figures in peers.items() if "trajectory_store" not in name and figures["ratio"] >= 10]
    ratio, speed = (max(one[key] for one in others) for key in ("ratio", "pass_gb_s"))

    assert f"stores {ours['ratio']:.0f} : 1, the next best {ratio:.0f} : 1" in page
    assert f"a pass at {ours['pass_gb_s']:.1f} GB/s, the next best {speed:.1f}" in page
    assert 1.9 < ours["ratio"] / ratio < 2.3, "half the size of the next best"
    assert 1.6 < ours["pass_gb_s"] / speed < 2, "nearly twice as fast"
    assert 0.6 < ours["step_ms"] / min(one["step_ms"] for one in others) < 0.7, "two thirds of the time"
    assert 0.4 < min(one["token_ms"] for one in others) / ours["token_ms"] < 0.6, "half the time"


def test_the_results_have_the_table_of_the_committed_figures() -> None:
    """benchmarks/results/standard.json, as `python -m benchmarks` prints it."""
    page = (ROOT / "docs/results.md").read_text()
    figures = json.loads((ROOT / "benchmarks/results/standard.json").read_text())
    shown = re.search(r"<!-- standard.json -->\n(.*)\n<!-- /standard.json -->", page, re.DOTALL)

    assert shown is not None
    assert shown[1] == table(figures)
