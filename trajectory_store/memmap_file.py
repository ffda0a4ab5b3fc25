"""The two files of a memmap run: the rows, in a safetensors file that is valid from step 0, and the log of commits.

`frames.safetensors` has, from the first step, the header and the layout that `save_file` would give the whole run; row
r of a series is written in place. `commits` has one journal header a step, with the CRC-32C of each row: a step is
recorded once its header is there. Layout: docs/format.md, "Memmap runs".
"""

import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import files, record, safetensors_format
from .checksum import crc32c, file_crc32
from .errors import DamageError, MalformedFileError
from .record import Gap, Record
from .recovery import Recovery
from .safetensors_format import Tensor
from .spec import DTYPES, RunSpec, storage_dtype
from .static import StaticArray

FRAMES = "frames.safetensors"
COMMITS = "commits"


def tensors_of(spec: RunSpec, static: Mapping[str, StaticArray], steps: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of each tensor of a run of `steps` steps, as it is exported: bfloat16 as its uint16 patterns."""
    tensors = {
        name: (storage_dtype(series.dtype).name, (series.rows_before(steps), *series.shape))
        for name, series in spec.series.items()
    }
    return tensors | {name: (storage_dtype(array.dtype).name, array.shape) for name, array in static.items()}


class RowFile:
    """`frames.safetensors`, mapped for reading."""

    def __init__(self, path: Path, spec: RunSpec, static: Mapping[str, StaticArray]) -> None:
        self.path = path
        try:
            with files.open_plain(path) as file:
                status = os.fstat(file.fileno())
                self._identity = (status.st_dev, status.st_ino)
                header, self.tensors = safetensors_format.read_header(file)
                self._mapped = np.memmap(file, dtype=np.uint8, mode="r")
        except OSError as error:
            raise DamageError(f"{path}: cannot be read: {error.strerror}") from error
        except MalformedFileError as error:
            raise DamageError(f"{path}: {error}") from error
        self.static_arrays = static
        self.steps = self._room(spec)
        expected = safetensors_format.layout(tensors_of(spec, static, self.steps))[0]
        if header != expected:
            raise DamageError(f"{path}: its header is not the run's; restore it from a copy")

    def _room(self, spec: RunSpec) -> int:
        """How many steps the file has room for: those that were planned, or fewer where it was cut."""
        assert spec.steps is not None
        n_rows = {name: _first_axis(self.tensors.get(name)) for name in spec.series}
        if all(series.rows_before(spec.steps) == n_rows[name] for name, series in spec.series.items()):
            return spec.steps
        last_steps = [spec.series[name].steps_of(n - 1, n) for name, n in n_rows.items() if n]
        return max((int(step[0]) + 1 for step in last_steps if len(step)), default=0)

    def check_room(self, log: "CommitLog") -> None:
        """Raise DamageError where more steps were committed than the file has rows."""
        if max(log.stop_step, log.recorded_until) > self.steps:
            raise DamageError(
                f"{self.path}: has room for {self.steps} steps while {log.recorded_until} are recorded;"
                " restore it from a copy"
            )

    def is_current(self) -> bool:
        """Whether the path still leads to this file: a writer may have cut or extended it into another."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise DamageError(f"{self.path}: cannot be read: {error.strerror}") from error
        return self._identity == (status.st_dev, status.st_ino)

    def rows(self, name: str) -> npt.NDArray[Any]:
        """All rows of a series there is room for, mapped, in storage dtype."""
        return self._view(self.tensors[name])

    def static(self, name: str) -> npt.NDArray[Any]:
        """A static array in its logical dtype, its checksum verified; a copy."""
        array = self.static_arrays[name]
        patterns = self._view(self.tensors[name]).copy()
        if file_crc32(patterns) != array.crc32:
            raise DamageError(f"{self.path}: static array {name!r} fails its checksum; restore it from a copy")
        return patterns.view(DTYPES[array.dtype])

    def _view(self, tensor: Tensor) -> npt.NDArray[Any]:
        data = self._mapped[tensor.offset : tensor.offset + tensor.n_bytes]
        return data.view(tensor.storage_dtype).reshape(tensor.shape)


def _first_axis(tensor: Tensor | None) -> int:
    return tensor.shape[0] if tensor is not None and tensor.shape else 0


class CommitLog:
    """The log of commits, read as far as there are sound headers; `scan` again to follow a live run."""

    def __init__(self, path: Path, spec: RunSpec, sealed_until: int) -> None:
        self.path = path
        self._spec = spec
        self._sealed_until = sealed_until
        self._expected = spec.next_due(0)
        self.crcs: dict[str, array[int]] = {name: array("I") for name in spec.series}
        """For each series, the CRC-32C of each row; 0 for those of lost steps."""
        self.lost_steps: list[int] = []
        """Steps whose header is damaged, while a later one is sound; increasing."""
        self.synced_step = -1
        self.end = 0  # where the last sound header ends
        self.gaps: list[Gap] = []
        self._last_step = -1
        self._starts: list[tuple[int, int]] = []  # (step, where its header starts) of steps that were not synced

    @property
    def stop_step(self) -> int:
        """The step after the last one with a sound header."""
        return self._last_step + 1

    @property
    def recorded_until(self) -> int:
        """Every due step before this one was committed, or was promised and is lost now."""
        flawed = [*self.lost_steps, *(gap.step for gap in self.gaps)]
        torn = min((step for step in flawed if step >= self._promised_until), default=self.stop_step)
        return max(torn, self._promised_until)

    @property
    def _promised_until(self) -> int:
        """Every due step before this one was synced, or is counted by the manifest."""
        return max(self.synced_step + 1, self._sealed_until)

    def is_lost(self, step: int) -> bool:
        """Whether the header of a recorded step is damaged or gone."""
        return step >= self.stop_step or step in self.lost_steps

    def steps_from(self, step: int) -> Iterator[int]:
        """The steps with a sound header from `step` on."""
        at = self._spec.next_due(step)
        while at is not None and at < self.stop_step:
            if at not in self.lost_steps:
                yield at
            at = self._spec.next_due(at + 1)

    def scan(self) -> None:
        """Read the headers after the last sound one; stops without a complaint where none follows."""
        try:
            with files.open_plain(self.path) as file:
                # No further than it reaches now: a header that comes while the bytes before it were already looked at
                # would seem to follow a gap.
                n_bytes = os.fstat(file.fileno()).st_size
                self._scan(lambda offset, size: os.pread(file.fileno(), max(0, min(size, n_bytes - offset)), offset))
        except OSError as error:
            raise DamageError(f"{self.path}: cannot be read: {error.strerror}") from error

    def _scan(self, read: record.Reader) -> None:
        read = _buffered(read)
        while (found := record.find_head(self._spec, read, self.end, self._can_follow)) is not None:
            offset, head = found
            if offset > self.end:
                self.gaps.append(Gap.before(head, self.end, offset))
            if head.kind == record.FRAME:
                self._commit(head)
            if head.synced_step > self.synced_step:
                self.synced_step = head.synced_step
                self._starts = [(step, start) for step, start in self._starts if step > head.synced_step]
            self.end = offset + head.head_bytes

    def _can_follow(self, head: Record) -> bool:
        assert self._spec.steps is not None
        if head.kind == record.SYNC:
            return head.step < self._spec.steps
        return self._expected is not None and self._expected <= head.step < self._spec.steps

    def _commit(self, head: Record) -> None:
        while self._expected is not None and self._expected < head.step:
            self.lost_steps.append(self._expected)
            self._starts.append((self._expected, self.end))
            for name in self._spec.due(self._expected):
                self.crcs[name].append(0)
            self._expected = self._spec.next_due(self._expected + 1)
        for name, (_, crc) in head.rows.items():
            self.crcs[name].append(crc)
        self._starts.append((head.step, self.end))
        self._last_step = head.step
        self._expected = self._spec.next_due(head.step + 1)

    def damaged_steps(self) -> Iterator[int]:
        """Recorded steps whose header is damaged or gone."""
        yield from (step for step in self.lost_steps if step < self._promised_until)
        step = self._expected
        while step is not None and step < self._promised_until:
            yield step
            step = self._spec.next_due(step + 1)

    def is_sound(self, rows: RowFile, step: int) -> bool:
        """Whether every row of a committed step has its checksum."""
        return not any(self.flawed_series(rows, step))

    def flawed_series(self, rows: RowFile, step: int) -> Iterator[str]:
        """The series whose row of a committed step fails its checksum."""
        for name, series in self._spec.due(step).items():
            row = series.rows_before(step)
            if crc32c(np.ascontiguousarray(rows.rows(name)[row])) != self.crcs[name][row]:
                yield name

    def sound_until(self, rows: RowFile) -> int:
        """The step before which every row that was never synced has its checksum: where recovery cuts."""
        step = self._spec.next_due(self._promised_until)
        while step is not None and step < self.recorded_until:
            if not self.is_sound(rows, step):
                return step
            step = self._spec.next_due(step + 1)
        return self.recorded_until

    def cut(self, rows: RowFile) -> Recovery:
        """Cut the log behind its last sound step, once it is scanned and nobody writes it.

        Raises DamageError, and cuts nothing, where a step that was synced is damaged.
        """
        rows.check_room(self)
        for step in self.damaged_steps():
            raise DamageError(f"{self.path}: the commit of step {step} is damaged; restore the file from a copy")
        kept_until = self.sound_until(rows)
        keep_bytes = self.end if kept_until == self.recorded_until == self.stop_step else self.end_of(kept_until)
        dropped_steps = tuple(self.steps_from(kept_until))
        with files.storage_errors("read", self.path):
            dropped_bytes = self.path.stat().st_size - keep_bytes
        if dropped_bytes:
            files.cut_file(self.path, keep_bytes)
        self.end = keep_bytes
        return Recovery(kept_until, dropped_steps, dropped_bytes)

    def end_of(self, step: int) -> int:
        """Where the headers of the steps before `step`, which was not synced, end."""
        return next((start for at, start in self._starts if at >= step), self.end)


_READ_BYTES = 1 << 16


def _buffered(read: record.Reader) -> record.Reader:
    """The same bytes in fewer reads: headers are small and follow each other."""
    start, data = 0, b""

    def buffered(offset: int, size: int) -> bytes:
        nonlocal start, data
        if not start <= offset <= offset + size <= start + len(data):
            start, data = offset, read(offset, max(size, _READ_BYTES))
        return data[offset - start : offset - start + size]

    return buffered
