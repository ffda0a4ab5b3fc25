"""Every sink keeps the contract, and a disk that refuses costs nothing that was recorded."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import DURABILITIES, SERIES, STEPS, values
from tests.harness.faulty_files import FailingDisk
from trajectory_store import files
from trajectory_store.backends.zarr.sealing import MAX_WAITING_BLOCKS
from trajectory_store.backends.zarr.sink import ZarrSink
from trajectory_store.errors import (
    ReplayMismatchError,
    RunExistsError,
    StepNotRecordedError,
    StepOrderError,
    StorageError,
    UsageError,
)

Swap = Callable[[files.Disk], Any]


@pytest.mark.parametrize("durability", DURABILITIES)
def test_stored_sinks_keep_the_contract(backend: str, durability: str, tmp_path: Path) -> None:
    """Frames in, the same frames out, and misuse is an error that records nothing."""
    path = tmp_path / "run"
    options: dict[str, Any] = {"steps": STEPS, "backend": backend, "durability": durability, "attrs": contracts.ATTRS}
    contracts.check_sink(lambda: ts.create(path, SERIES, static=contracts.STATIC, block_steps=4, **options))
    contracts.check_run(path)
    contracts.check_stored_sink(path)
    contracts.check_run(path)


@pytest.mark.parametrize("make", [ts.MemorySink, ts.NullSink])
def test_sinks_without_a_disk_keep_the_contract(make: Callable[..., Any]) -> None:
    """They take and refuse the same frames."""
    contracts.check_sink(lambda: make(SERIES, STEPS))


@pytest.mark.parametrize("codec", ["temporal", "portable"])
@pytest.mark.parametrize("block_steps", [1, 3, 64])
def test_any_block_size_gives_the_same_values(codec: str, block_steps: int, tmp_path: Path) -> None:
    """Blocks are how steps are stored, not what they are."""
    options: dict[str, Any] = {"static": contracts.STATIC, "attrs": contracts.ATTRS, "steps": None}
    with ts.create(tmp_path / "run", SERIES, codec=codec, block_steps=block_steps, **options) as sink:
        for step in range(STEPS):
            sink.append(step, **values(step))
    contracts.check_run(tmp_path / "run")


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("stop", range(STEPS + 1))
def test_closed_at_any_step_and_gone_on_with(backend: str, stop: int, tmp_path: Path) -> None:
    """A run that is closed in the middle of a block is whole, and can be resumed to the same end."""
    path = contracts.record(tmp_path / "run", backend, stop=stop)
    contracts.check_run(path, stop)
    with contracts.resume(path, backend) as sink:
        for step in range(stop, STEPS):
            sink.append(step, **values(step))
    contracts.check_run(path)


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("from_step", [-1, 0, 3, 6])
def test_replayed_steps_are_compared(backend: str, from_step: int, tmp_path: Path) -> None:
    """`from_step` expects recorded steps again, and refuses the first that differs by a bit."""
    path = contracts.record(tmp_path / "run", backend, stop=7)
    with ts.resume(path, from_step=from_step) as sink:
        for step in range(from_step + 1, STEPS):
            sink.append(step, **values(step))
        assert sink.flush() == STEPS - 1
    contracts.check_run(path)
    with ts.resume(path, from_step=4) as sink:
        row = values(5)
        row["W"][2, 1] ^= 1
        with pytest.raises(ReplayMismatchError, match=r"step 5 of series 'W'.*1 of 15 elements, the first at \(2, 1\)"):
            sink.append(5, **row)
    contracts.record(tmp_path / "short", backend, stop=3)
    with pytest.raises(StepNotRecordedError):
        ts.resume(tmp_path / "short", from_step=5)


def test_an_existing_path_is_not_touched(backend: str, tmp_path: Path) -> None:
    """Neither a run nor anything else; with `overwrite` only a run gives way."""
    path = contracts.record(tmp_path / "run", backend)
    before = contracts.contents(path)
    with pytest.raises(RunExistsError, match="already exists"):
        ts.create(path, SERIES, steps=STEPS, backend=backend)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(RunExistsError, match="not a run"):
        ts.create(tmp_path / "other", SERIES, steps=STEPS, backend=backend, overwrite=True)
    assert before == contracts.contents(path)
    ts.create(path, SERIES, steps=STEPS, backend=backend, overwrite=True).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "run"]
    with ts.open(path) as run:
        assert len(run.steps) == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"manifest.json": '{"name": "a web page"}'}, "not a run"),
        ({"manifest.json": ""}, "not a run"),
        ({"notes.txt": "mine"}, "holds notes.txt, which is no part of a run"),
        ({".notes.partial": "mine"}, "holds .notes.partial, which"),
        ({".x.1234abcd.partial": "mine"}, "holds .x.1234abcd.partial, which"),
        ({"W/notes/thesis.txt": "mine"}, "holds W/notes/thesis.txt, which"),
        ({"notes/.manifest.json.1234abcd.partial": "mine"}, "holds notes/.manifest.json.1234abcd.partial, which"),
        ({"manifest.json": '{"crc32c":"mine'}, "fails its checksum.*will not be overwritten; remove it yourself"),
    ],
)
def test_a_neighbours_file_is_not_overwritten(
    backend: str, tmp_path: Path, content: dict[str, str], sentence: str
) -> None:
    """All of a folder goes when a run gives way, so nothing may be in it but that run, and what it left unfinished."""
    path = contracts.record(tmp_path / "run", backend)
    for name, text in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    before = contracts.contents(path)

    with pytest.raises(RunExistsError, match=sentence):
        ts.create(path, SERIES, steps=STEPS, backend=backend, overwrite=True)

    assert before == contracts.contents(path)
    assert [path] == list(tmp_path.iterdir())


def test_what_the_finder_leaves_is_no_neighbours_file(backend: str, tmp_path: Path) -> None:
    """On macOS a folder that was looked at has one more file, which keeps nobody from recording into it anew."""
    path = contracts.record(tmp_path / "run", backend)
    (path / ".DS_Store").write_bytes(b"Bud1")

    ts.create(path, SERIES, steps=STEPS, backend=backend, overwrite=True).close()

    assert not (path / ".DS_Store").exists()


def n_calls(work: Callable[[], Any], swap_disk: Swap) -> int:
    """How many durable calls some work makes."""
    disk = FailingDisk(10**9)
    swap_disk(disk)
    work()
    swap_disk(contracts.NoSync())
    return disk.n_calls


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_fails_while_a_run_is_created(backend: str, number: int, tmp_path: Path, swap_disk: Swap) -> None:
    """At any call: a StorageError, and nothing at the path or beside it; a run that would give way is untouched."""
    replaced = contracts.record(tmp_path / "old", backend, stop=3)
    before = contracts.contents(replaced)

    def make(path: Path, *, overwrite: bool) -> None:
        options: dict[str, Any] = {"backend": backend, "static": contracts.STATIC, "overwrite": overwrite}
        ts.create(path, SERIES, steps=STEPS, block_steps=4, **options).close()

    for fail_at in range(1, n_calls(lambda: make(tmp_path / "counted", overwrite=False), swap_disk)):
        for path, overwrite in ((tmp_path / f"run{fail_at}", False), (replaced, True)):
            swap_disk(FailingDisk(fail_at, number, once=True))
            with pytest.raises(StorageError, match=str(tmp_path)) as caught:
                make(path, overwrite=overwrite)
            swap_disk(contracts.NoSync())
            assert caught.value.errno == number
            if not overwrite:
                assert not path.exists() or list(ts.check(path)) == []
            elif contracts.contents(path) != before:  # it is in place; what failed is the removal of the old, or close
                assert list(ts.check(path)) == []
                return
        assert {p.name for p in tmp_path.iterdir()} <= {"old", "counted", f"run{fail_at}"}
        shutil.rmtree(tmp_path / f"run{fail_at}", ignore_errors=True)


@pytest.mark.parametrize(
    ("durability", "both"),
    [
        pytest.param("process", False, id="process", marks=pytest.mark.slow),
        pytest.param("process", True, id="process-both", marks=pytest.mark.long),
        pytest.param("power", True, id="power-both", marks=pytest.mark.long),
    ],
)
def test_a_full_disk_and_then_room(backend: str, durability: str, both: bool, tmp_path: Path, swap_disk: Swap) -> None:
    """At any call of a recording: a StorageError, then the same sink goes on with the same step, or a new one does."""
    swap_disk(contracts.NoSync())

    def prepare(path: Path) -> Any:
        return contracts.create(path, backend, durability=durability)

    def go(sink: Any) -> None:
        for step in range(STEPS):
            sink.append(step, **values(step))
            if step in (2, 5):
                sink.flush()
        sink.close()

    counted = prepare(tmp_path / "counted")
    for fail_at in range(1, n_calls(lambda: go(counted), swap_disk) + 1):
        for is_mended in (True, False) if both else (fail_at % 2 == 0,):
            path = tmp_path / f"run{fail_at}{is_mended}"
            sink = prepare(path)
            disk = FailingDisk(fail_at)
            swap_disk(disk)
            n_failures = record_all(sink, disk, is_mended=is_mended)
            swap_disk(contracts.NoSync())
            assert n_failures, fail_at
            with ts.open(path) as run:
                n_recorded = contracts.recorded_steps(run)
                contracts.assert_prefix(run, n_recorded)
            assert {finding.kind for finding in ts.check(path)} <= {"torn"}
            with contracts.resume(path, backend) as sink:
                assert sink.next_step in (n_recorded, None)
                for step in range(n_recorded, STEPS):
                    sink.append(step, **values(step))
            contracts.check_run(path)


def record_all(sink: Any, disk: FailingDisk, *, is_mended: bool) -> int:
    """Record every step on a disk that fails; goes on once it is mended, or gives up where it is not."""
    n_failures = 0

    def attempt(call: Callable[[], Any]) -> bool:
        nonlocal n_failures
        try:
            call()
        except StorageError as error:
            assert "No space left on device; make room and resume" in str(error)  # noqa: PT017
            n_failures += 1
            if not is_mended:
                return False
            disk.mend()
            call()
        return True

    for step in range(STEPS):
        if not attempt(lambda step=step: sink.append(step, **values(step))):
            break
        if step in (2, 5) and not attempt(sink.flush):
            break
    try:
        sink.close()
    except StorageError:
        n_failures += 1
    sink.close()
    return n_failures


def test_a_sync_that_failed_is_not_trusted(backend: str, tmp_path: Path, swap_disk: Swap) -> None:
    """After a failed sync the kernel counts the pages as written: what was not stored is written again."""

    class Forgetful(files.Disk):
        def __init__(self) -> None:
            self.n_written = 0
            self.is_failing = False

        def write(self, descriptor: int, buffers: Any, offset: int) -> int:
            self.n_written += sum(memoryview(buffer).nbytes for buffer in buffers)
            return super().write(descriptor, buffers, offset)

        def sync(self, descriptor: int) -> None:  # noqa: ARG002
            if self.is_failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    sink = contracts.create(tmp_path / "run", backend)
    for step in range(3):
        sink.append(step, **values(step))
    disk = Forgetful()
    swap_disk(disk)
    disk.is_failing = True
    with pytest.raises(StorageError):
        sink.flush()
    disk.is_failing = False
    before = disk.n_written
    assert sink.flush() == 2
    assert disk.n_written - before >= 3 * SERIES["W"].row_bytes
    sink.close()
    contracts.check_run(tmp_path / "run", 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(backend: str, tmp_path: Path) -> None:
    """A clear error, before anything is written."""
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="check the permissions"):
        ts.create(tmp_path / "locked" / "run", SERIES, steps=STEPS, backend=backend)


def test_an_error_of_the_sealing_thread_reaches_the_next_call(tmp_path: Path, swap_disk: Swap) -> None:
    """It is raised before the frame is recorded, so that the frame can be appended again."""

    class NoBlocks(contracts.NoSync):
        def __init__(self) -> None:
            self.met = threading.Event()
            self.is_full = True

        def create(self, path: Path) -> int:
            if self.is_full and "c" in path.relative_to(tmp_path).parts:
                self.met.set()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().create(path)

    disk = NoBlocks()
    sink = ts.create(tmp_path / "run", SERIES, steps=STEPS, block_steps=4)
    swap_disk(disk)
    for step in range(4):
        sink.append(step, **values(step))
    assert disk.met.wait(10)
    failed, step = 0, 4
    while step < STEPS:
        try:
            sink.append(step, **values(step))
        except StorageError:
            failed += 1
            disk.is_full = failed < 3
            continue
        step += 1
        sink._sealer._running is None or sink._sealer._running.exception(10)  # let the background catch up
    assert failed
    sink.close()
    with ts.open(tmp_path / "run") as run:
        contracts.assert_prefix(run, STEPS)


def test_a_series_can_have_a_block_that_repeats(tmp_path: Path) -> None:
    """Rows that never change: a block that is enlarged by them stays the same file."""
    with ts.create(tmp_path / "run", {"x": ts.Series((3,), "int32")}, block_steps=8) as sink:
        sink.append(0, x=np.arange(3, dtype=np.int32))
    for step in range(1, 20):
        with ts.resume(tmp_path / "run") as sink:
            sink.append(step, x=np.arange(3, dtype=np.int32))
        assert list(ts.check(tmp_path / "run")) == []


def test_wrong_options_leave_nothing(tmp_path: Path) -> None:
    """One clear sentence each."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"backend": "hdf5"}, "backend 'hdf5' is unknown"),
        ({"durability": "eternal"}, "durability 'eternal' is unknown"),
        ({"codec": "zip"}, "codec 'zip' is unknown"),
        ({"backend": "memmap", "steps": None}, "needs steps="),
        ({"block_steps": 0}, "block_steps=0"),
        ({"attrs": {"x": object()}}, "attrs must be"),
        ({"attrs": {"x": float("nan")}}, "attrs must be"),
        ({"static": {"W": np.zeros(3)}}, "both a series and a static array"),
        ({"static": {"../x": np.zeros(3)}}, "cannot name"),
        ({"static": {"x": np.zeros(0)}}, "empty"),
        ({"static": {"x": np.array(["a"])}}, "dtype"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 4}, "declares step 6"),
    ]
    for options, message in wrong:
        with pytest.raises(UsageError, match=message):
            ts.create(tmp_path / "run", SERIES, **{"steps": STEPS, **options})
        assert list(tmp_path.iterdir()) == []


def test_steps_come_in_order(backend: str, tmp_path: Path) -> None:
    """A step that is repeated, skipped or no int is refused and may be put right."""
    with contracts.create(tmp_path / "run", backend) as sink:
        sink.append(np.int64(0), **values(0))
        for wrong in (0, 2, -1, 1.0, True, None):
            with pytest.raises(StepOrderError):
                sink.append(wrong, **values(1))
        sink.append(1, **values(1))


def test_a_sink_that_cannot_keep_up_lets_the_trainer_wait_and_counts_it(tmp_path: Path) -> None:
    """The journal stays bounded: with the blocks that may wait complete, append waits for one to be sealed."""
    gate = threading.Event()
    series = {"x": ts.Series((4,), "float32")}
    ts.create(tmp_path / "run", series, steps=100, block_steps=2).close()
    sink = ZarrSink(tmp_path / "run")
    seal = sink._sealer.seal

    def sealed_late(steps: Any) -> None:
        gate.wait()
        time.sleep(0.05)
        seal(steps)

    sink._sealer.seal = sealed_late  # type: ignore[method-assign]
    n_free = 2 * (MAX_WAITING_BLOCKS + 1)
    for step in range(n_free):
        sink.append(step, x=np.zeros(4, np.float32))
    assert sink.waited_s == 0
    threading.Timer(0.1, gate.set).start()
    sink.append(n_free, x=np.zeros(4, np.float32))
    assert sink.waited_s >= 0.1
    sink.close()
    with ts.open(tmp_path / "run") as run:
        assert len(run["x"]) == n_free + 1
