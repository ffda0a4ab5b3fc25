"""A small recording with everything in it, and the contracts that every sink and every run of it keep."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from trajectory_store import files
from trajectory_store.backends.memmap.sink import MemmapSink
from trajectory_store.backends.zarr.sink import ZarrSink
from trajectory_store.errors import (
    FrameError,
    LossyCastError,
    RunLockedError,
    StepNotRecordedError,
    StepOrderError,
    UsageError,
)

SERIES = {
    "W": ts.Series((5, 3), "bfloat16", dims=("token", "dim")),
    "loss": ts.Series((), "float32"),
    "g": ts.Series((4,), "float16", steps=3),
    "flag": ts.Series((2,), "bool", steps=(1, 5, 6)),
}
STEPS = 11
BLOCK_STEPS = 4
STATIC = {"mask": np.array([True, False, True, True, False]), "ids": np.arange(6, dtype=np.int64).reshape(2, 3)}
ATTRS = {"experiment": "contract"}
BACKENDS = ("zarr", "memmap")
DURABILITIES = ("process", "power", "none")

Values = Mapping[str, np.ndarray]


def values(step: int) -> dict[str, np.ndarray]:
    """What the recording holds at a step: any bit pattern can occur."""
    rng = np.random.default_rng(step)
    every = {
        "W": rng.integers(0, 1 << 16, (5, 3)).astype(np.uint16),
        "loss": rng.standard_normal((), dtype=np.float32),
        "g": rng.integers(0, 1 << 16, 4).astype(np.uint16).view(np.float16),
        "flag": rng.integers(0, 2, 2).astype(bool),
    }
    return {name: np.asarray(value) for name, value in every.items() if SERIES[name].is_due(step)}


def bits(array: Any) -> bytes:
    """The bytes of an array: what "bit for bit" compares."""
    return np.ascontiguousarray(array).tobytes()


class InCallersThread(Executor):
    """Runs what it is given at once, so that the order of durable calls is always the same."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # an interrupt comes to the thread that runs this
            future.set_exception(error)
        return future


def create(path: Path, backend: str, **options: Any) -> ts.Sink:
    """Begin the small recording; its seals run in this thread."""
    durability = options.get("durability", "process")
    options = {"static": STATIC, "attrs": ATTRS, **options}
    sink = ts.create(path, SERIES, steps=STEPS, backend=backend, block_steps=BLOCK_STEPS, **options)
    sink.close()
    return resume(path, backend, durability)


def resume(path: Path, backend: str, durability: str = "process") -> Any:
    """Go on with it; its seals run in this thread."""
    if backend == "memmap":
        return MemmapSink(path, durability=durability)
    return ZarrSink(path, durability=durability, executor=InCallersThread())


def record(path: Path, backend: str, *, stop: int = STEPS, close: bool = True, **options: Any) -> Path:
    """Record steps 0 … stop − 1; without `close` the run is left as by a process that died, its lock released."""
    sink = create(path, backend, **options)
    for step in range(stop):
        sink.append(step, **values(step))
    if close:
        sink.close()
    else:
        abandon(sink)
    return path


def abandon(sink: Any) -> None:
    """Drop a sink as the death of its process would: nothing is sealed, synced or cut; its lock goes."""
    sink._is_closed = True
    if isinstance(sink, ZarrSink):  # its executor goes on: a seal that was begun is not stopped by this
        sink._journal.close()
        sink._lock.release()
    else:
        sink._release()


def recorded_steps(run: ts.Run) -> int:
    """Steps 0 … n − 1 are recorded: n, once it is checked that they are a prefix."""
    steps = run.steps.tolist()
    assert list(range(len(steps))) == steps
    return len(steps)


def assert_prefix(run: ts.Run, n_steps: int) -> None:
    """Every value of the first `n_steps` steps is the one recorded, read one by one and at once."""
    for name, series in SERIES.items():
        due = [step for step in range(n_steps) if series.is_due(step)]
        lazy = run[name]
        assert due == lazy.steps.tolist()
        whole = lazy.bits[...]
        for row, step in enumerate(due):
            assert bits(values(step)[name]) == bits(whole[row]) == bits(lazy.bits.at_step(step))


def check_run(path: Path, n_steps: int = STEPS) -> None:
    """The contract of a run that holds steps 0 … n_steps − 1."""
    with ts.open(path) as run:
        assert n_steps == recorded_steps(run)
        assert_prefix(run, n_steps)
        assert run.attrs == ATTRS
        assert sorted(STATIC) == sorted(run.static)
        for name, array in STATIC.items():
            assert array.dtype == run.static[name].dtype
            assert bits(array) == bits(run.static[name])
        with pytest.raises(StepNotRecordedError):
            run["W"][n_steps]
        with pytest.raises(StepNotRecordedError):
            run["W"].at_step(n_steps)
    assert list(ts.check(path)) == []


def check_sink(make: Callable[[], Any]) -> None:
    """The contract of a new sink of the small recording; leaves it with every step in it, closed."""
    sink = make()
    assert sink.next_step == 0
    assert sink.flush() is None
    with pytest.raises(StepOrderError, match="expected step 0"):
        sink.append(1, **values(1))
    with pytest.raises(FrameError, match="missing"):
        sink.append(0, W=values(0)["W"])
    with pytest.raises(FrameError, match="nonsense"):
        sink.append(0, nonsense=1, **values(0))
    with pytest.raises(FrameError, match="shape"):
        sink.append(0, **{**values(0), "W": np.zeros((5, 4), np.uint16)})
    with pytest.raises(LossyCastError):
        sink.append(0, **{**values(0), "W": np.zeros((5, 3), np.float32)})
    for step in range(STEPS):
        row = values(step)
        sink.append(step, **row)
        for value in row.values():
            value[...] = 0  # the caller may reuse its buffers
        if step % 3 == 1:
            assert step == sink.flush()
    with pytest.raises(StepOrderError, match=r"appended before|last declared"):
        sink.append(STEPS - 1, **values(STEPS - 1))
    assert sink.flush() == STEPS - 1
    assert sink.next_step is None
    sink.close()
    sink.close()


def check_stored_sink(path: Path) -> None:
    """What a sink on disk promises beside."""
    sink = ts.resume(path)
    with pytest.raises(RunLockedError, match=r"this very process writes this run.*contracts.py:\d+ is not closed"):
        ts.resume(path)
    sink.close()
    with pytest.raises(UsageError, match="closed"):
        sink.append(0)
    with pytest.raises(UsageError, match="closed"):
        sink.flush()


class NoSync(files.Disk):
    """The real file system without waiting for it: for tests that do not pull the plug."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the lock."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "lock"}
