"""Segments: appended, synced, scanned, cut."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

import trajectory_store as ts
from tests.harness import contracts
from tests.harness.contracts import BLOCK_STEPS, SERIES, STEPS, bits, values
from trajectory_store import files
from trajectory_store.errors import DamageError
from trajectory_store.journal.mapped_segment import MappedSegment
from trajectory_store.journal.segment import Segment, remove_segment, segment_path, segment_steps
from trajectory_store.journal.tail import cut_tail, read_tail, scanned_segments
from trajectory_store.journal.writer import JournalWriter

pytestmark = pytest.mark.usefixtures("no_sync")
SPEC = ts.RunSpec(SERIES, STEPS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of two segments: steps 0 to 3, flushed at 2, and steps 4 and 5."""
    writer = JournalWriter(tmp_path, sync_every_frame=False)
    for step in range(6):
        if step % BLOCK_STEPS == 0:
            writer.start(step)
        writer.append(step, SPEC.frame(step, values(step)))
        if step == 2:
            writer.flush()
    writer.close()
    return tmp_path


def tail_of(folder: Path, sealed_until: int = 0) -> tuple[list[int], list[int], list[int]]:
    """(steps that are there and sound, damaged steps, dropped steps)."""
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        tail = read_tail(SPEC, segments, sealed_until)
        damaged = [step for step, _, _ in tail.damaged()]
        return [step for step in tail.places if step not in damaged], damaged, tail.dropped_steps


def test_the_tail_is_every_frame(folder: Path) -> None:
    """In step order over the segments, from the first one that is not sealed."""
    assert tail_of(folder) == (list(range(6)), [], [])
    assert tail_of(folder, 4) == ([4, 5], [], [])
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        tail = read_tail(SPEC, segments, 0)
        for step in range(6):
            for name, row in values(step).items():
                assert bits(tail.row(step, name)) == bits(row)


def test_a_sealed_segment_that_came_back_damaged_harms_nothing(folder: Path) -> None:
    """Its removal was not synced, nor was all of it: what is behind it counts all the same."""
    path = segment_path(folder, 0)
    path.write_bytes(bytes(100) + path.read_bytes()[100:])
    assert tail_of(folder, 4) == ([4, 5], [], [])


def test_a_torn_tail_is_dropped(folder: Path) -> None:
    """Cut anywhere, the last frame is gone and no other."""
    path = segment_path(folder, 4)
    data = path.read_bytes()
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        start = segments[1].entries[1].offset
    for n_bytes in range(start + 1, len(data)):
        path.write_bytes(data[:n_bytes])
        assert tail_of(folder) == ([0, 1, 2, 3, 4], [], [])


def test_damage_before_a_sync_is_not_torn(folder: Path) -> None:
    """Wherever the first two frames are hit, their steps are lost and reported, and the others stay."""
    path = segment_path(folder, 0)
    data = path.read_bytes()
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        ends = [entry.offset for entry in segments[0].entries]
    for offset in range(ends[2]):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 255]) + data[offset + 1 :])
        step = 0 if offset < ends[1] else 1
        sound, damaged, dropped = tail_of(folder)
        assert (damaged, dropped) == ([step], [])
        assert sound == [other for other in range(6) if other != step]


def test_a_bad_sector_over_two_headers_costs_its_frames_only(folder: Path) -> None:
    """Rows of one frame and the header of the next are gone: frames behind them are found again."""
    path = segment_path(folder, 0)
    data = bytearray(path.read_bytes())
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        at = segments[0].entries[1].offset
    data[at - 8 : at + 8] = bytes(16)
    path.write_bytes(data)
    assert tail_of(folder) == ([2, 3, 4, 5], [0, 1], [])
    with (
        scanned_segments(folder, SPEC, BLOCK_STEPS) as segments,
        pytest.raises(DamageError, match="step 0 was synced"),
    ):
        cut_tail(segments, read_tail(SPEC, segments, 0))


def test_a_flaw_that_no_sync_covers_drops_what_is_behind(folder: Path) -> None:
    """As after a power loss, over segments too; the cut is made where the report says."""
    path = segment_path(folder, 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert tail_of(folder) == ([0, 1, 2], [], [4, 5]) or tail_of(folder) == ([0, 1, 2], [], [3, 4, 5])
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        assert cut_tail(segments, read_tail(SPEC, segments, 0)) > 0
    assert tail_of(folder) == ([0, 1, 2], [], [])
    assert segment_steps(folder) == [0]


def test_segments_that_are_dropped_are_gone_before_others_begin(
    folder: Path, swap_disk: Callable[[files.Disk], files.Disk]
) -> None:
    """Their removal is synced: one that came back would follow the frames that take their place."""
    calls: list[str] = []

    class Log(contracts.NoSync):
        def unlink(self, path: Path) -> None:
            calls.append(f"unlink {path.name}")
            super().unlink(path)

        def sync_folder(self, folder: Path) -> None:
            calls.append(f"sync {folder.name}")

    path = segment_path(folder, 0)
    path.write_bytes(path.read_bytes()[:-1])
    swap_disk(Log())
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        cut_tail(segments, read_tail(SPEC, segments, 0))
    assert calls == ["unlink 000000000004", f"sync {folder.name}"]


def test_a_segment_that_grows_is_followed(tmp_path: Path) -> None:
    """Byte by byte: a reader sees whole frames only, each as soon as it is whole."""
    writer = JournalWriter(tmp_path / "w", sync_every_frame=False)
    (tmp_path / "w").mkdir()
    writer.start(0)
    ends = []
    for step in range(3):
        writer.append(step, SPEC.frame(step, values(step)))
        ends.append(segment_path(tmp_path / "w", 0).stat().st_size)
    writer.close()
    data = segment_path(tmp_path / "w", 0).read_bytes()
    path = tmp_path / "000000000000"
    path.touch()
    segment = Segment(path, SPEC, BLOCK_STEPS)
    for n_bytes in range(len(data) + 1):
        path.write_bytes(data[:n_bytes])
        segment.scan()
        assert len(segment.entries) == sum(end <= n_bytes for end in ends)
    segment.close()


def test_frames_that_changed_before_they_are_sealed_are_not_sealed(folder: Path) -> None:
    """Whatever byte of their rows did, or where the file was cut: the writer remembers their checksums."""
    path = segment_path(folder, 4)
    data = path.read_bytes()
    with scanned_segments(folder, SPEC, BLOCK_STEPS) as segments:
        entries = segments[1].entries
    assert [len(span) for span in MappedSegment(path, SPEC, entries).spans("loss", 0)] == [2]
    in_rows = {
        entry.offset + start + at
        for entry in entries
        for name, (start, _) in entry.head.rows.items()
        for at in range(SPEC.series[name].row_bytes)
    }
    for offset in range(len(data)):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        expected = pytest.raises(DamageError, match=f"at step {4 if offset < entries[1].offset else 5}")
        with expected if offset in in_rows else contextlib.nullcontext():
            MappedSegment(path, SPEC, entries)
        path.write_bytes(data[:offset])
        with pytest.raises(DamageError, match="changed on disk"):
            MappedSegment(path, SPEC, entries)


def test_a_block_whose_frames_changed_is_not_committed(tmp_path: Path) -> None:
    """Closing says so, and what the journal had stays where it was."""
    sink = contracts.create(tmp_path / "run", "zarr")
    for step in range(BLOCK_STEPS - 1):
        sink.append(step, **values(step))
    path = segment_path(tmp_path / "run" / "journal", 0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageError, match=f"changed on disk at step {BLOCK_STEPS - 2}"):
        sink.close()
    assert path.read_bytes() == data
    with ts.open(tmp_path / "run") as run:
        assert contracts.recorded_steps(run) == BLOCK_STEPS - 2


def test_other_files_in_the_folder_are_not_segments(folder: Path) -> None:
    for name in ("notes", "1", "00000000000a", "0000000000001"):
        (folder / name).write_text("x")
    assert segment_steps(folder) == [0, 4]
    assert segment_steps(folder / "missing") == []


def test_values_survive_a_reader_that_is_late(tmp_path: Path) -> None:
    """A segment that was removed meanwhile stays readable to whoever has it open."""
    path = contracts.record(tmp_path / "run", "zarr", stop=3, close=False)
    with ts.open(path) as run:
        remove_segment(path / "journal", 0)
        assert bits(run["W"].bits[2]) == bits(values(2)["W"])
