"""Runs and series as a notebook shows them: tables of what is known without reading a series."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

HEADS = ("series", "shape", "dtype", "bytes", "steps")
"""What a series' cells are."""


def run_html(title: str, series: Iterable[Iterable[str]], static: Iterable[str], attrs: Mapping[str, Any]) -> str:
    """A run as tables: its title, the cells of each series, the names of its static arrays, its attributes.

    Everything but the title is escaped.
    """
    parts = [f"<div>{title}", _table(HEADS, series)]
    if names := ", ".join(static):
        parts.append(f"<div>Static arrays: <code>{escape(names)}</code></div>")
    if attrs:
        rows = [(str(key), _shortened(repr(value))) for key, value in attrs.items()]
        parts.append(f"<details><summary>Attributes</summary>{_table(('name', 'value'), rows)}</details>")
    return "".join([*parts, "</div>"])


def series_html(cells: Iterable[str]) -> str:
    """One series as a table."""
    return _table(HEADS, [cells])


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shortened(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
