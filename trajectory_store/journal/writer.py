"""Appends frames to the journal's current segment: write, sync, and after a sync that failed write again.

If there is a spare, a segment is written over it. Then every record has an end record behind it, in the same write,
which the next record overwrites. What follows the end record is the earlier segment's. docs/design.md, "Commit
protocol", has the order of durable calls.
"""

import contextlib
import os
from pathlib import Path
from typing import IO, Any

from .. import files
from ..ownership import NotCopied
from ..spec import Frame
from . import record
from .record import FrameEntry
from .segment import segment_path
from .spare import Spare


class JournalWriter(NotCopied):
    """Appends frames to the current segment and starts new ones. One thread appends; `spare` is thread-safe.

    With `sync_every_frame` an append returns only when the frame survives power loss. `entries` are the frames of the
    current segment; a new segment has a new list. `spare` is what the next segment is written over, if there is one.
    """

    def __init__(self, folder: Path, *, sync_every_frame: bool) -> None:
        self._folder = folder
        self._sync_every_frame = sync_every_frame
        self.spare = Spare(folder)
        self._file: IO[bytes] | None = None
        self._n_bytes = 0  # up to the end of the last record
        self._written_bytes = 0  # up to the end of the end record behind it, if there is one
        self._file_bytes = 0
        self._path = folder
        self._folder_is_synced = True
        self.entries: list[FrameEntry] = []
        self._synced_step = -1
        self._synced_bytes = 0
        self._must_rewrite = False

    def start(self, first_step: int) -> None:
        """Begin a segment. A file of that name, which an append could not finish, is begun anew."""
        self.close()
        self._path = segment_path(self._folder, first_step)
        with files.storage_errors("create", self._path):
            if self._path.exists():
                files.disk.unlink(self._path)
            spare = self.spare.take(self._path)
            self._file = files.updated(files.disk.create(self._path)) if spare is None else spare
        self._n_bytes = self._written_bytes = self._synced_bytes = 0
        self._file_bytes = os.fstat(self._descriptor).st_size
        self.entries = []
        self._folder_is_synced = self._must_rewrite = False

    def reopen(self, first_step: int, entries: list[FrameEntry], synced_step: int, *, must_rewrite: bool) -> None:
        """Go on with a segment that recovery has cut behind these frames.

        With `must_rewrite` an earlier sync in this process may have failed, so the next one writes all of it again.
        """
        self.close()
        self._path = segment_path(self._folder, first_step)
        with files.storage_errors("open", self._path):
            self._file = files.open_for_update(self._path)
        self._n_bytes = self._written_bytes = self._file_bytes = os.fstat(self._descriptor).st_size
        self._synced_bytes = 0
        self._folder_is_synced, self._must_rewrite = False, must_rewrite
        self.entries, self._synced_step = entries, synced_step

    def append(self, step: int, frame: Frame) -> None:
        """Write one frame. When this returns, the frame survives the death of the process."""
        before = self._n_bytes
        head, buffers = record.frame_record(step, self._synced_step, frame)
        self._write(buffers, head.n_bytes, step)
        if self._sync_every_frame:
            try:
                self._sync(step)
            except OSError:
                self._cut(before)  # not recorded: the next append takes its place
                raise
        self.entries.append(FrameEntry(step, before, before, head, is_sound=True))

    def flush(self) -> None:
        """Sync every frame of the segment, then say so in it."""
        if self.entries and self._synced_step < self.entries[-1].step:
            self._sync(self.entries[-1].step)
            # Not synced itself: if it is lost, the frames it speaks of are still there and sound.
            self._write(record.sync_buffers(self._synced_step), record.SMALLEST_BYTES, self._synced_step)

    def close(self) -> None:
        """Close the current segment's file; nothing is synced."""
        if self._file is not None:
            self._file.close()

    @property
    def _descriptor(self) -> int:
        assert self._file is not None
        return self._file.fileno()

    def _sync(self, step: int) -> None:
        with files.storage_errors("sync", self._path):
            if self._must_rewrite:
                files.rewrite(self._descriptor, self._synced_bytes, self._written_bytes)
            self._must_rewrite = True
            files.disk.sync(self._descriptor)  # without it: the frames are lost
            self._must_rewrite = False
            if not self._folder_is_synced:
                files.disk.sync_folder(self._folder)  # without it: the segment's name is lost
                self._folder_is_synced = True
        self._synced_step, self._synced_bytes = step, self._n_bytes

    def _write(self, buffers: list[Any], n_bytes: int, step: int) -> None:
        """Write a record of `n_bytes` and, if the file goes on behind it, that `step` is the last one."""
        stop = self._n_bytes + n_bytes
        if stop < self._file_bytes:
            buffers = [*buffers, *record.end_buffers(step, self._synced_step)]
        with files.storage_errors("write", self._path):
            try:
                self._written_bytes = files.write_all(self._descriptor, buffers, self._n_bytes)
            except OSError:
                self._cut(self._n_bytes)
                raise
        self._n_bytes = stop
        self._file_bytes = max(self._file_bytes, self._written_bytes)

    def _cut(self, n_bytes: int) -> None:
        self._n_bytes = self._written_bytes = n_bytes
        with contextlib.suppress(OSError):  # what is behind is torn or overwritten either way
            files.disk.truncate(self._descriptor, n_bytes)
        self._file_bytes = os.fstat(self._descriptor).st_size
