"""A recording written anew, as long as it is: python -m benchmarks.full_length RUN [--rows 3699] [--step-ms 10]

What it takes on disk, the most memory that was held, and what an append waited. With more rows than the recording has,
its rows are repeated.
"""

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np

import trajectory_store as ts
from trajectory_store import safetensors_format

from .__main__ import machine, peak_bytes, reset_peak, stored_bytes
from .training_step import compute


def write(exported: Path, folder: Path, n_rows: int, step_interval_s: float) -> dict[str, float]:
    """Record the exported history and return the figures; it is read a step at a time and never mapped."""
    with exported.open("rb") as file:
        tensor = safetensors_format.read_header(file).tensors["W"]
        n_steps, n_tokens, dim = tensor.shape
        tokens = np.arange(n_rows) % n_tokens
        series = {"W": ts.Series((n_rows, dim), "bfloat16", dims=("token", "dim"))}
        file.seek(tensor.offset)
        base, waits = reset_peak(), np.empty(n_steps)
        with ts.create(folder, series, steps=n_steps) as sink:
            for step in range(n_steps):
                row = np.fromfile(file, np.uint16, n_tokens * dim).reshape(n_tokens, dim)[tokens]
                before = time.perf_counter()
                sink.append(step, W=row)
                waits[step] = time.perf_counter() - before
                if step_interval_s:
                    compute(step_interval_s)
        raw = n_steps * row.nbytes
    return {
        "raw_gb": raw / 1e9,
        "stored_mb": stored_bytes(folder) / 1e6,
        "ratio": raw / stored_bytes(folder),
        "memory_mb": (peak_bytes() - base) / 1e6,
        "append_mean_ms": float(waits.mean()) * 1e3,
        "append_median_ms": float(np.median(waits)) * 1e3,
        "append_p99_ms": float(np.percentile(waits, 99)) * 1e3,
    }


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rows", type=int, help="Tokens a step; default: as many as the recording has.")
@click.option("--step-ms", default=0.0, show_default=True, help="What a training step computes between appends.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where to write; default: a temporary folder.")
def main(run: Path, rows: int | None, step_ms: float, folder: Path | None) -> None:
    """Write RUN's series W anew and print the figures as JSON."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        exported = Path(temporary) / "history.safetensors"
        with ts.open(run) as recorded:
            n_rows = rows or recorded["W"].shape[1]
            ts.export_safetensors(recorded, exported)
        figures = write(exported, Path(temporary) / "run", n_rows, step_ms / 1e3)
    click.echo(json.dumps({**machine(), "rows": n_rows, **{name: round(f, 4) for name, f in figures.items()}}))


if __name__ == "__main__":
    main()
