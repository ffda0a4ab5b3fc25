"""One segment of the journal: what a scan finds in its file, and the rows in it.

A segment is a file of records, named by its first step, with the frames of one block. The file may have been an earlier
segment's. Then what follows the last record is that segment's, and no part of this one.
"""

import contextlib
import os
import re
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..checksum import crc32c
from ..errors import DamageError
from ..spec import RunSpec
from . import record, spare
from .record import FrameEntry, Gap, Record

JOURNAL_FOLDER = "journal"
NAME_DIGITS = 12
_NAME = re.compile(rf"[0-9]{{{NAME_DIGITS}}}|[1-9][0-9]{{{NAME_DIGITS},15}}")
_CHECKSUM_BYTES = 1 << 16  # stays in a core's cache


def segment_path(folder: Path, first_step: int) -> Path:
    """The file that holds the frames from `first_step` on."""
    return folder / f"{first_step:0{NAME_DIGITS}d}"


def segment_steps(folder: Path) -> list[int]:
    """The first steps of the segments that are there, increasing. Other files in the folder are not ours."""
    with files.storage_errors("list", folder):
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise DamageError(f"{folder}: not a folder; restore it from a copy") from error
    return sorted(int(n) for n in names if _NAME.fullmatch(n))


def remove_segment(folder: Path, first_step: int) -> None:
    """Remove a segment whose block the manifest has committed. Harmless if it is gone."""
    path = segment_path(folder, first_step)
    with files.storage_errors("remove", path), contextlib.suppress(FileNotFoundError):
        files.disk.unlink(path)


class Segment:
    """One segment's file, open for reading, and what a scan found in it so far.

    An open segment stays readable after it is sealed: its file is held, so the writer removes it instead of overwriting
    it. Raises FileNotFoundError if the segment was sealed meanwhile.
    """

    def __init__(self, path: Path, spec: RunSpec, block_steps: int) -> None:
        self.path = path
        self.first_step = int(path.name)
        self._stop_step = (self.first_step // block_steps + 1) * block_steps
        self._spec = spec
        try:
            self._file = files.open_plain(path)
        except FileNotFoundError as error:
            if path.is_symlink() or isinstance(error, files.NotPlainError):
                raise DamageError(f"{path}: cannot be read: {error.strerror}; restore it from a copy") from error
            raise  # it was sealed and removed meanwhile
        spare.hold(self._file.fileno())
        # A run that is dropped without `close`, as in a notebook, gives its files back too.
        self._finalizer = weakref.finalize(self, self._file.close)
        if not self.is_current():  # before it was held, the writer took it for another segment
            self.close()
            raise FileNotFoundError(path)
        self.entries: list[FrameEntry] = []
        self.synced_step = -1
        self.end = 0  # where the last record that was read ends
        self.is_ended = False  # whether what is behind `end` was seen to be an earlier segment's
        self.gaps: list[Gap] = []

    def close(self) -> None:
        """Close the file. Harmless if called twice."""
        self._finalizer()

    @property
    def n_bytes(self) -> int:
        """The file's size now."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def torn_bytes(self) -> int:
        """How many bytes behind `end` can be those of an unfinished record: at most as many as the next record takes.

        Nobody can tell how far a torn record reached into what an earlier segment left.
        """
        if self.is_ended:
            return 0
        step = self._spec.next_due(self._last_step + 1)
        is_frame = step is not None and step < self._stop_step
        most = record.frame_bytes(self._spec, step) if step is not None and is_frame else record.SMALLEST_BYTES
        return min(self.n_bytes - self.end, most)

    def is_current(self) -> bool:
        """Whether the file still has its name. A writer may have removed it, or kept it for another segment."""
        with files.storage_errors("read", self.path):
            try:
                there = self.path.stat()
            except FileNotFoundError:
                return False
        return os.path.samestat(there, os.fstat(self._file.fileno()))

    def scan(self) -> None:
        """Read the records after the last one read, and verify every checksum. Call it again to follow a live segment.

        It stops, without a complaint, where an earlier segment's bytes begin, and at bytes that are no whole record and
        have no sound record behind them.
        """
        n_bytes = self.n_bytes
        while self.end < n_bytes:
            self.is_ended = self._ends_at(self.end)
            if self.is_ended:
                return
            found = self._find_head(self.end, self._last_step)
            if found is not None and found[0] > self.end:
                found = self._find_head(self.end, self._last_step)  # what was being written may be whole by now
            if found is None:
                return
            offset, head = found
            stop = offset + head.n_bytes
            if stop > n_bytes:
                return
            if head.kind == record.FRAME:
                is_sound = self._is_sound(offset, head)
                if not is_sound:
                    if self._find_head(stop, head.step) is None:
                        return  # a frame that is being written, or was torn
                    is_sound = self._is_sound(offset, head)  # what was being written is whole by now
                self.entries.append(FrameEntry(head.step, offset, self.end, head, is_sound))
            if offset > self.end:
                self.gaps.append(Gap.before(head, self.end, offset))
            self.synced_step = max(self.synced_step, head.synced_step)
            self.end = stop

    def row(self, index: int, name: str) -> npt.NDArray[Any]:
        """One row of the frame at `index` in `entries`, its checksum verified again. Raises DamageError if it fails."""
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

        def can_follow(head: Record, _offset: int) -> bool:
            after = self.first_step if head.kind == record.SYNC else last_step + 1
            return after <= head.step < self._stop_step

        return record.find_head(self._spec, self._read, offset, can_follow)

    def _ends_at(self, offset: int) -> bool:
        """Whether an end record is there, or a record of an earlier segment that was not written over yet."""
        head = record.parse_head(self._spec, self._read(offset, record.largest_head_bytes(self._spec)))
        if head is None:
            return False
        return head.step < self.first_step or (head.kind == record.END and head.step == self._last_step)

    @property
    def _last_step(self) -> int:
        return self.entries[-1].step if self.entries else self.first_step - 1

    def _is_sound(self, offset: int, head: Record) -> bool:
        return next(self._flawed_series(offset, head), None) is None

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
            return files.read_at(self._file.fileno(), size, offset)
