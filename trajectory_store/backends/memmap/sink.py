"""The writer of the memmap backend: rows in place, then the commit.

Order of durable calls: docs/design.md, "Commit protocol". The rows of a step are written before its header is, so a
step whose header is there survives the death of the process. The space of the whole run is reserved before step 0.
"""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import files, safetensors_format
from ...blocks.static_array import StaticArray
from ...checksum import file_crc32
from ...errors import UsageError
from ...journal import record
from ...safetensors_format import Tensor
from ...spec import RunSpec, dtype_name, storage_dtype
from .. import manifest as manifests
from ..manifest import Manifest
from ..recovery import Recovery
from ..run_files import run_files
from ..sink import SinkContext, StepCursor
from ..writer_lock import WriterLock
from .commit_log import COMMITS, CommitLog
from .row_file import FRAMES, RowFile, tensors_of

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
    files.put(folder / COMMITS, b"")
    manifest.store(folder)


def _write_rows(
    path: Path,
    manifest: Manifest,
    steps: int,
    rows: Mapping[str, npt.NDArray[Any]],
    recorded_until: int,
    static_arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Replace the file of rows by one with room for `steps` steps, holding those before `recorded_until`."""
    header, tensors = safetensors_format.layout(tensors_of(manifest.spec, manifest.static, steps))
    last = list(tensors.values())[-1]
    with files.write_in_place_atomically(path, last.offset + last.n_bytes) as descriptor:
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


class MemmapSink(SinkContext):
    """Writes one run in place. One thread appends, flushes and closes."""

    def __init__(self, folder: Path, *, durability: str = "process", lock: WriterLock | None = None) -> None:
        self._folder = folder
        self._sync_every_frame = durability == "power"
        self._sync = durability != "none"
        self._is_closed = False
        self._rows_descriptor = self._log_descriptor = -1
        self._log_bytes = self._synced_log_bytes = 0
        self._must_rewrite_rows = self._must_rewrite_log = False
        self._last_step = self._synced_step = -1
        self._tensors: dict[str, Tensor] = {}
        self._lock = lock or WriterLock(folder)
        try:
            self._manifest = manifests.load(folder)
            self._cursor = StepCursor(self.spec, None)
            self.recovery = self._recover()
        except BaseException:
            self._release()
            raise

    @property
    def spec(self) -> RunSpec:
        """What is recorded."""
        return self._manifest.spec

    @property
    def next_step(self) -> int | None:
        """The step that `append` expects; None once every planned step is there."""
        return self._cursor.next_step

    def append(self, step: int, /, **values: Any) -> None:
        """Record one frame; when this returns it survives the death of the process.

        Raises UsageError's children on a frame that does not fit, StorageError where the disk refuses; in both cases
        the frame is not recorded and may be appended again.
        """
        if self._is_closed:
            raise UsageError(f"{self._folder}: this sink is closed; ts.resume opens the run again")
        self._cursor.check(step)
        frame = self.spec.frame(step, values)
        with files.storage_errors("write", self._folder / FRAMES):
            for name, row in frame.items():
                series = self.spec.series[name]
                offset = self._tensors[name].offset + series.rows_before(step) * series.row_bytes
                files.write_all(self._rows_descriptor, [row], offset)
            if self._sync_every_frame:
                self._sync_rows(step)  # without it: a committed step without its rows
        self._commit(record.commit_buffers(step, self._synced_step, frame), sync=self._sync_every_frame)
        if self._sync_every_frame:
            self._synced_step = step
        self._last_step = step
        self._cursor.advance()

    def flush(self) -> int | None:
        """Make every appended frame survive power loss; returns the last such step, None where there is none.

        With durability "none" nothing is synced.
        """
        if self._is_closed:
            raise UsageError(f"{self._folder}: this sink is closed; ts.resume opens the run again")
        if self._sync and self._synced_step < self._last_step:
            with files.storage_errors("sync", self._folder):
                self._sync_rows(self._last_step)  # without it: committed steps without their rows
                self._sync_log(self._log_bytes)  # without it: rows without their commits
            self._synced_step = self._last_step
            # Not synced itself: if it is lost, what it speaks of is still there and sound.
            self._commit(record.sync_buffers(self._synced_step), sync=False)
        return self._cursor.last_step

    def close(self) -> None:
        """Sync, cut the file to the steps that were recorded, and let another writer in.

        The cut copies the file; a run that has all its planned steps needs none.
        """
        if self._is_closed:
            return
        try:
            self.flush()
            recorded_until = self._last_step + 1
            if self.next_step is not None:
                self._resize(recorded_until, recorded_until)
            self._manifest = self._manifest.with_sealed(recorded_until, {})
            self._manifest.store(self._folder, sync=self._sync)  # without it: a log that was cut short looks whole
        finally:
            self._is_closed = True
            self._release()

    def _commit(self, buffers: list[Any], *, sync: bool) -> None:
        with files.storage_errors("write", self._folder / COMMITS):
            try:
                end = files.write_all(self._log_descriptor, buffers, self._log_bytes)
                if sync:
                    self._sync_log(end)  # without it: rows without their commit
            except OSError:
                with contextlib.suppress(OSError):  # the next commit takes its place
                    files.disk.truncate(self._log_descriptor, self._log_bytes)
                raise
            self._log_bytes = end

    def _sync_rows(self, last_step: int) -> None:
        if self._must_rewrite_rows:
            for name, series in self.spec.series.items():
                start, stop = (
                    series.rows_before(step + 1) * series.row_bytes for step in (self._synced_step, last_step)
                )
                offset = self._tensors[name].offset
                files.rewrite(self._rows_descriptor, offset + start, offset + stop)
        self._must_rewrite_rows = True
        files.disk.sync(self._rows_descriptor)
        self._must_rewrite_rows = False

    def _sync_log(self, end: int) -> None:
        if self._must_rewrite_log:
            files.rewrite(self._log_descriptor, self._synced_log_bytes, end)
        self._must_rewrite_log = True
        files.disk.sync(self._log_descriptor)
        self._must_rewrite_log = False
        self._synced_log_bytes = end

    def _recover(self) -> Recovery:
        """Cut the log behind the last sound step and give the file room for every planned step."""
        assert self.spec.steps is not None
        rows = RowFile(self._folder / FRAMES, self.spec, self._manifest.static)
        log = CommitLog(self._folder / COMMITS, self.spec, self._manifest.sealed_until)
        log.scan()
        recovery = log.cut(rows)
        recorded_until = recovery.kept_until
        with files.storage_errors("open", log.path):
            self._log_descriptor = os.open(log.path, os.O_RDWR | os.O_CLOEXEC)
        self._log_bytes = log.end
        self._synced_step = log.synced_step
        self._last_step = recorded_until - 1
        self._cursor = StepCursor(self.spec, self.spec.next_due(recorded_until))
        self._tensors = rows.tensors
        files.remove_unfinished(run_files(self._folder, self._manifest))
        if rows.steps < self.spec.steps:
            self._resize(self.spec.steps, recorded_until)
        else:
            self._open_rows()
        return recovery

    def _resize(self, steps: int, recorded_until: int) -> None:
        rows = RowFile(self._folder / FRAMES, self.spec, self._manifest.static)
        static = {
            name: rows.static(name).view(storage_dtype(array.dtype)) for name, array in self._manifest.static.items()
        }
        every = {name: rows.rows(name) for name in self.spec.series}
        _write_rows(self._folder / FRAMES, self._manifest, steps, every, recorded_until, static)
        if self._rows_descriptor >= 0:
            os.close(self._rows_descriptor)
            self._rows_descriptor = -1
        self._open_rows()
        self._tensors = RowFile(self._folder / FRAMES, self.spec, self._manifest.static).tensors

    def _open_rows(self) -> None:
        with files.storage_errors("open", self._folder / FRAMES):
            self._rows_descriptor = os.open(self._folder / FRAMES, os.O_RDWR | os.O_CLOEXEC)

    def _release(self) -> None:
        for descriptor in (self._rows_descriptor, self._log_descriptor):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._rows_descriptor = self._log_descriptor = -1
        self._lock.release()
