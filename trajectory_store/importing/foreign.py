"""Files of arrays that others wrote, as imports read them: what is in them, and some rows at a time.

A reader gives rows in their own dtype, in native byte order; it is asked for the rows of an array in order and each
once, so that compressed streams can be read as they come.
"""

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .. import files
from ..backends.safetensors.source import SafetensorsFile
from ..errors import MalformedFileError, TrajectoryError


@dataclass(frozen=True)
class ForeignArray:
    """An array of a file: its dtype, its shape, and how many rows are best read together."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_rows: int = 1

    @property
    def n_bytes(self) -> int:
        """Bytes of all of it; a Python int, so that no shape overflows."""
        return self.dtype.itemsize * _product(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of its first axis."""
        return self.dtype.itemsize * _product(self.shape[1:])


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for n in shape:
        product *= int(n)
    return product


class ForeignFile(Protocol):
    """An open file of arrays."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def arrays(self) -> Mapping[str, ForeignArray]:
        """What can be read, by the name it will have."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the file says about itself, as JSON can hold it."""

    @property
    def left_out(self) -> list[str]:
        """What is in the file and cannot be imported: a sentence each."""

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows [start, stop) of an array, or an array without axes whole; MalformedFileError where they are broken."""

    def close(self) -> None:
        """Give back what is open."""


def broken_file(path: Path, what: str, error: BaseException) -> TrajectoryError:
    """The error for a file whose reader failed: StorageError where the system refused, else MalformedFileError."""
    if isinstance(error, TrajectoryError):
        return error
    number = getattr(error, "errno", None)
    if number is None and (told := _TOLD_ERRNO.search(str(error))):  # HDF5 says it in its message only
        number = int(told[1])
    if number in (None, errno.EINVAL, errno.EOVERFLOW):  # of offsets that the file itself gives
        return MalformedFileError(f"{path}: {what}: {error}")
    return files.storage_error("read", path, OSError(number, os.strerror(number)))


_TOLD_ERRNO = re.compile(r"errno = ([0-9]{1,3})\b")


class ForeignSafetensors:
    """A safetensors file: mapped, so any rows in any order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SafetensorsFile(path)
        self.arrays = {
            name: ForeignArray(self._file.mapped(name).dtype, tensor.shape)
            for name, tensor in self._file.tensors.items()
        }
        self.attrs: Mapping[str, Any] = self._file.metadata
        self.left_out: list[str] = []

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows as they lie in the file; the format has no checksums."""
        mapped = self._file.mapped(name)
        return mapped[start:stop] if mapped.ndim else mapped

    def close(self) -> None:
        """The mapping goes with this object."""
