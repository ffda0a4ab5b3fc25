"""docs/analysis.md has a row for each analysis, with the names that the code has."""

import inspect
import re

from tests.harness.doc_pages import ROOT
from trajectory_store import analysis

PAGE = (ROOT / "docs" / "analysis.md").read_text()
ROWS = re.findall(r"^\| [^|]+\? \| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE)
"""The table of questions: (function, what stands for it in a scan)."""


def named(cells: list[str]) -> set[str]:
    """The names in backticks, without their arguments."""
    return {name for cell in cells for name in re.findall(r"`(\w+)", cell)}


def test_every_function_answers_a_question() -> None:
    """Each public function has its row, and each row a function that exists."""
    functions = {name for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name))}

    assert named([function for function, _ in ROWS]) == functions - {"scan", "scan_one"}


def test_every_analysis_of_a_scan_is_named() -> None:
    """What can share a pass is in the third column, and what is there can."""
    for_scan = {name for name in analysis.__all__ if hasattr(getattr(analysis, name), "of_tile")} - {"Analysis"}

    assert named([scanned for _, scanned in ROWS]) == for_scan


def test_every_scheme_is_described() -> None:
    """The table of phases has each."""
    schemes = set(re.findall(r"^\| `(\w+)\(\)` \|", PAGE, re.MULTILINE))

    assert schemes == {"Regimes", "FiveStates", "LatticeOrThermal"}
    assert schemes <= set(analysis.__all__)
