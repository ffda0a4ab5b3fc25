"""Links between pages lead somewhere, also from the pages that the site does not have."""

import re
from pathlib import Path

import pytest

from tests.harness.doc_pages import PAGES, ROOT

LINK = re.compile(r"\]\((?!https?://)([^)\s#]*)(?:#([^)\s]+))?\)")
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md"]


def anchors(page: Path) -> set[str]:
    """What a code host and the site call a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """The file is there, and so is the heading."""
    broken = []
    for target, anchor in LINK.findall(page.read_text()):
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(f"{target}#{anchor}")

    assert broken == []


def test_headings_are_found() -> None:
    """As a code host spells them: signs left out, a space a hyphen."""
    assert "2026-11-23--a-checksum-that-told-nothing-apart" in anchors(ROOT / "docs/experiments.md")
    assert {"dead-token", "tile-chunk", "bfloat16-and-bit-patterns"} <= anchors(ROOT / "docs/glossary.md")
