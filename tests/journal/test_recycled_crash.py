"""Crashes and failures of a disk while segments are written over the files of earlier ones."""

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import abandon, assert_prefix, recorded_steps, values
from tests.harness.faulty_files import FileSystem, Tape, lay_out
from tests.harness.recycling import SPEC, STEPS, Swap, assert_resumes, create, last_segment, left
from trajectory_store import files
from trajectory_store.errors import StorageError
from trajectory_store.journal import record, spare
from trajectory_store.journal.segment import segment_path
from trajectory_store.journal.writer import JournalWriter

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_process_that_dies_between_two_calls_leaves_nothing_torn(
    durability: str, swap_disk: Swap, tmp_path: Path
) -> None:
    """A segment that was begun and has no frame yet is as little torn as one that ends in front of leftovers."""
    root = tmp_path / "taped"
    root.mkdir()
    swap_disk(tape := Tape(root))
    sink = create(root / "run", durability)
    begun, appended = len(tape.calls), []
    for step in range(STEPS):
        sink.append(step, **values(step))
        appended.append(len(tape.calls))
        if step in (5, 7, 13):
            sink.flush()
    sink.close()
    swap_disk(contracts.NoSync())
    renames = [call.path for call in tape.calls if call.kind == "rename" and spare.NAME in (call.path + call.target)]
    assert len(renames) == 11
    segments = {call.file for call in tape.calls if call.kind == "create" and "/journal/" in call.path}
    system = FileSystem()
    for n, call in enumerate(tape.calls):
        system.do(call)
        if n < begun or (call.file not in segments and spare.NAME not in call.path + call.target):
            continue
        lay_out(system.left(), tmp_path / "left")
        path = tmp_path / "left" / "run"
        assert [f for f in ts.check(path) if f.path.suffix != ".partial"] == []
        n_written = sum(calls <= n + 1 for calls in appended)
        with ts.open(path) as run:
            n_steps = recorded_steps(run)
            assert n_written <= n_steps <= n_written + 1
        assert_resumes(path, n_steps)
        shutil.rmtree(tmp_path / "left")


def torn(path: Path, n_steps: int, n_bytes: int) -> int:
    """A run whose writer died when `n_bytes` of the last record were written; returns the size of that write."""
    sink = create(path)
    for step in range(n_steps - 1):
        sink.append(step, **values(step))

    class DiedError(Exception):
        pass

    class Tearing(contracts.NoSync):
        size = 0

        def write(self, descriptor: int, buffers: list, offset: int) -> int:
            data = b"".join(map(bytes, buffers))
            self.size = len(data)
            os.pwrite(descriptor, data[:n_bytes], offset)
            raise DiedError

    kept, files.disk = files.disk, Tearing()
    try:
        with pytest.raises(DiedError):
            sink.append(n_steps - 1, **values(n_steps - 1))
        return files.disk.size
    finally:
        files.disk = kept
        abandon(sink)


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("n_steps", [9, 11, 14])
def test_a_torn_frame_over_an_earlier_segment(n_steps: int, tmp_path: Path) -> None:
    """Cut anywhere: the frame is gone and no other, and what is said to be torn is not more than it took."""
    size, frame_bytes = 150, record.frame_bytes(SPEC, n_steps - 1)
    for n_bytes in (*range(0, frame_bytes, 5), frame_bytes - 1, frame_bytes, frame_bytes + 9, size):
        path = tmp_path / str(n_bytes)
        n_written = torn(path, n_steps, n_bytes)
        assert frame_bytes < n_written <= frame_bytes + record.SMALLEST_BYTES <= size
        n_kept = n_steps if n_bytes >= frame_bytes else n_steps - 1
        assert {f.kind for f in ts.check(path)} <= {"torn"}
        if n_bytes in (0, size):
            assert list(ts.check(path)) == []
        assert_resumes(path, n_kept, dropped_bytes=record.frame_bytes(SPEC, n_kept))
        shutil.rmtree(path)


@pytest.mark.usefixtures("no_sync")
def test_an_earlier_sync_proves_nothing(tmp_path: Path) -> None:
    """A torn first frame over a segment that was flushed: its sync records are not this segment's."""
    for n_bytes in range(0, 200, 7):
        path = tmp_path / str(n_bytes)
        sink = create(path)
        for step in range(8):
            sink.append(step, **values(step))
            sink.flush()
        abandon(sink)
        file = segment_path(path / "journal", 8)
        (path / "journal" / spare.NAME).rename(file)
        with file.open("r+b") as torn_file:
            torn_file.write(os.urandom(n_bytes))
        with last_segment(path) as segment:
            assert (segment.entries, segment.gaps, segment.synced_step, segment.end) == ([], [], -1, 0)
        assert_resumes(path, 8, dropped_bytes=record.frame_bytes(SPEC, 8))


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("names", [("old",), ("old", "new"), ("old", "spare"), ("spare", "new")])
def test_old_names_after_a_power_loss(names: tuple[str, ...], tmp_path: Path) -> None:
    """The renames did not all reach the disk: new frames under a sealed segment's name are ignored, and removed."""
    path = left(tmp_path / "run", 10)
    folder = path / "journal"
    data = segment_path(folder, 8).read_bytes()
    segment_path(folder, 8).unlink()
    of = {"old": segment_path(folder, 4), "new": segment_path(folder, 8), "spare": folder / spare.NAME}
    for name in names:
        of[name].write_bytes(data)
    assert list(ts.check(path)) == []
    assert_resumes(path, 10 if "new" in names else 8)


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 50), marks=pytest.mark.long)], ids=["few", "many"])
@pytest.mark.parametrize("durability", ["process", "power"])
def test_power_lost_over_earlier_segments(seeds: range, durability: str, swap_disk: Swap, tmp_path: Path) -> None:
    """Of what was written over synced or unsynced bytes any sector may be there, under any of the names it had."""
    root = tmp_path / "taped"
    root.mkdir()
    swap_disk(tape := Tape(root))
    sink = create(root / "run", durability)
    begun, promised = len(tape.calls), [(0, -1)]
    for step in range(STEPS):
        sink.append(step, **values(step))
        if durability == "power" or step % 5 == 1:
            flushed = sink.flush()
            promised.append((len(tape.calls), flushed))
    sink.close()
    swap_disk(contracts.NoSync())
    system = FileSystem()
    for n, call in enumerate(tape.calls):
        system.do(call)
        for seed in seeds if n >= begun else ():
            if (n + seed) % 4:  # every call with one seed in four
                continue
            lay_out(system.torn(random.Random(f"{seed} {n}")), tmp_path / "left")
            path = tmp_path / "left" / "run"
            assert {f.kind for f in ts.check(path)} <= {"torn"}
            resumed = contracts.resume(path, "zarr")
            first = STEPS if resumed.next_step is None else resumed.next_step
            assert first > max(step for calls, step in promised if calls <= n + 1)
            with ts.open(path) as run:
                assert_prefix(run, first)
            for step in range(first, STEPS):
                resumed.append(step, **values(step))
            resumed.close()
            contracts.check_run(path, STEPS)
            shutil.rmtree(tmp_path / "left")


def test_a_write_that_fails_over_an_earlier_segment(tmp_path: Path, swap_disk: Swap) -> None:
    """The frame can be appended again, also where its torn bytes cannot be cut off; a reader sees no trace of it."""

    class Full(contracts.NoSync):
        is_full = False

        def write(self, descriptor: int, buffers: list, offset: int) -> int:
            if self.is_full:
                os.pwrite(descriptor, b"".join(map(bytes, buffers))[:50], offset)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(descriptor, buffers, offset)

        def truncate(self, descriptor: int, size: int) -> None:
            if cuts:
                super().truncate(descriptor, size)
            else:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    for cuts in (True, False):
        swap_disk(disk := Full())
        sink = create(tmp_path / f"run{cuts}")
        for step in range(STEPS):
            disk.is_full = step in (8, 10, 15, 16)
            if disk.is_full:
                with pytest.raises(StorageError):
                    sink.append(step, **values(step))
                with ts.open(tmp_path / f"run{cuts}") as run:
                    assert_prefix(run, step)
            disk.is_full = False
            sink.append(step, **values(step))
            assert list(ts.check(tmp_path / f"run{cuts}")) == []
        sink.close()
        contracts.check_run(tmp_path / f"run{cuts}", STEPS)


def test_after_a_failed_sync_the_end_is_written_again_too(tmp_path: Path, swap_disk: Swap) -> None:
    """The kernel may have forgotten the end record with the frames: without it what follows would look torn."""

    class Failing(files.Disk):
        is_failing = True

        def __init__(self) -> None:
            self.written = 0

        def write(self, descriptor: int, buffers: list, offset: int) -> int:
            taken = super().write(descriptor, buffers, offset)
            self.written = max(self.written, offset + taken)
            return taken

        def sync(self, descriptor: int) -> None:  # noqa: ARG002
            if self.is_failing:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = JournalWriter(tmp_path, sync_every_frame=False)
    segment_path(tmp_path, 0).write_bytes(bytes(5_000))
    writer.spare.keep(segment_path(tmp_path, 0))
    writer.start(4)
    writer.append(4, SPEC.frame(4, values(4)))
    swap_disk(disk := Failing())
    with pytest.raises(StorageError):
        writer.flush()
    disk.is_failing = False
    writer._sync(4)
    writer.close()
    assert disk.written == record.frame_bytes(SPEC, 4) + record.SMALLEST_BYTES
