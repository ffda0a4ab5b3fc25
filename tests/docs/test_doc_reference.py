"""The Python reference has every public name once, and nothing that does not exist."""

import inspect
import re
from collections import Counter
from importlib import import_module
from typing import Any

import pytest

import trajectory_store as ts
from tests.harness.doc_pages import ROOT
from trajectory_store import analysis, errors, report

DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|exception|data)::\s+(trajectory_store\.[\w.]+)", re.MULTILINE)
MODULES = {"analysis", "errors", "lattice", "notebook", "report", "__version__"}
"""Public names with pages or sections of their own, or with nothing to document."""

WORDS = {"Backend", "Codec", "Durability"}
"""Types that say which words an option takes; the docstring of a name stands where the name is assigned."""


def documented() -> Counter[str]:
    """Dotted name → how often docs/reference documents it."""
    pages = sorted((ROOT / "docs" / "reference").glob("*.rst"))
    return Counter(name for page in pages for name in DIRECTIVE.findall(page.read_text()))


def public() -> set[str]:
    """Every public name, dotted."""
    names = {f"trajectory_store.{name}" for name in set(ts.__all__) - MODULES - WORDS}
    names |= {f"trajectory_store.words.{name}" for name in WORDS}
    names |= {f"trajectory_store.analysis.{name}" for name in set(analysis.__all__) - MODULES}
    names |= {f"trajectory_store.report.{name}" for name in report.__all__}
    names |= {f"trajectory_store.errors.{name}" for name, _ in inspect.getmembers(errors, inspect.isclass)}
    return names | {"trajectory_store.notebook.bar"}


def found(name: str) -> Any:
    """The object of a dotted name, looked up as autodoc does."""
    parts = name.split(".")
    for i in range(len(parts) - 1, 0, -1):
        try:
            value = import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            value = getattr(value, part)
        return value
    raise LookupError(name)


def test_every_public_name_is_documented_once() -> None:
    """A name that becomes public gets its place on a page."""
    pages = documented()

    assert public() - set(pages) == set()
    assert {name: times for name, times in pages.items() if times > 1} == {}


@pytest.mark.parametrize("name", sorted(name for name in documented() if ".words." not in name))
def test_what_is_documented_exists_and_explains_itself(name: str) -> None:
    """Each has a docstring of its own, which is what the page shows."""
    value = found(name)

    assert value.__doc__
    assert not value.__doc__.startswith(f"{name.rpartition('.')[2]}("), (
        "a dataclass without a docstring shows its signature"
    )


def test_the_table_of_analyses_has_every_function() -> None:
    """The summary that the site draws above them, line by line."""
    page = (ROOT / "docs" / "reference" / "analysis.rst").read_text()
    summary = page.partition(".. autosummary::")[2].partition(".. auto")[0]
    functions = {name for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name))}

    assert {line.strip() for line in summary.splitlines() if line.strip() and ":" not in line} == functions - {
        "scan",
        "scan_one",
    }
