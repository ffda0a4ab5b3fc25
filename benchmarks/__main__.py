"""Measure every peer on one workload in one process and print the table: python -m benchmarks --help"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from .peers import PEERS, Peer
from .training_step import compute
from .workloads import SHAPES, SYNTHETIC, History, real

COLUMNS = {
    "ratio": "raw : stored",
    "ingest_gb_s": "ingest, append to sealed, GB/s",
    "blocking_ms": "blocking time a step, mean, ms",
    "blocking_p99_ms": "blocking time a step, 99 %, ms",
    "token_ms": "one token's history, ms",
    "step_ms": "one random step, ms",
    "pass_gb_s": "whole pass, GB/s",
    "export_gb_s": "export, GB/s",
    "peak_mb": "memory while recording, above the start, MB",
}


def measure(peer: Peer, history: History, folder: Path, repeats: int, step_interval_s: float) -> dict[str, float]:
    """One peer's figures; every read is compared with the history, so that a fast wrong answer fails."""
    path, rng = folder / "run", np.random.default_rng(1)
    figures: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for _ in range(repeats):
        shutil.rmtree(path, ignore_errors=True)
        touch_memory(4 * history.nbytes)
        base = reset_peak()
        start, waits, idle = time.perf_counter(), [], 0.0
        peer.open(path, history.shape)  # type: ignore[arg-type]
        for step, row in enumerate(history):
            before = time.perf_counter()
            peer.append(step, row)
            waits.append(time.perf_counter() - before)
            if step_interval_s:
                compute(step_interval_s)
                idle += time.perf_counter() - before - waits[-1]
        peer.close()
        figures["ingest_gb_s"].append(history.nbytes / (time.perf_counter() - start - idle) / 1e9)
        figures["blocking_ms"].append(statistics.fmean(waits) * 1e3)  # batches stall now and then: the median hides it
        figures["blocking_p99_ms"].append(float(np.percentile(waits, 99)) * 1e3)
        figures["peak_mb"].append((peak_bytes() - base) / 1e6)
        figures["ratio"].append(history.nbytes / stored_bytes(path))

        for _ in range(5):
            token, step = int(rng.integers(history.shape[1])), int(rng.integers(history.shape[0]))
            for column, key in (("token_ms", (slice(None), token)), ("step_ms", step)):
                before = time.perf_counter()
                found = np.array(peer.read(path, key))  # a mapped file's bytes are read now, not when they are compared
                figures[column].append((time.perf_counter() - before) * 1e3)
                assert np.array_equal(found, history[key])
        figures["pass_gb_s"].append(history.nbytes / timed(lambda: whole_pass(peer, path)) / 1e9)
        figures["export_gb_s"].append(history.nbytes / timed(lambda: exported(peer, path, folder / "out")) / 1e9)
    at = 0
    for rows in peer.blocks(path):
        assert np.array_equal(rows, history[at : at + len(rows)])
        at += len(rows)
    assert at == len(history)
    shutil.rmtree(path, ignore_errors=True)
    return {name: statistics.median(values) for name, values in figures.items()}


def whole_pass(peer: Peer, path: Path) -> None:
    """Touch every row once, as an analysis does."""
    for rows in peer.blocks(path):
        rows[0, 0, 0] + rows[-1, -1, -1]


def exported(peer: Peer, path: Path, out: Path) -> None:
    """Write the safetensors file, onto the disk."""
    peer.export(path, out)
    with out.open("rb+") as file:
        os.fsync(file.fileno())


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def stored_bytes(path: Path) -> int:
    """What the files below a folder take."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def touch_memory(n_bytes: int) -> None:
    """Have the system hand out, and take back, as much memory as is about to be used.

    A virtual machine whose host took idle pages back pays ten times for each, whichever peer comes first.
    """
    np.empty(n_bytes, dtype=np.uint8).fill(1)


def reset_peak() -> int:
    """Begin a new measurement of peak memory and return the memory held now, in bytes; 0 where Linux is not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory held since `reset_peak`, in bytes, files that are mapped left out; 0 where Linux is not."""
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    except OSError:
        return 0
    return int(status["VmHWM"].split()[0]) * 1024


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@click.command()
@click.option("--workload", type=click.Choice([*SYNTHETIC, "real"]), default="drifting", show_default=True)
@click.option("--recording", type=click.Path(path_type=Path), help="The run that the workload 'real' is taken from.")
@click.option("--size", type=click.Choice(list(SHAPES)), default="standard", show_default=True)
@click.option("--shape", help="STEPSxTOKENSxDIM instead of a named size.")
@click.option("--peer", "names", multiple=True, type=click.Choice(list(PEERS)), help="Only these; repeatable.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--step-ms", default=0.0, show_default=True, help="What a training step computes between appends.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write; default: a temporary folder.")
@click.option("--output", type=click.Path(path_type=Path), help="A JSON file to write; --plot draws beside it.")
@click.option("--plot", is_flag=True, help="Also draw OUTPUT with .png and .svg.")
def main(
    workload: str,
    recording: Path | None,
    size: str,
    shape: str | None,
    names: tuple[str, ...],
    repeats: int,
    step_ms: float,
    folder: Path | None,
    output: Path | None,
    plot: bool,
) -> None:
    """Measure every peer on one workload, in one process, and print the table as Markdown."""
    dims = SHAPES[size] if shape is None else tuple(int(n) for n in shape.split("x"))
    if workload == "real":
        if recording is None:
            raise click.UsageError("the workload 'real' needs --recording, a run that the trainer made")
        history = real(recording, dims)  # type: ignore[arg-type]
    else:
        history = SYNTHETIC[workload](dims, np.random.default_rng(0))  # type: ignore[arg-type]
    results: dict[str, Any] = {"workload": workload, "shape": list(history.shape), "repeats": repeats, **machine()}
    results["peers"] = {}
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name in names or PEERS:
            try:
                results["peers"][name] = measure(PEERS[name], history, Path(temporary), repeats, step_ms / 1e3)
            except ModuleNotFoundError as error:
                click.echo(f"{name}: left out, {error.name} is not installed", err=True)
                continue
            click.echo(f"{name}: {json.dumps(results['peers'][name])}", err=True)
    click.echo(table(results))
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n")
        if plot:
            from .plot import draw

            draw(results, output)


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown, what they were taken on in the line above."""
    head = "{workload} {shape}, medians of {repeats}; {machine}, Python {python}, {date}, commit {commit}"
    lines = [head.format(**{**results, "shape": "×".join(f"{n:,}" for n in results["shape"])}), ""]
    lines += ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, figures in results["peers"].items():
        lines.append(f"| {name} | " + " | ".join(f"{figures[column]:,.3g}" for column in COLUMNS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
