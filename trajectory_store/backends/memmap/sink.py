"""The writer of the memmap backend: rows in place, then the commit.

docs/design.md, "Commit protocol", has the order of durable calls. The rows of a step are written before its header. So
a step whose header is there survives the death of the process. The space of the whole run is reserved before step 0.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ... import atomic, files, safetensors_format
from ...blocks.static_array import StaticArray
from ...checksum import file_crc32
from ...dtypes import dtype_name, storage_dtype
from ...journal import record
from ...spec import Frame
from ...words import Durability
from .. import manifest as manifests
from ..disk_sink import DiskSink
from ..manifest import Manifest
from ..recovery import Recovery
from ..sink import StepCursor
from ..writer_lock import WriterLock
from .commit_log import COMMITS
from .recovery import recover_rows
from .row_file import FRAMES, RowFile, tensors_of
from .run_files import run_files

_COPY_BYTES = 8 << 20


def create(folder: Path, manifest: Manifest, static_arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Fill an empty folder with a run of no steps; the caller moves it into place."""
    static = {
        name: StaticArray(array.shape, dtype_name(array.dtype), file_crc32(np.ascontiguousarray(array)))
        for name, array in static_arrays.items()
    }
    manifest = replace(manifest, static=static)
    assert manifest.spec.steps is not None
    _write_rows(folder / FRAMES, manifest, manifest.spec.steps, {}, 0, static_arrays)
    atomic.put(folder / COMMITS, b"")
    manifest.store(folder)


def _write_rows(
    path: Path,
    manifest: Manifest,
    steps: int,
    rows: Mapping[str, npt.NDArray[Any]],
    recorded_until: int,
    static_arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Replace the file of rows by one with room for `steps` steps, which has the rows before `recorded_until`."""
    header, tensors = safetensors_format.layout(tensors_of(manifest.spec, manifest.static, steps))
    last = list(tensors.values())[-1]
    with atomic.write_in_place_atomically(path, last.offset + last.n_bytes) as descriptor:
        files.write_all(descriptor, [header], 0)
        for name, array in static_arrays.items():
            files.write_all(descriptor, [np.ascontiguousarray(array)], tensors[name].offset)
        for name, values in rows.items():
            n_rows = manifest.spec.series[name].rows_before(recorded_until)
            at_once = max(1, _COPY_BYTES // manifest.spec.series[name].row_bytes)
            for row in range(0, n_rows, at_once):
                part = np.ascontiguousarray(values[row : min(row + at_once, n_rows)])
                offset = tensors[name].offset + row * manifest.spec.series[name].row_bytes
                files.write_all(descriptor, [part], offset)


class MemmapSink(DiskSink):
    """Writes one run in place. One thread appends, flushes and closes.

    `close` cuts the file to the steps that were recorded, by copying it. A run that has all its planned steps is not
    copied.
    """

    def __init__(self, folder: Path, *, durability: Durability = "process", lock: WriterLock | None = None) -> None:
        self._sync_every_frame = durability == "power"
        self._sync = durability != "none"
        self._rows_file: IO[bytes] | None = None
        self._log_file: IO[bytes] | None = None
        super().__init__(folder, lock)

    def _open(self) -> Recovery:
        """Cut the log behind the last sound step and give the file room for every planned step."""
        was_interrupted = self._log_file is not None  # so that a sync may have failed since
        self._close_files()
        self._manifest = manifests.load(self._folder)
        assert self.spec.steps is not None
        kept = recover_rows(self._folder, self._manifest)
        recorded_until = kept.recovery.kept_until
        with files.storage_errors("open", kept.log.path):
            self._log_file = files.open_for_update(kept.log.path)
        self._log_bytes = kept.log.end
        self._synced_log_bytes = 0
        self._must_rewrite_rows = self._must_rewrite_log = was_interrupted
        self._synced_step = kept.log.synced_step
        self._last_step = recorded_until - 1
        self._cursor = StepCursor(self.spec, self.spec.next_due(recorded_until))
        self._tensors = kept.rows.tensors
        atomic.remove_unfinished(run_files(self._folder))
        if kept.rows.steps < self.spec.steps:
            self._resize(self.spec.steps, recorded_until)
        else:
            self._open_rows()
        return kept.recovery

    def _record(self, step: int, frame: Frame) -> None:
        with files.storage_errors("write", self._folder / FRAMES):
            for name, row in frame.items():
                series = self.spec.series[name]
                offset = self._tensors[name].offset + series.rows_before(step) * series.row_bytes
                files.write_all(_descriptor(self._rows_file), [row], offset)
            if self._sync_every_frame:
                self._sync_rows(step)  # without it: a committed step without its rows
        self._commit(record.commit_buffers(step, self._synced_step, frame), sync=self._sync_every_frame)
        if self._sync_every_frame:
            self._synced_step = step
        self._last_step = step
        self._cursor.advance()

    def _sync_frames(self) -> None:
        if self._sync and self._synced_step < self._last_step:
            with files.storage_errors("sync", self._folder):
                self._sync_rows(self._last_step)  # without it: committed steps without their rows
                self._sync_log(self._log_bytes)  # without it: rows without their commits
            self._synced_step = self._last_step
            # Not synced itself: if it is lost, what it speaks of is still there and sound.
            self._commit(record.sync_buffers(self._synced_step), sync=False)

    def _end(self) -> None:
        self._sync_frames()
        recorded_until = self._last_step + 1
        if self._cursor.next_step is not None:
            self._resize(recorded_until, recorded_until)
        self._manifest = self._manifest.with_sealed(recorded_until, {})
        self._manifest.store(self._folder, sync=self._sync)  # without it: a log that was cut short looks whole

    def _commit(self, buffers: list[Any], *, sync: bool) -> None:
        with files.storage_errors("write", self._folder / COMMITS):
            try:
                end = files.write_all(_descriptor(self._log_file), buffers, self._log_bytes)
                if sync:
                    self._sync_log(end)  # without it: rows without their commit
            except OSError:
                with contextlib.suppress(OSError):  # the next commit takes its place
                    files.disk.truncate(_descriptor(self._log_file), self._log_bytes)
                raise
            self._log_bytes = end

    def _sync_rows(self, last_step: int) -> None:
        if self._must_rewrite_rows:
            for name, series in self.spec.series.items():
                start, stop = (
                    series.rows_before(step + 1) * series.row_bytes for step in (self._synced_step, last_step)
                )
                offset = self._tensors[name].offset
                files.rewrite(_descriptor(self._rows_file), offset + start, offset + stop)
        self._must_rewrite_rows = True
        files.disk.sync(_descriptor(self._rows_file))
        self._must_rewrite_rows = False

    def _sync_log(self, end: int) -> None:
        if self._must_rewrite_log:
            files.rewrite(_descriptor(self._log_file), self._synced_log_bytes, end)
        self._must_rewrite_log = True
        files.disk.sync(_descriptor(self._log_file))
        self._must_rewrite_log = False
        self._synced_log_bytes = end

    def _resize(self, steps: int, recorded_until: int) -> None:
        rows = RowFile(self._folder / FRAMES, self.spec, self._manifest.static)
        static = {
            name: rows.static(name).view(storage_dtype(array.dtype)) for name, array in self._manifest.static.items()
        }
        every = {name: rows.rows(name) for name in self.spec.series}
        _write_rows(self._folder / FRAMES, self._manifest, steps, every, recorded_until, static)
        if self._rows_file is not None:
            self._rows_file.close()
        self._open_rows()
        self._tensors = RowFile(self._folder / FRAMES, self.spec, self._manifest.static).tensors

    def _open_rows(self) -> None:
        with files.storage_errors("open", self._folder / FRAMES):
            self._rows_file = files.open_for_update(self._folder / FRAMES)

    def _close_files(self) -> None:
        for file in (self._rows_file, self._log_file):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()

    def _release(self) -> None:
        self._close_files()
        self._lock.release()


def _descriptor(file: IO[bytes] | None) -> int:
    assert file is not None
    return file.fileno()
