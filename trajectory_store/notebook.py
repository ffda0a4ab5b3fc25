"""Runs and series as a notebook shows them, and how far a pass over one is."""

from html import escape
from typing import Any

from .progress import Progress
from .run import LazySeries, Run, format_bytes


def bar(label: str = "") -> Progress:
    """A bar for whatever takes `progress=`, in a notebook and on a terminal: `freeze_onset(run, progress=bar())`."""
    from tqdm.auto import tqdm

    drawn: Any = None

    def report(done: int, total: int) -> None:
        nonlocal drawn
        if done == 0 or drawn is None:
            drawn = tqdm(desc=label or None, total=total, unit="B", unit_scale=True)
        drawn.update(done - drawn.n)
        if done >= total:
            drawn.close()

    return report


def run_html(run: Run) -> str:
    """A run's path, steps, series, static arrays and attributes as tables; reads nothing of a series."""
    planned = "" if run.planned_steps in (None, len(run.steps)) else f" of {run.planned_steps:,}"
    head = (
        f"<b>Run</b> <code>{escape(str(run.path))}</code> ({escape(run.source.backend)}): {len(run.steps):,}{planned}"
    )
    series = [[name, *_facts(run[name])] for name in run]
    parts = [f"<div>{head} steps", _table(["series", "shape", "dtype", "bytes", "steps"], series)]
    if run.static:
        parts.append(f"<div>Static arrays: <code>{escape(', '.join(run.static))}</code></div>")
    if run.attrs:
        rows = [[str(key), _shortened(repr(value))] for key, value in run.attrs.items()]
        parts.append(f"<details><summary>Attributes</summary>{_table(['name', 'value'], rows)}</details>")
    return "".join([*parts, "</div>"])


def series_html(series: LazySeries) -> str:
    """A lazy series' shape, dtype and size as a table."""
    return _table(["series", "shape", "dtype", "bytes", "steps"], [[series.name, *_facts(series)]])


def _facts(series: LazySeries) -> list[str]:
    shape = ", ".join(f"{dim}: {size:,}" for dim, size in zip(series.dims, series.shape, strict=True))
    dtype = series.spec.dtype if series.dtype == series.spec.logical_dtype else str(series.dtype)
    steps = series.steps
    span = f"{steps[0]:,} to {steps[-1]:,}" if len(steps) else "none yet"
    return [shape, dtype, format_bytes(series.nbytes), span]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shortened(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
