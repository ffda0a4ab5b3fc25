"""Frames not yet sealed: append, sync, scan, cut a torn tail.

A journal is a folder of segments; a segment is a file of records named by its first step, and holds the frames of one
block. Records are only ever added at the end; a segment is removed once the manifest has committed its block.
"""

import contextlib
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import files, record
from .checksum import crc32c
from .errors import DamageError
from .record import Gap, Record
from .spec import RunSpec

FOLDER = "journal"
_CHECKSUM_BYTES = 1 << 16  # stays in a core's cache
_NAME_DIGITS = 12


def segment_path(folder: Path, first_step: int) -> Path:
    """The file that holds the frames from `first_step` on."""
    return folder / f"{first_step:0{_NAME_DIGITS}d}"


def segment_steps(folder: Path) -> list[int]:
    """The first steps of the segments there are, increasing; whatever else lies in the folder is not ours."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamageError(f"{folder}: cannot be read: {error.strerror}") from error
    return sorted(int(n) for n in names if len(n) == _NAME_DIGITS and n.isascii() and n.isdigit())


class Entry(NamedTuple):
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
        try:
            self._file = files.open_plain(path)
        except FileNotFoundError:  # sealed and removed meanwhile
            raise
        except OSError as error:
            raise DamageError(f"{path}: cannot be read: {error.strerror}") from error
        # A run that is dropped without `close`, as in a notebook, gives its files back too.
        self._finalizer = weakref.finalize(self, self._file.close)
        self.entries: list[Entry] = []
        self.synced_step = -1
        self.end = 0  # where the last record that was read ends
        self.gaps: list[Gap] = []

    def close(self) -> None:
        """Close the file; harmless when called twice."""
        self._finalizer()

    @property
    def n_bytes(self) -> int:
        """The file's size now."""
        return os.fstat(self._file.fileno()).st_size

    def is_linked(self) -> bool:
        """Whether the file still has a name: a writer may have removed it and begun another."""
        return os.fstat(self._file.fileno()).st_nlink > 0

    def scan(self) -> None:
        """Read the records after the last one read, verifying every checksum; call again to follow a live segment.

        Stops, without a complaint, at bytes that are no whole record and have no sound record behind them.
        """
        n_bytes = self.n_bytes
        while self.end < n_bytes:
            last = self.entries[-1].step if self.entries else self.first_step - 1
            found = self._find_head(self.end, last)
            if found is None:
                return
            offset, head = found
            stop = offset + head.n_bytes
            if stop > n_bytes:
                return
            if head.kind == record.FRAME:
                is_sound = next(self._flawed_series(offset, head), None) is None
                if not is_sound and self._find_head(stop, head.step) is None:
                    return  # a frame that is being written, or was torn
                self.entries.append(Entry(head.step, offset, self.end, head, is_sound))
            if offset > self.end:
                self.gaps.append(Gap.before(head, self.end, offset))
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

    def _find_head(self, offset: int, last_step: int) -> tuple[int, Record] | None:
        """The first sound header from `offset` on that can be in this segment behind `last_step`."""

        def can_follow(head: Record) -> bool:
            if head.kind == record.SYNC:
                return head.step < self._stop_step
            return last_step < head.step < self._stop_step

        return record.find_head(self._spec, self._read, offset, can_follow)

    def flawed_series(self, index: int) -> Iterator[str]:
        """The series whose row of the frame at `index` in `entries` fails its checksum."""
        return self._flawed_series(self.entries[index].offset, self.entries[index].head)

    def _flawed_series(self, offset: int, head: Record) -> Iterator[str]:
        for name, (start, crc) in head.rows.items():
            if self._checksum(offset + start, self._spec.series[name].row_bytes) != crc:
                yield name

    def _checksum(self, offset: int, size: int) -> int:
        """The CRC-32C of the bytes there, fewer at the end of the file, through one small buffer."""
        buffer = memoryview(bytearray(min(size, _CHECKSUM_BYTES)))
        crc = 0
        with files.storage_errors("read", self.path):
            while size and (n_read := os.preadv(self._file.fileno(), [buffer[:size]], offset)):
                crc = crc32c(buffer[:n_read], crc)
                offset, size = offset + n_read, size - n_read
        return crc

    def _read(self, offset: int, size: int) -> bytes:
        with files.storage_errors("read", self.path):
            return os.pread(self._file.fileno(), size, offset)


@contextlib.contextmanager
def scanned_segments(folder: Path, spec: RunSpec, block_steps: int) -> Iterator[list[Segment]]:
    """Every segment of a journal that nobody writes, scanned, open until the block ends."""
    with contextlib.ExitStack() as stack:
        segments = [Segment(segment_path(folder, step), spec, block_steps) for step in segment_steps(folder)]
        for segment in segments:
            stack.callback(segment.close)
            segment.scan()
        yield segments


@dataclass
class Tail:
    """The frames that only the journal holds: segments in order, read as one sequence of steps."""

    synced_step: int = -1
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

    def end(self, sealed_until: int) -> int:
        """Every due step before this one is sealed or in the tail."""
        return next(reversed(self.places), sealed_until - 1) + 1

    def damaged(self) -> Iterator[tuple[int, Segment, int]]:
        """Steps that were synced and of which something is lost, each with its place."""
        for step, (segment, index) in self.places.items():
            if index < 0 or not segment.entries[index].is_sound:
                yield step, segment, index

    def raise_damage(self) -> None:
        """Raise DamageError where a step that was synced is damaged: no recovery may cut it."""
        for step, segment, _ in self.damaged():
            raise DamageError(f"{segment.path}: step {step} was synced and is damaged; restore the file from a copy")


def read_tail(spec: RunSpec, segments: list[Segment], sealed_until: int) -> Tail:
    """What the scanned `segments`, in order, hold from step `sealed_until` on.

    Frames count up to the first flaw that no sync covers: what lies behind it is torn off, as after a power loss. A
    flaw before the last sync is damage: its steps are lost, and the steps around them stay. A segment that begins
    before `sealed_until` was sealed as a whole and only waits for its removal: nothing in it counts.
    """
    synced_step = max((segment.synced_step for segment in segments), default=-1)
    tail = Tail(synced_step)
    expected = spec.next_due(sealed_until)
    segments = [segment for segment in segments if segment.first_step >= sealed_until]
    for segment in segments:
        for index, entry in enumerate(segment.entries):
            if entry.step in tail.places:
                continue  # no writer of ours begins a segment before the last one's end
            follows = entry.step == expected and entry.after == entry.offset
            if tail.torn_at is None and not (follows and entry.is_sound):
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
        is_behind_sync = expected is None or expected > synced_step
        if tail.torn_at is None and segment.end < segment.n_bytes and is_behind_sync:
            tail.torn_at = (segment, segment.end)
    if tail.torn_at is None and segments and expected is not None:
        for step in _due_between(spec, expected, synced_step + 1):  # the last frames that were synced are gone
            tail.places[step] = (segments[-1], -1)
    return tail


def _due_between(spec: RunSpec, start: int, stop: int) -> Iterator[int]:
    step = spec.next_due(start)
    while step is not None and step < stop:
        yield step
        step = spec.next_due(step + 1)


def remove_segment(folder: Path, first_step: int) -> None:
    """Remove a segment whose block the manifest has committed; harmless where it is gone."""
    path = segment_path(folder, first_step)
    with files.storage_errors("remove", path), contextlib.suppress(FileNotFoundError):
        files.disk.unlink(path)


def cut_tail(segments: list[Segment], tail: Tail) -> int:
    """Cut what lies behind the last whole frame, remove segments without frames; returns the bytes torn off.

    Raises DamageError, and cuts nothing, where a step that was synced is damaged.
    """
    tail.raise_damage()
    dropped_bytes = 0
    torn_segment, torn_offset = tail.torn_at or (None, 0)
    is_behind = False
    for segment in segments:
        keep_bytes = 0 if is_behind else torn_offset if segment is torn_segment else segment.n_bytes
        is_behind = is_behind or segment is torn_segment
        dropped_bytes += segment.n_bytes - keep_bytes
        if not any(entry.step in tail.places for entry in segment.entries):
            remove_segment(segment.path.parent, segment.first_step)
        elif keep_bytes < segment.n_bytes:
            files.cut_file(segment.path, keep_bytes)
    if tail.torn_at is not None:
        folder = segments[0].path.parent
        with files.storage_errors("sync", folder):
            files.disk.sync_folder(folder)  # without it: segments that were dropped may come back
    return dropped_bytes
