"""docs/analysis.md names what there is."""

import re
from pathlib import Path

from trajectory_store import analysis

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text()


def test_every_function_is_described():
    """Each public function and analysis has its row."""
    functions = {name for name in analysis.__all__ if name.islower()} - {"scan", "scan_one"}

    assert {name for name in functions if f"`{name}" not in PAGE and f"{name}." not in PAGE} == set()


def test_every_name_on_the_page_exists():
    """`Name(…)` is an analysis or a scheme of ours."""
    assert {name for name in re.findall(r"`([A-Z]\w+)\(", PAGE) if not hasattr(analysis, name)} == set()
