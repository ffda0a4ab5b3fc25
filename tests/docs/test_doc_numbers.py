"""Numbers in the documentation come from where the page says."""

import json
import re

from doc_pages import ROOT

from benchmarks.__main__ import table


def test_the_results_have_the_table_of_the_committed_figures() -> None:
    """benchmarks/results/standard.json, as `python -m benchmarks` prints it."""
    page = (ROOT / "docs/results.md").read_text()
    figures = json.loads((ROOT / "benchmarks/results/standard.json").read_text())
    shown = re.search(r"<!-- standard.json -->\n(.*)\n<!-- /standard.json -->", page, re.DOTALL)

    assert shown is not None
    assert shown[1] == table(figures)
