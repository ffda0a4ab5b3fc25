"""An export is the file that `save_file` writes, or it is not there at all."""

import errno
import os
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import trajectory_store as ts
from tests.harness import contracts
from trajectory_store import files
from trajectory_store.dtypes import DTYPES
from trajectory_store.errors import (
    DamageError,
    RunExistsError,
    RunNotFoundError,
    SeriesNotFoundError,
    StepNotRecordedError,
    StorageError,
    UsageError,
)
from trajectory_store.naming import can_name_in_new_run

pytestmark = pytest.mark.usefixtures("no_sync")

SLICES = [slice(None), slice(3, 9), slice(None, None, 3), slice(-4, None, 2), slice(1, -1), slice(0, 1), slice(5, 999)]


def expected_tensors(steps: slice, dtype: str, stop: int = contracts.STEPS) -> dict[str, np.ndarray]:
    """What numpy would hold of these steps of the small recording."""
    tensors = {}
    for name, series in contracts.SERIES.items():
        rows = [contracts.values(step)[name] for step in range(stop)[steps] if series.is_due(step)]
        stacked = np.array(rows, dtype=series.storage_dtype).reshape(len(rows), *series.shape)
        tensors[name] = stacked.view(ml_dtypes.bfloat16) if series.dtype == dtype == "bfloat16" else stacked
    return {**tensors, **contracts.STATIC}


def saved(path: Path, tensors: dict[str, np.ndarray]) -> bytes:
    save_file(tensors, path)
    return path.read_bytes()


@pytest.mark.parametrize("steps", SLICES, ids=str)
@pytest.mark.parametrize("dtype", ["uint16", "bfloat16"])
def test_an_export_is_byte_identical_to_save_file(tmp_path: Path, backend: str, dtype: str, steps: slice) -> None:
    """Every dtype, sparse series, static arrays, any slice of steps."""
    run = contracts.record(tmp_path / "run", backend)

    written = ts.export_safetensors(run, tmp_path / "out.safetensors", dtype=dtype, steps=steps)

    assert saved(tmp_path / "reference", expected_tensors(steps, dtype)) == written.read_bytes()


def test_torch_writes_the_same_bytes(tmp_path: Path, backend: str) -> None:
    """What the notebooks call: safetensors.torch.save_file."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as torch_save_file

    run = contracts.record(tmp_path / "run", backend)
    for dtype in ("uint16", "bfloat16"):
        tensors = {
            name: torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
            if array.dtype == ml_dtypes.bfloat16
            else torch.from_numpy(array.copy())
            for name, array in expected_tensors(slice(None), dtype).items()
        }
        torch_save_file(tensors, tmp_path / "reference")
        ts.export_safetensors(run, tmp_path / dtype, dtype=dtype)
        assert (tmp_path / "reference").read_bytes() == (tmp_path / dtype).read_bytes()


def test_steps_that_only_the_journal_holds_are_exported(tmp_path: Path, backend: str) -> None:
    """A run that is being written is exported up to its last whole frame."""
    with contracts.create(tmp_path / "run", backend) as sink:
        for step in range(7):
            sink.append(step, **contracts.values(step))

        ts.export_safetensors(tmp_path / "run", tmp_path / "out.safetensors")

    expected = saved(tmp_path / "reference", expected_tensors(slice(None), "uint16", stop=7))
    assert expected == (tmp_path / "out.safetensors").read_bytes()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_declaration_exports_as_save_file_does(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Order and padding of the header depend on names, dtypes and shapes alone."""
    folder = tmp_path_factory.mktemp("any")
    names = data.draw(st.lists(st.from_regex(r"[A-Za-z_]{1,6}", fullmatch=True), min_size=1, max_size=4, unique=True))
    names = [name for name in names if can_name_in_new_run(name) and name != "step"]
    shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
    dtypes = st.sampled_from(sorted(set(DTYPES) - {"bfloat16"}))
    series = {name: ts.Series(data.draw(shapes), data.draw(dtypes)) for name in names} | {
        "last": ts.Series((), "float32")
    }
    arrays = {name: np.zeros((3, *one.shape), one.storage_dtype) for name, one in series.items()}
    with ts.create(folder / "run", series) as sink:
        for step in range(3):
            sink.append(step, **{name: array[step] for name, array in arrays.items()})

    ts.export_safetensors(folder / "run", folder / "out")

    assert saved(folder / "reference", arrays) == (folder / "out").read_bytes()


def test_widening_is_exact(tmp_path: Path, backend: str) -> None:
    """All 65,536 patterns become the float32 with the same upper half, NaN payloads and −0 included."""
    patterns = np.arange(1 << 16, dtype=np.uint16)
    with ts.create(tmp_path / "run", {"m": ts.Series(patterns.shape, "bfloat16")}, steps=1, backend=backend) as sink:
        sink.append(0, m=patterns)

    ts.export_safetensors(tmp_path / "run", tmp_path / "out", widen={"m"})

    expected = (patterns.astype(np.uint32) << 16).view(np.float32)[np.newaxis]
    assert saved(tmp_path / "reference", {"m": expected}) == (tmp_path / "out").read_bytes()


def test_an_export_of_an_export_is_the_same_file(tmp_path: Path) -> None:
    """A safetensors file is exported as a run is."""
    run = contracts.record(tmp_path / "run", "zarr")
    first = ts.export_safetensors(run, tmp_path / "first", dtype="bfloat16")

    second = ts.export_safetensors(first, tmp_path / "second", dtype="bfloat16")

    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_files_mode_respects_the_umask(tmp_path: Path, umask: int) -> None:
    """save_file's own 0600 would hide the file from a group."""
    run = contracts.record(tmp_path / "run", "zarr")
    before = os.umask(umask)
    try:
        written = ts.export_safetensors(run, tmp_path / "out")
    finally:
        os.umask(before)

    assert 0o666 & ~umask == stat.S_IMODE(written.stat().st_mode)


def test_progress_ends_with_the_files_size(tmp_path: Path, backend: str) -> None:
    """Bytes done only grow, from 0 to all."""
    seen: list[tuple[int, int]] = []
    run = contracts.record(tmp_path / "run", backend)

    size = ts.export_safetensors(run, tmp_path / "out", progress=lambda *at: seen.append(at)).stat().st_size

    assert [(0, size), (size, size)] == [seen[0], seen[-1]]
    assert sorted(seen) == seen


def test_an_existing_file_is_kept_unless_overwritten(tmp_path: Path) -> None:
    """Refused first, replaced when told."""
    run, out = contracts.record(tmp_path / "run", "zarr"), tmp_path / "out"
    out.write_bytes(b"mine")

    with pytest.raises(RunExistsError, match="already exists"):
        ts.export_safetensors(run, out)
    assert out.read_bytes() == b"mine"

    ts.export_safetensors(run, out, overwrite=True)
    with safe_open(out, "numpy") as file:
        assert set(file.keys()) == {*contracts.SERIES, *contracts.STATIC}


@pytest.mark.parametrize("inside", [".", "W/c/0/0/0", "manifest.json", "new.safetensors", "frames.safetensors"])
def test_a_run_is_never_exported_into_itself(tmp_path: Path, backend: str, inside: str) -> None:
    """Not even when told to overwrite, nor through a link."""
    run = contracts.record(tmp_path / "run", backend)
    (tmp_path / "link").symlink_to(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    for folder in (run, tmp_path / "link"):
        with pytest.raises(UsageError, match="belongs to the run"):
            ts.export_safetensors(run, folder / inside, overwrite=True)

    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dtype": "float32"}, UsageError),
        ({"steps": 5}, UsageError),
        ({"steps": slice(None, None, -1)}, UsageError),
        ({"steps": slice(None, None, 0)}, UsageError),
        ({"steps": slice("a")}, UsageError),
        ({"steps": slice(50, 60)}, StepNotRecordedError),
        ({"steps": slice(5, 5)}, StepNotRecordedError),
        ({"widen": {"loss"}}, UsageError),
        ({"widen": "V"}, SeriesNotFoundError),
    ],
    ids=str,
)
def test_wrong_options_leave_nothing(tmp_path: Path, options: dict[str, Any], error: type[Exception]) -> None:
    """One clear error each, before anything is written."""
    run = contracts.record(tmp_path / "run", "zarr")

    with pytest.raises(error):
        ts.export_safetensors(run, tmp_path / "out", **options)

    assert [tmp_path / "run"] == list(tmp_path.iterdir())


def test_there_is_nothing_to_export_before_the_first_step(tmp_path: Path, backend: str) -> None:
    """An empty run says so; a missing one too."""
    contracts.record(tmp_path / "run", backend, stop=0)

    with pytest.raises(StepNotRecordedError, match="nothing to export"):
        ts.export_safetensors(tmp_path / "run", tmp_path / "out")
    with pytest.raises(RunNotFoundError):
        ts.export_safetensors(tmp_path / "nothing", tmp_path / "out")


class Failing(files.Disk):
    """A disk whose n-th call of one kind fails."""

    def __init__(self, method: str, error: int, after: int = 0) -> None:
        self._left = after
        self._error = error
        self._real = getattr(files.Disk, method)
        setattr(self, method, self._fail)

    def _fail(self, *args: Any) -> Any:
        if self._left:
            self._left -= 1
            return self._real(self, *args)
        raise OSError(self._error, os.strerror(self._error))


@pytest.mark.parametrize(
    "disk",
    [
        Failing("create", errno.EACCES),
        Failing("allocate", errno.ENOSPC),
        Failing("write", errno.ENOSPC, after=2),
        Failing("sync", errno.EIO),
        Failing("rename", errno.EPERM),
    ],
    ids=["permission", "no space", "full later", "sync", "rename"],
)
def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path, swap_disk: Any, disk: files.Disk) -> None:
    """The error says what could not be done; an older file stays as it was."""
    run, out = contracts.record(tmp_path / "run", "zarr"), tmp_path / "out"
    out.write_bytes(b"older")
    swap_disk(disk)

    with pytest.raises(StorageError, match="out: cannot write"):
        ts.export_safetensors(run, out, overwrite=True)

    assert out.read_bytes() == b"older"
    assert {"run", "out"} == {path.name for path in tmp_path.iterdir()}


def test_data_is_synced_before_it_has_a_name(tmp_path: Path, swap_disk: Any) -> None:
    """Space first, then the data, its sync, the rename, and the sync of the folder."""

    calls: list[str] = []

    class Watched(files.Disk):
        def __getattribute__(self, name: str) -> Any:
            if name in ("write", "sync", "sync_folder", "link", "allocate") and calls[-1:] != [name]:
                calls.append(name)
            return super().__getattribute__(name)

    run = contracts.record(tmp_path / "run", "zarr")
    swap_disk(Watched())

    ts.export_safetensors(run, tmp_path / "out")

    assert calls == ["allocate", "write", "sync", "link", "sync_folder"]


def test_damaged_bytes_never_leave_unnoticed(tmp_path: Path, backend: str) -> None:
    """One flipped bit of the rows: an error, and no file."""
    run = contracts.record(tmp_path / "run", backend)
    path = run / "W/c/1/0/0" if backend == "zarr" else run / "frames.safetensors"
    content = bytearray(path.read_bytes())
    content[20 if backend == "zarr" else content.find(contracts.bits(contracts.values(5)["W"]))] ^= 1
    path.write_bytes(content)

    with pytest.raises(DamageError):
        ts.export_safetensors(run, tmp_path / "out")

    assert [run] == list(tmp_path.iterdir())


def test_memory_is_bounded_by_a_block(tmp_path: Path) -> None:
    """400 MB of rows pass through less than a cache of tiles and a few pieces."""
    row = np.zeros((4096, 64), np.uint16)
    with ts.create(tmp_path / "run", {"W": ts.Series(row.shape, "bfloat16")}, block_steps=64) as sink:
        for step in range(800):
            row[step % 4096] = step
            sink.append(step, W=row)
    tracemalloc.start()
    try:
        ts.export_safetensors(tmp_path / "run", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (tmp_path / "out").stat().st_size > 400e6
    assert peak < 260e6
