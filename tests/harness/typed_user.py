"""What a user of the installed package writes: tests/test_wheel.py checks its types, strictly, and runs it.

python typed_user.py FOLDER
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt

import trajectory_store as ts
from trajectory_store.errors import TrajectoryError, UsageError

STEPS = 12
SERIES = {
    "W": ts.Series((6, 4), "bfloat16", dims=("token", "dim")),
    "loss": ts.Series((), "float32"),
}


def record(path: Path, backend: ts.Backend) -> None:
    """Record a small run: what a trainer does."""
    with ts.create(path, SERIES, steps=STEPS, backend=backend, durability="none") as sink:
        for step in range(STEPS):
            rows = np.full((6, 4), step // 3, dtype=np.uint16)
            sink.append(step, W=rows, loss=1.0 / (step + 1))
        assert_type(sink.flush(), int | None)


def look(run: ts.Run) -> None:
    """Slice it, as a mapping of lazy arrays."""
    assert_type(run["W"], ts.LazySeries)
    assert_type(run.get("nothing"), ts.LazySeries | None)
    by_name: Mapping[str, ts.LazySeries] = run
    assert {name: len(series) for name, series in by_name.items()} == {"W": STEPS, "loss": STEPS}
    assert len(run) == len(dict(run)) == 2
    assert_type(run.steps, npt.NDArray[np.int64])
    assert run["W"][2:5, [1, 3]].shape == (3, 2, 4)
    assert run["W"].bits[-1].max() == (STEPS - 1) // 3


def understand(run: ts.Run) -> None:
    """Ask it something: one analysis, and several in one pass."""
    onset = ts.analysis.freeze_onset(run, threads=1)
    assert_type(onset, npt.NDArray[np.int64])
    assert onset.tolist() == [9] * 6
    cloud = ts.analysis.cloud(run, tokens=np.arange(6) < 3, progress=ts.notebook.bar("Cloud"))
    assert_type(cloud, ts.analysis.Cloud)
    still = ts.analysis.scan_one(run, ts.analysis.StillRuns())
    assert_type(still, ts.analysis.Stillness)
    _, found = ts.analysis.scan(run, [ts.analysis.FreezeOnset(), ts.analysis.CloudOf()])
    assert found.steps.tolist() == list(range(STEPS))
    findings = ts.report.findings(run)
    assert_type(findings, ts.report.Findings)
    assert len(ts.report.figures(findings)) > 0
    assert_type(ts.report.page(findings), str)


def refused(run: ts.Run) -> list[str]:
    """What a type checker refuses is one sentence when it runs."""
    said: list[str] = []
    try:
        ts.analysis.cloud(run, thread=2)  # type: ignore[call-arg]
    except UsageError as error:
        said.append(str(error))
    try:
        ts.create("nowhere", SERIES, backend="hdf5")  # type: ignore[arg-type]
    except TrajectoryError as error:
        said.append(str(error))
    return said


def main(folder: Path) -> None:
    """Everything, in `folder`."""
    assert_type(ts.__version__, str)
    record(folder / "a", "zarr")
    record(folder / "b", "memmap")
    with ts.open(folder / "a") as run:
        look(run)
        understand(run)
        wrong_option, wrong_backend = refused(run)
        assert "tokens, threads, executor, progress" in wrong_option
        assert "'zarr', 'memmap'" in wrong_backend
        assert_type(ts.export_safetensors(run, folder / "a.safetensors", dtype="bfloat16"), Path)
    compared = ts.compare(folder / "a", folder / "b")
    assert_type(compared, ts.Comparison)
    assert compared.identical
    assert_type(list(ts.check(folder / "a")), list[ts.Finding])
    imported = ts.import_file(folder / "a.safetensors", folder / "c", codec="portable")
    assert_type(imported.lossy, tuple[str, ...])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
