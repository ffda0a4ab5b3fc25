"""The rows of a memmap run, in a safetensors file that is valid from step 0.

From the first step on, `frames.safetensors` has the header and the layout that `save_file` would give the whole run.
Row r of a series is written in its place. docs/format.md, "Memmap runs", has the layout.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import files, safetensors_format
from ...blocks.static_array import StaticArray
from ...checksum import file_crc32
from ...dtypes import DTYPES, storage_dtype
from ...errors import DamageError, MalformedFileError
from ...safetensors_format import Tensor
from ...spec import RunSpec

FRAMES = "frames.safetensors"


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
            with files.plain_file(path) as file:
                status = os.fstat(file.fileno())
                self._identity = (status.st_dev, status.st_ino)
                header = safetensors_format.read_header(file)
                self._mapped = np.memmap(file, dtype=np.uint8, mode="r")
        except FileNotFoundError as error:
            raise DamageError(f"{path}: cannot be read: {error.strerror}") from error
        except MalformedFileError as error:
            raise DamageError(f"{path}: {error}") from error
        self.tensors = header.tensors
        self.static_arrays = static
        self.steps = self._room(spec)
        expected = safetensors_format.layout(tensors_of(spec, static, self.steps))[0]
        if header.raw != expected:
            raise DamageError(f"{path}: its header is not the run's; restore it from a copy")

    def _room(self, spec: RunSpec) -> int:
        """How many steps the file has room for: as many as were planned, or fewer if it was cut."""
        assert spec.steps is not None
        n_rows = {name: _first_axis(self.tensors.get(name)) for name in spec.series}
        if all(series.rows_before(spec.steps) == n_rows[name] for name, series in spec.series.items()):
            return spec.steps
        last_steps = [spec.series[name].steps_of(n - 1, n) for name, n in n_rows.items() if n]
        return max((int(step[0]) + 1 for step in last_steps if len(step)), default=0)

    def is_current(self) -> bool:
        """Whether the path still leads to this file. A writer may have cut or extended it into another one."""
        with files.storage_errors("read", self.path):
            try:
                status = self.path.stat()
            except FileNotFoundError as error:
                raise DamageError(f"{self.path}: cannot be read: {error.strerror}") from error
        return self._identity == (status.st_dev, status.st_ino)

    def rows(self, name: str) -> npt.NDArray[Any]:
        """All rows of a series for which there is room, mapped, in storage dtype."""
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
