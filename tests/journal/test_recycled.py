"""Segments written over the files of earlier ones: what those left is never read, and no reader loses what it has."""

import contextlib
import errno
import fcntl
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trajectory_store as ts
from tests.harness import contracts, format_reader, recorder
from tests.harness.contracts import BLOCK_STEPS, assert_prefix, bits, recorded_steps, values
from tests.harness.recycling import SPEC, STEPS, Swap, assert_resumes, create, inode, last_segment, left
from trajectory_store.errors import DamageError
from trajectory_store.journal import record, spare
from trajectory_store.journal.segment import Segment, segment_path


@pytest.mark.usefixtures("no_sync")
def test_a_sealed_segment_is_written_over(tmp_path: Path) -> None:
    """From the third block on one file serves all, longer or shorter as their records are; nothing is left of it."""
    sink = create(tmp_path / "run")
    folder, inodes, n_ended = tmp_path / "run" / "journal", set(), 0
    for step in range(STEPS):
        sink.append(step, **values(step))
        assert len([*folder.iterdir()]) == 1
        rows, _ = format_reader.read(tmp_path / "run")
        assert [*rows["W"]] == [*range(step + 1)]
        assert bits(rows["W"][step]) == bits(values(step)["W"])
        assert list(ts.check(tmp_path / "run")) == []
        inodes |= {inode(path) for path in folder.iterdir()}
        if not (folder / spare.NAME).exists():
            with last_segment(tmp_path / "run") as segment:
                n_ended += segment.is_ended
                assert segment.is_ended == (segment.end < segment.n_bytes)
    assert len(inodes) == 1
    assert n_ended > STEPS // 2
    sink.close()
    assert [*folder.iterdir()] == []
    contracts.check_run(tmp_path / "run", STEPS)


@pytest.mark.usefixtures("no_sync")
def test_readers_keep_what_they_opened(tmp_path: Path) -> None:
    """Whoever opened the run at a step reads the same rows ever after; its segment is removed and not written over."""
    sink = create(tmp_path / "run")
    folder = tmp_path / "run" / "journal"
    with contextlib.ExitStack() as stack:
        readers = []
        for step in range(STEPS):
            sink.append(step, **values(step))
            if step % BLOCK_STEPS == 1:
                held = inode(segment_path(folder, step - 1))
                readers.append((step + 1, stack.enter_context(ts.open(tmp_path / "run"))))
            if step % BLOCK_STEPS == 3:
                assert not (folder / spare.NAME).exists()
            if step % BLOCK_STEPS == 0 and step:
                assert inode(segment_path(folder, step)) != held
            for n_steps, run in readers:
                assert n_steps == recorded_steps(run)
                assert_prefix(run, n_steps)
        for _, run in readers:
            run.refresh()
            assert recorded_steps(run) == STEPS
        sink.close()


@pytest.mark.usefixtures("no_sync")
def test_a_reader_that_refreshes_follows(tmp_path: Path) -> None:
    """At every step, beside one that comes and goes: the file it had may be a later segment's by now."""
    sink = create(tmp_path / "run")
    chance = random.Random(1)
    with ts.open(tmp_path / "run") as run:
        for step in range(STEPS):
            sink.append(step, **values(step))
            if chance.random() < 0.5:
                run.refresh()
                assert recorded_steps(run) == step + 1
                assert_prefix(run, step + 1)
            with ts.open(tmp_path / "run") as other:
                assert_prefix(other, step + 1)
    sink.close()


@pytest.mark.usefixtures("no_sync")
def test_a_reader_sees_that_a_name_leads_to_another_file(tmp_path: Path) -> None:
    """What it had open is no longer what is written."""
    path = left(tmp_path / "run", 9)
    with ts.open(path) as run:
        file = segment_path(path / "journal", 8)
        shutil.copy(file, tmp_path / "copy")
        (tmp_path / "copy").replace(file)
        sink = contracts.resume(path, "zarr")
        sink.append(9, **values(9))
        run.refresh()
        assert_prefix(run, 10)
        sink.close()


def test_an_end_of_another_step_is_none(tmp_path: Path) -> None:
    """Frames before it are missing: what is there does not look sound."""
    for step, is_ended in ((8, True), (9, False)):
        frame = record.frame_record(8, -1, SPEC.frame(8, values(8)))[1]
        data = b"".join(map(bytes, [*frame, *record.end_buffers(step, -1), bytes(999)]))
        segment_path(tmp_path, 8).write_bytes(data)
        segment = Segment(segment_path(tmp_path, 8), SPEC, BLOCK_STEPS)
        segment.scan()
        assert (len(segment.entries), segment.is_ended, segment.torn_bytes > 0) == (1, is_ended, not is_ended)
        segment.close()


def test_a_file_that_cannot_be_held_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On file systems without flock(2) a reader reads on, and no segment is written over."""
    sink = create(tmp_path / "run")

    class NoLocks:
        LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN

        @staticmethod
        def flock(*_: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(spare, "fcntl", NoLocks)
    for step in range(STEPS):
        sink.append(step, **values(step))
        assert not (tmp_path / "run" / "journal" / spare.NAME).exists()
        if step == 5:
            with ts.open(tmp_path / "run") as run:
                for later in range(6, 10):
                    sink.append(later, **values(later))
                assert_prefix(run, 6)
            break
    sink.close()
    contracts.check_run(tmp_path / "run", 10)


def test_a_reader_that_comes_too_late_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its open and its hold the file became the spare, and then another segment."""
    path = segment_path(tmp_path, 0)
    path.write_bytes(b"x")
    hold = spare.hold

    def late(descriptor: int) -> None:
        one = spare.Spare(tmp_path)
        one.keep(path)
        taken = one.take(segment_path(tmp_path, BLOCK_STEPS))
        assert taken is not None
        taken.close()
        hold(descriptor)

    monkeypatch.setattr(spare, "hold", late)
    with pytest.raises(FileNotFoundError):
        Segment(path, SPEC, BLOCK_STEPS)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the descriptor there")
def test_a_child_forked_meanwhile_does_not_keep_the_lock(tmp_path: Path, swap_disk: Swap) -> None:
    """It has the writer's descriptor too: readers can hold the next segment all the same."""
    copies = []

    def leads_to(link: Path, target: Path) -> bool:
        with contextlib.suppress(OSError):  # the listing's own
            return link.readlink() == target
        return False

    class Forking(contracts.NoSync):
        def rename(self, source: Path, target: Path) -> None:
            descriptor = max(int(link.name) for link in Path("/proc/self/fd").iterdir() if leads_to(link, source))
            copies.append(os.dup(descriptor))
            super().rename(source, target)

    swap_disk(Forking())
    segment_path(tmp_path, 0).write_bytes(b"x")
    spare.Spare(tmp_path).keep(segment_path(tmp_path, 0))
    with (tmp_path / spare.NAME).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    (copy,) = copies
    os.close(copy)


def test_a_spare_is_one_and_survives_nobody(tmp_path: Path) -> None:
    """A second one is removed; so is what a writer that died left, by the next one; `check` minds neither."""
    one = spare.Spare(tmp_path)
    assert one.take(segment_path(tmp_path, 0)) is None
    for step in (0, 4):
        segment_path(tmp_path, step).write_bytes(bytes([step]))
        one.keep(segment_path(tmp_path, step))
    one.keep(segment_path(tmp_path, 4))
    assert [path.name for path in tmp_path.iterdir()] == [spare.NAME]
    assert (tmp_path / spare.NAME).read_bytes() == bytes([0])
    one.remove()
    one.remove()
    assert [*tmp_path.iterdir()] == []

    path = left(tmp_path / "run", 8)
    assert [file.name for file in (path / "journal").iterdir()] == [spare.NAME]
    assert list(ts.check(path)) == []
    assert ts.repair(path).recovery.dropped_bytes == 0
    sink = contracts.resume(path, "zarr")
    assert [*(path / "journal").iterdir()] == []
    sink.close()


@pytest.mark.usefixtures("no_sync")
def test_flips_in_leftovers_change_nothing(tmp_path: Path) -> None:
    """Behind the end record any byte may be anything; in the end record a flip looks torn and loses nothing."""
    path = left(tmp_path / "run", 11, flushed=9)
    file = segment_path(path / "journal", 8)
    data = file.read_bytes()
    with last_segment(path) as segment:
        assert segment.is_ended
        end = segment.end
    assert len(data) > end + record.SMALLEST_BYTES
    for offset in range(end, len(data)):
        file.write_bytes(data[:offset] + bytes([data[offset] ^ 4]) + data[offset + 1 :])
        findings = [finding.kind for finding in ts.check(path)]
        assert findings == (["torn"] if offset < end + record.SMALLEST_BYTES else [])
        with ts.open(path) as run:
            assert_prefix(run, 11)
    file.write_bytes(data[:end] + bytes([data[end] ^ 4]) + data[end + 1 :])
    assert_resumes(path, 11, dropped_bytes=record.frame_bytes(SPEC, 11))


@pytest.mark.usefixtures("no_sync")
def test_damage_of_synced_frames_before_leftovers_is_damage(tmp_path: Path) -> None:
    """Wherever the frames up to the last sync are hit: nothing is cut, and no frame of the earlier segment comes up."""
    path = left(tmp_path / "run", 11, flushed=9)
    file = segment_path(path / "journal", 8)
    data = file.read_bytes()
    with last_segment(path) as segment:
        stop = segment.entries[2].offset - record.SMALLEST_BYTES  # up to the sync record behind step 9
    for offset in range(stop):
        file.write_bytes(data[:offset] + bytes([data[offset] ^ 4]) + data[offset + 1 :])
        assert [f.kind for f in ts.check(path)][:1] == ["journal"]
        with pytest.raises(DamageError, match="was synced and is damaged"):
            contracts.resume(path, "zarr")


@pytest.mark.slow
def test_readers_come_and_go_while_a_process_writes_over_segments(tmp_path: Path) -> None:
    """Each opens the run, reads the newest rows, and lets it go: whatever it meets is whole and right."""
    shape, n_steps = (600, 32), 600
    arguments = [tmp_path / "run", "zarr", n_steps, "600x32", 16, tmp_path / "acknowledged", 0.001]
    process = subprocess.Popen([sys.executable, recorder.__file__, *map(str, arguments)], stdout=subprocess.PIPE)
    n_seen, files_of, deadline = 0, {}, time.monotonic() + 120
    while n_seen < n_steps and time.monotonic() < deadline:
        with contextlib.suppress(ts.errors.RunNotFoundError), ts.open(tmp_path / "run") as run:
            assert n_seen <= len(run.steps)
            n_seen = len(run.steps)
            for step in range(max(0, n_seen - 20), n_seen, 3):
                assert bits(recorder.row(step, shape)) == bits(run["W"].bits[step])
        for path in (tmp_path / "run" / "journal").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError):
                files_of.setdefault(inode(path), set()).add(path.name)
        if n_seen % 7 == 0 and n_seen:
            assert list(ts.check(tmp_path / "run")) == []
        time.sleep(0.02)
    assert process.communicate(timeout=60)[0] == b"done\n"
    assert max(map(len, files_of.values())) > 1
