"""The two files of a memmap run: the rows, in a safetensors file that is valid from step 0, and the log of commits.

`frames.safetensors` has, from the first step, the header and the layout that `save_file` would give the whole run; row
r of a series is written in place. `commits` has one journal header a step, with the CRC-32C of each row: a step is
recorded once its header is there. Layout: docs/format.md, "Memmap runs".
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import record, safetensors_format
from .checksum import crc32c
from .errors import DamageError, MalformedFileError
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
            with path.open("rb") as file:
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
        n_rows = {name: self.tensors[name].shape[0] for name in spec.series if name in self.tensors}
        if all(series.rows_before(spec.steps) == n_rows.get(name) for name, series in spec.series.items()):
            return spec.steps
        return max((int(spec.series[name].steps_of(n - 1, n)[0]) + 1 for name, n in n_rows.items() if n), default=0)

    def is_current(self) -> bool:
        """Whether the path still leads to this file: a writer may have cut or extended it into another."""
        status = self.path.stat()
        return self._identity == (status.st_dev, status.st_ino)

    def rows(self, name: str) -> npt.NDArray[Any]:
        """All rows of a series there is room for, mapped, in storage dtype."""
        return self._view(self.tensors[name])

    def static(self, name: str) -> npt.NDArray[Any]:
        """A static array in its logical dtype, its checksum verified; a copy."""
        array = self.static_arrays[name]
        patterns = self._view(self.tensors[name]).copy()
        if crc32c(patterns) != array.crc32c:
            raise DamageError(f"{self.path}: static array {name!r} fails its checksum; restore it from a copy")
        return patterns.view(DTYPES[array.dtype])

    def _view(self, tensor: Tensor) -> npt.NDArray[Any]:
        data = self._mapped[tensor.offset : tensor.offset + tensor.n_bytes]
        return data.view(tensor.storage_dtype).reshape(tensor.shape)


class CommitLog:
    """The log of commits, read as far as it is sound; `scan` again to follow a live run."""

    def __init__(self, path: Path, spec: RunSpec) -> None:
        self.path = path
        self._spec = spec
        self._expected = spec.next_due(0)
        self.crcs: dict[str, list[int]] = {name: [] for name in spec.series}
        """For each series, the CRC-32C of each row."""
        self.recorded_until = 0
        self.synced_step = -1
        self.end = 0
        self._ends: dict[int, int] = {}

    def scan(self) -> None:
        """Read the headers after the last one read; stops without a complaint at bytes that are none."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.end)
                data = memoryview(file.read())
        except OSError as error:
            raise DamageError(f"{self.path}: cannot be read: {error.strerror}") from error
        largest = record.largest_head_bytes(self._spec)
        at = 0
        while at < len(data):
            head = record.parse_head(self._spec, bytes(data[at : at + largest]))
            if head is None or (head.kind == record.FRAME and head.step != self._expected):
                break
            if head.kind == record.FRAME:
                for name, (_, crc) in head.rows.items():
                    self.crcs[name].append(crc)
                self.recorded_until = head.step + 1
                self._ends[head.step] = self.end + at + head.head_bytes
                self._expected = self._spec.next_due(head.step + 1)
            self.synced_step = max(self.synced_step, head.synced_step)
            at += head.head_bytes
        self.end += at

    def sound_until(self, rows: RowFile) -> int:
        """The step before which every row that was never synced has its checksum: where recovery cuts."""
        step = self._spec.next_due(self.synced_step + 1)
        while step is not None and step < self.recorded_until:
            for name, series in self._spec.due(step).items():
                row = series.rows_before(step)
                if crc32c(np.ascontiguousarray(rows.rows(name)[row])) != self.crcs[name][row]:
                    return step
            step = self._spec.next_due(step + 1)
        return self.recorded_until

    def end_of(self, step: int) -> int:
        """Where the headers of the steps before `step` end."""
        return max((end for at, end in self._ends.items() if at < step), default=0)
