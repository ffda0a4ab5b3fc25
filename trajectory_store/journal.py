"""Frames not yet sealed: append, sync, scan, cut a torn tail.

A journal is a folder of segments; a segment is a file of records named by its first step, and holds the frames of one
block. Records are only ever added at the end; a segment is removed once the manifest has committed its block.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from . import files, record
from .checksum import crc32c
from .errors import DamageError
from .record import Record
from .spec import Frame, RunSpec

FOLDER = "journal"
_NAME_DIGITS = 12
_SEARCH_BYTES = 1 << 20


def segment_path(folder: Path, first_step: int) -> Path:
    """The file that holds the frames from `first_step` on."""
    return folder / f"{first_step:0{_NAME_DIGITS}d}"


def segment_steps(folder: Path) -> list[int]:
    """The first steps of the segments there are, increasing; whatever else lies in the folder is not ours."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(int(n) for n in names if len(n) == _NAME_DIGITS and n.isascii() and n.isdigit())


@dataclass(frozen=True)
class Entry:
    """A frame in a segment. `after` is where the sound record before it ends: less than `offset` behind a flaw."""

    step: int
    offset: int
    after: int
    head: Record
    is_sound: bool


class Segment:
    """One segment's file, open for reading, with what a scan found in it so far.

    An open segment stays readable after its file is removed, so a reader that holds it keeps a whole view.
    """

    def __init__(self, path: Path, spec: RunSpec, block_steps: int) -> None:
        self.path = path
        self.first_step = int(path.name)
        self._stop_step = (self.first_step // block_steps + 1) * block_steps
        self._spec = spec
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.entries: list[Entry] = []
        self.synced_step = -1
        self.end = 0  # where the last record that was read ends

    def close(self) -> None:
        """Close the file; harmless when called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def n_bytes(self) -> int:
        """The file's size now."""
        return os.fstat(self._descriptor).st_size

    def is_linked(self) -> bool:
        """Whether the file still has a name: a writer may have removed it and begun another."""
        return os.fstat(self._descriptor).st_nlink > 0

    def scan(self) -> None:
        """Read the records after the last one read, verifying every checksum; call again to follow a live segment.

        Stops, without a complaint, at bytes that are no whole record and have no sound record behind them.
        """
        n_bytes = self.n_bytes
        while self.end < n_bytes:
            found = self._next_head(self.end)
            if found is None:
                return
            offset, head = found
            stop = offset + head.n_bytes
            if stop > n_bytes:
                return
            if head.kind == record.FRAME:
                is_sound = all(self._row_is_sound(offset, head, name) for name in head.rows)
                if not is_sound and self._head_at(stop) is None:
                    return  # a frame that is being written, or was torn
                self.entries.append(Entry(head.step, offset, self.end, head, is_sound))
            self.synced_step = max(self.synced_step, head.synced_step)
            self.end = stop

    def row(self, index: int, name: str) -> npt.NDArray[Any]:
        """One row of the frame at `index` in `entries`, its checksum verified again; DamageError where it fails."""
        entry, series = self.entries[index], self._spec.series[name]
        start, crc = entry.head.rows[name]
        data = self._read(entry.offset + start, series.row_bytes)
        if len(data) != series.row_bytes or crc32c(data) != crc:
            raise DamageError(
                f"{self.path}, byte {entry.offset + start}: step {entry.step} of series {name!r} fails its checksum;"
                ' run "trajectory-store check"'
            )
        return np.frombuffer(data, dtype=series.storage_dtype).reshape(series.shape)

    def spans(self, name: str, from_step: int) -> list[npt.NDArray[Any]]:
        """The rows of a series from `from_step` on, as views of the mapped file, whose checksums `scan` verified.

        Each span, shape (n, …), is a run of evenly spaced records; there is more than one where the sizes change or a
        sync came between.
        """
        series = self._spec.series[name]
        starts = [
            entry.offset + entry.head.rows[name][0]
            for entry in self.entries
            if entry.step >= from_step and name in entry.head.rows
        ]
        mapped = np.memmap(self.path, dtype=np.uint8, mode="r").view(np.ndarray)
        spans = []
        while starts:
            stride = starts[1] - starts[0] if len(starts) > 1 else 0
            n = next((i for i in range(1, len(starts)) if starts[i] - starts[i - 1] != stride), len(starts))
            first = mapped[starts[0] : starts[0] + series.row_bytes].view(series.storage_dtype).reshape(series.shape)
            spans.append(as_strided(first, (n, *series.shape), (stride, *first.strides), writeable=False))
            starts = starts[n:]
        return spans

    def _next_head(self, offset: int) -> tuple[int, Record] | None:
        """The record at `offset` or, where that is none, the first sound header behind it that can follow."""
        head = self._head_at(offset)
        if head is not None and self._can_follow(head):
            return offset, head
        for candidate in self._offsets_of_magic(offset + 1):
            head = self._head_at(candidate)
            if head is not None and self._can_follow(head):
                return candidate, head
        return None

    def _can_follow(self, head: Record) -> bool:
        if head.kind == record.SYNC:
            return True
        last = self.entries[-1].step if self.entries else self.first_step - 1
        return last < head.step < self._stop_step

    def _head_at(self, offset: int) -> Record | None:
        return record.parse_head(self._spec, self._read(offset, record.largest_head_bytes(self._spec)))

    def _row_is_sound(self, offset: int, head: Record, name: str) -> bool:
        start, crc = head.rows[name]
        return crc32c(self._read(offset + start, self._spec.series[name].row_bytes)) == crc

    def _offsets_of_magic(self, start: int) -> Iterator[int]:
        overlap = len(record.MAGIC) - 1
        while len(data := self._read(start, _SEARCH_BYTES + overlap)) > overlap:
            at = data.find(record.MAGIC)
            while 0 <= at < _SEARCH_BYTES:
                yield start + at
                at = data.find(record.MAGIC, at + 1)
            start += _SEARCH_BYTES

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)


@dataclass
class Tail:
    """The frames that only the journal holds: segments in order, read as one sequence of steps."""

    places: dict[int, tuple[Segment, int]] = field(default_factory=dict)
    """Step → its segment and its index there, in step order; for a lost step the index is −1."""
    torn_at: tuple[Segment, int] | None = None
    """Where recovery cuts: the first byte that is neither a whole frame nor synced; None where there is nothing."""
    dropped_steps: list[int] = field(default_factory=list)
    """Whole frames behind that place, never synced, that recovery drops with it."""

    def row(self, step: int, name: str) -> npt.NDArray[Any]:
        """One row of one step of the tail; DamageError where it is lost."""
        segment, index = self.places[step]
        if index < 0:
            raise DamageError(f'{segment.path}: step {step} was synced and is damaged; run "trajectory-store check"')
        return segment.row(index, name)

    def damaged(self) -> list[tuple[int, Path]]:
        """Steps that were synced and of which something is lost, with their segment's file."""
        return [
            (step, segment.path)
            for step, (segment, index) in self.places.items()
            if index < 0 or not segment.entries[index].is_sound
        ]


def read_tail(spec: RunSpec, segments: list[Segment], sealed_until: int) -> Tail:
    """What the scanned `segments`, in order, hold from step `sealed_until` on.

    Frames count up to the first flaw that no sync covers: what lies behind it is torn off, as after a power loss. A
    flaw before the last sync is damage: its steps are lost, and the steps around them stay.
    """
    tail = Tail()
    synced_step = max((segment.synced_step for segment in segments), default=-1)
    expected = spec.next_due(sealed_until)
    for segment in segments:
        for index, entry in enumerate(segment.entries):
            if entry.step < sealed_until:
                continue
            if tail.torn_at is None and (entry.step != expected or not entry.is_sound):
                if expected is None or expected > synced_step:
                    tail.torn_at = (segment, entry.after)
                else:
                    for step in _due_between(spec, expected, entry.step):
                        tail.places[step] = (segment, -1)
            if tail.torn_at is not None:
                tail.dropped_steps.append(entry.step)
                continue
            tail.places[entry.step] = (segment, index)
            expected = spec.next_due(entry.step + 1)
        if tail.torn_at is None and segment.end < segment.n_bytes:
            tail.torn_at = (segment, segment.end)
    return tail


def _due_between(spec: RunSpec, start: int, stop: int) -> Iterator[int]:
    step = spec.next_due(start)
    while step is not None and step < stop:
        yield step
        step = spec.next_due(step + 1)


class JournalWriter:
    """Appends frames to the current segment and starts new ones. Not thread-safe: one thread appends.

    With `sync_every_frame` an append returns only when the frame survives power loss.
    """

    def __init__(self, folder: Path, *, sync_every_frame: bool) -> None:
        self._folder = folder
        self._sync_every_frame = sync_every_frame
        self._descriptor = -1
        self._n_bytes = 0
        self._path = folder
        self._folder_is_synced = True
        self._last_step = -1
        self._synced_step = -1

    def start(self, first_step: int) -> None:
        """Begin a segment; a file of that name that an append could not finish is begun anew."""
        self.close()
        self._path = segment_path(self._folder, first_step)
        with files.storage_errors("create", self._path):
            if self._path.exists():
                files.disk.unlink(self._path)
            self._descriptor = files.disk.create(self._path)
        self._n_bytes = 0
        self._folder_is_synced = False

    def reopen(self, first_step: int, last_step: int, synced_step: int) -> None:
        """Go on with a segment that recovery left, whose last frame is `last_step`."""
        self.close()
        self._path = segment_path(self._folder, first_step)
        with files.storage_errors("open", self._path):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._n_bytes = os.fstat(self._descriptor).st_size
        self._folder_is_synced = False
        self._last_step, self._synced_step = last_step, synced_step

    def append(self, step: int, frame: Frame) -> None:
        """Write one frame; when this returns it survives the death of the process."""
        before = self._n_bytes
        self._write(record.frame_buffers(step, self._synced_step, frame))
        if self._sync_every_frame:
            try:
                self._sync(step)
            except OSError:
                self._n_bytes = before  # not recorded: the next append takes its place
                raise
        self._last_step = step

    def flush(self) -> None:
        """Sync every frame of the segment, then say so in it."""
        if self._synced_step < self._last_step:
            self._sync(self._last_step)
            # Not synced itself: if it is lost, the frames it speaks of are still there and sound.
            self._write(record.sync_buffers(self._synced_step))

    def close(self) -> None:
        """Close the current segment's file; nothing is synced."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync(self, step: int) -> None:
        with files.storage_errors("sync", self._path):
            files.disk.sync(self._descriptor)  # without it: the frames are lost
            if not self._folder_is_synced:
                files.disk.sync_folder(self._folder)  # without it: the segment's name is lost
                self._folder_is_synced = True
        self._synced_step = step

    def _write(self, buffers: list[Any]) -> None:
        with files.storage_errors("write", self._path):
            try:
                self._n_bytes = files.write_all(self._descriptor, buffers, self._n_bytes)
            except OSError:
                with contextlib.suppress(OSError):  # what was half written is torn either way
                    files.disk.truncate(self._descriptor, self._n_bytes)
                raise


def remove_segment(folder: Path, first_step: int) -> None:
    """Remove a segment whose block the manifest has committed; harmless where it is gone."""
    path = segment_path(folder, first_step)
    with files.storage_errors("remove", path), contextlib.suppress(FileNotFoundError):
        files.disk.unlink(path)


def cut_segment(path: Path, n_bytes: int) -> None:
    """Cut a torn tail off a segment."""
    with files.storage_errors("cut", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            files.disk.truncate(descriptor, n_bytes)
        finally:
            os.close(descriptor)
