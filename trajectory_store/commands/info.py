"""`trajectory-store info`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from . import terminal


@click.command("info", short_help="Say what a run or file holds.")
@click.argument("run", type=terminal.PATH)
@terminal.JSON
def command(run: Path, as_json: bool) -> None:
    """Say what RUN, a run's folder or a safetensors file, holds: series, steps, sizes, attributes."""
    found = about(run)
    if as_json:
        terminal.echo_json(found)
    else:
        terminal.echo(*_lines(found))


def about(path: Path) -> dict[str, Any]:
    """What there is to know about a run without decoding any of its steps, as JSON can hold it."""
    from ..run import open_run

    with open_run(path) as run:
        spec, until = run.source.spec, run.source.recorded_until
        found: dict[str, Any] = {
            "path": str(path),
            "backend": run.source.backend,
            "recorded_steps": spec.n_steps_before(until),
            "last_step": spec.last_due_before(until),
            "planned_steps": run.planned_steps,
            "series": {
                name: {
                    "dtype": series.dtype,
                    "shape": list(series.shape),
                    "dims": list(series.dims or ()),
                    "steps": series.to_json()["steps"],
                    "rows": len(run[name]),
                    "raw_bytes": run[name].nbytes,
                }
                for name, series in run.series.items()
            },
            "attrs": dict(run.attrs),
        }
        if path.is_file():
            found["static"] = {
                name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in run.static.items()
            }
            raw_bytes = sum(array.nbytes for array in run.static.values())
            found["stored_bytes"] = path.stat().st_size
        else:
            raw_bytes = _add_stored(found, path)
        found["raw_bytes"] = raw_bytes + sum(series["raw_bytes"] for series in found["series"].values())
    found["ratio"] = found["raw_bytes"] / found["stored_bytes"] if found["stored_bytes"] else None
    return found


def _add_stored(found: dict[str, Any], path: Path) -> int:
    """Add what the manifest and the files say; returns the raw bytes of the static arrays."""
    from ..backends import manifest, writer_lock
    from ..files import folder_bytes
    from ..journal.segment import JOURNAL_FOLDER

    committed = manifest.load(path)
    found["is_being_written"] = writer_lock.WriterLock.is_held(path)
    found["static"] = {n: {"dtype": one.dtype, "shape": list(one.shape)} for n, one in committed.static.items()}
    found["stored_bytes"] = folder_bytes(path)
    if committed.has_blocks:
        sealed_steps, recorded_steps = committed.spec.n_steps_before(committed.sealed_until), found["recorded_steps"]
        found["codec"] = committed.codec
        found["block_steps"] = committed.block_steps
        found["tail"] = {
            "steps": None if sealed_steps is None or recorded_steps is None else max(0, recorded_steps - sealed_steps),
            "bytes": folder_bytes(path / JOURNAL_FOLDER),
        }
        for name, series in found["series"].items():
            series["stored_bytes"] = folder_bytes(path / name)
    return sum(array.n_bytes for array in committed.static.values())


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from ..sizes import format_bytes

    planned, n_steps = found["planned_steps"], found["recorded_steps"]
    what = "safetensors file" if found["backend"] == "safetensors" else f"run, backend {found['backend']}"
    writing = ", being written" if found.get("is_being_written") else ""
    yield f"{found['path']}: {what}{writing}"
    of = f" of {planned:,} planned" if planned not in (None, n_steps) else ""
    last = "" if found["last_step"] is None else f", the last is {found['last_step']:,}"
    yield f"steps     {_count(n_steps)}{of}{last}"
    yield (
        f"size      {format_bytes(found['raw_bytes'])} raw, {format_bytes(found['stored_bytes'])} stored"
        + (f", {found['ratio']:,.1f} : 1" if found["ratio"] else "")
    )
    if "codec" in found:
        yield f"codec     {found['codec']}, blocks of {found['block_steps']:,} steps"
        tail = found["tail"]
        yield f"tail      {_count(tail['steps'])} steps in the journal, {format_bytes(tail['bytes'])}"
    yield "series"
    for name, series in found["series"].items():
        shape = " × ".join(f"{n:,}" for n in (series["rows"], *series["shape"]))
        stored = f", {format_bytes(series['stored_bytes'])} stored" if "stored_bytes" in series else ""
        when = "" if series["steps"] is None else f", steps {_short(series['steps'])}"
        yield f"  {name:<13} {series['dtype']:<10}{shape}, {format_bytes(series['raw_bytes'])}{stored}{when}"
    if found["static"]:
        yield "static arrays"
    for name, array in found["static"].items():
        shape = " × ".join(f"{n:,}" for n in array["shape"]) or "scalar"
        yield f"  {name:<13} {array['dtype']:<10}{shape}"
    if found["attrs"]:
        yield "attributes"
    for key, value in found["attrs"].items():
        yield f"  {key:<13} {_short(value)}"


def _count(n: int | None) -> str:
    return "more than are counted" if n is None else f"{n:,}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
