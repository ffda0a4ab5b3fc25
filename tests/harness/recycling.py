"""A run long enough that its segments are written over, and what holds of it wherever its writer died."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import BLOCK_STEPS, SERIES, abandon, assert_prefix, recorded_steps, values
from trajectory_store import files
from trajectory_store.backends.zarr.sink import ZarrSink
from trajectory_store.journal.segment import Segment
from trajectory_store.journal.tail import scanned_segments

STEPS = 23
SPEC = ts.RunSpec(SERIES, STEPS)
Swap = Callable[[files.Disk], files.Disk]


def create(path: Path, durability: str = "process") -> ZarrSink:
    """Begin a run of six blocks whose records differ in size; its seals run in this thread."""
    ts.create(
        path, SERIES, steps=STEPS, static=contracts.STATIC, attrs=contracts.ATTRS, block_steps=BLOCK_STEPS
    ).close()
    return contracts.resume(path, "zarr", durability)


def left(path: Path, n_steps: int, flushed: int = -1) -> Path:
    """A run of `n_steps` steps whose writer died."""
    sink = create(path)
    for step in range(n_steps):
        sink.append(step, **values(step))
        if step == flushed:
            sink.flush()
    abandon(sink)
    return path


@contextlib.contextmanager
def last_segment(path: Path) -> Iterator[Segment]:
    """The last segment of a run, scanned."""
    with scanned_segments(path / "journal", SPEC, BLOCK_STEPS) as segments:
        yield segments[-1]


def inode(path: Path) -> int:
    return path.stat().st_ino


def assert_resumes(path: Path, n_steps: int, *, dropped_bytes: int = 0) -> None:
    """The run has `n_steps` steps, recovery drops that many bytes at most, and the recording comes to its end."""
    with ts.open(path) as run:
        assert n_steps == recorded_steps(run)
        assert_prefix(run, n_steps)
    sink = contracts.resume(path, "zarr")
    assert sink.recovery.dropped_bytes <= dropped_bytes
    assert (sink.recovery.kept_until, sink.recovery.dropped_steps) == (n_steps, ())
    for step in range(n_steps, STEPS):
        sink.append(step, **values(step))
        if step == n_steps:  # behind what recovery left, for whoever reads the journal
            with ts.open(path) as run:
                assert_prefix(run, step + 1)
            assert list(ts.check(path)) == []
    sink.close()
    contracts.check_run(path, STEPS)
    assert [*(path / "journal").iterdir()] == []
