"""What README and docs show is run, page by page: a stranger who copies it gets what the page says."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.harness.doc_pages import LANGUAGES, PAGES, ROOT, Block, blocks_of, run_console, run_python

RUNNING = [page for page in PAGES if any(b.language in ("python", "console") for b in blocks_of(page))]


@pytest.mark.parametrize("page", RUNNING, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one namespace and one empty folder; what the page shows as a value or as output is what comes out."""
    pytest.importorskip("xarray")
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.reason:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if block.language in ("python", "setup"):
                run_python(block, namespace)
            elif block.language == "console":
                run_console(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    """A fence names its language, so that no Python hides from the test above; what is not run says why."""
    blocks = blocks_of(page)

    assert [(str(one), one.language) for one in blocks if one.language not in LANGUAGES | {"setup"}] == []
    assert [str(one) for one in blocks if one.reason and one.language not in ("python", "console")] == []


def test_a_value_that_is_shown_wrongly_is_found() -> None:
    """The test above compares: a wrong value, a wrong output and a failing line are each an error."""
    for code, output in (("2 + 2  # → 5\n", None), ("x = 2  # → 3\n", None), ("print(4)\n", "5\n")):
        with pytest.raises(AssertionError):
            run_python(Block(ROOT / "README.md", 1, "python", code, output=output), {})
    run_python(Block(ROOT / "README.md", 1, "python", "x = list(range(99))  # → [0, … 98]\n"), {})
    with pytest.raises(ZeroDivisionError):
        run_python(Block(ROOT / "README.md", 1, "python", "1 / 0\n"), {})


def test_blocks_are_found(tmp_path: Path) -> None:
    """Hidden setup, a reason not to run, and output each go to their block; a directive of the site is no block."""
    page = ROOT / "README.md"
    text = (
        "<!-- setup\nx = 1\n-->\n\n```python\nprint(x)\n```\n\n```text\n1\n```\n\n<!-- not run: a cluster -->\n"
        "```python\ny\n```\n\n```{toctree}\na\n```\n\nWords.\n\n```text\nz\n```\n"
    )
    written = tmp_path / "page.md"
    written.write_text(text)
    found = [(b.line, b.language, b.code, b.reason, b.output) for b in blocks_of(written)]

    assert found == [
        (1, "setup", "x = 1\n", "", None),
        (5, "python", "print(x)\n", "", "1\n"),
        (14, "python", "y\n", "a cluster", None),
        (24, "text", "z\n", "", None),
    ]
    assert page in RUNNING
