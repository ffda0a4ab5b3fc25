"""Freeze onset, norms and stillness of a run in one pass, beside the notebooks' way: python -m benchmarks.findings RUN

The notebooks load the exported file, widen all of it to float32 and take the differences; that holds some 12 bytes a
value, so it is given the first steps only, and both figures are for each step. Each way runs in a process of its own,
whose peak memory is shown, and both must find the same steps of last motion.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import trajectory_store as ts
from trajectory_store import analysis

NOTEBOOK_STEPS = 1_000
Answer = tuple[float, int, bytes]
"""(seconds, peak memory in MB, the steps of last motion within the first `NOTEBOOK_STEPS`)"""


def one_pass(path: Path, _exported: Path) -> Answer:
    """Ours, over the whole run."""
    with ts.open(path) as run:
        before = time.perf_counter()
        analysis.scan(run, [analysis.FreezeOnset(), analysis.DisplacementNorms(), analysis.StillRuns()])
        seconds, peak = time.perf_counter() - before, peak_mb()
        onset = analysis.freeze_onset(run["W"].bits[:NOTEBOOK_STEPS])
    return seconds, peak, np.asarray(onset).astype(np.int64).tobytes()


def notebook(_path: Path, exported: Path) -> Answer:
    """Theirs, over the first steps."""
    import torch
    from safetensors.torch import load_file

    before = time.perf_counter()
    weights = load_file(exported)["W"].view(torch.bfloat16).float()
    moves = weights[1:] - weights[:-1]
    norms = moves.norm(dim=2)
    moved = norms > 0
    steps = torch.arange(1, len(weights))[:, None]
    last = torch.where(moved, steps, torch.zeros_like(steps)).max(dim=0).values
    still = (~moved.any(dim=1)).sum()
    seconds = time.perf_counter() - before
    del still
    return seconds, peak_mb(), last.numpy().astype(np.int64).tobytes()


def peak_mb() -> int:
    """The most memory this process held."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale // 1_000_000


def alone(work: Callable[[Path, Path], Answer], path: Path, exported: Path) -> Answer:
    """The answer of a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (path, exported))


def main() -> None:
    """Print a line a way."""
    path = Path(sys.argv[1])
    with ts.open(path) as run:
        n_steps = len(run["W"])
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "first.safetensors"
        ts.export_safetensors(path, exported, steps=slice(0, NOTEBOOK_STEPS))
        ours, theirs = alone(one_pass, path, exported), alone(notebook, path, exported)
    assert ours[2] == theirs[2], "the two ways find other steps of last motion"
    print(
        f"one pass over {n_steps:,} steps:  {ours[0]:6.2f} s, {ours[0] / n_steps * 1e3:.3f} ms a step, {ours[1]:,} MB"
    )
    n = min(n_steps, NOTEBOOK_STEPS)
    print(f"the notebooks' way, {n:,} steps: {theirs[0]:6.2f} s, {theirs[0] / n * 1e3:.3f} ms a step, {theirs[1]:,} MB")


if __name__ == "__main__":
    main()
