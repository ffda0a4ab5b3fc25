"""Files of arrays that others wrote, as imports read them: what is in them, and some rows at a time.

A reader gives rows in their own dtype, in native byte order. It is asked for the rows of an array in order, and for
each once, so that compressed streams can be read as they come.
"""

import errno
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .. import files
from ..backends.safetensors.source import SafetensorsFile
from ..dtypes import DTYPES
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
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry of its first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class UnreadableArrayError(MalformedFileError):
    """Arrays of a file that were found broken while their values were read; the others may be sound.

    found: name in the file → what is wrong with it.
    """

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__("; ".join(found.values()))
        self.found = found


class ForeignFile(Protocol):
    """An open file of arrays."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def arrays(self) -> Mapping[str, ForeignArray]:
        """What can be read, by the name it has in the file."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """What the file says about itself, as JSON can hold it."""

    @property
    def left_out(self) -> Sequence[str]:
        """What is in the file and cannot be imported: a sentence each."""

    @property
    def remarks(self) -> Sequence[str]:
        """What else is to be known of what was read: a sentence each."""

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows [start, stop) of an array, or all of one without axes. Raises UnreadableArrayError if they are
        broken."""

    def close(self) -> None:
        """Give back what is open."""


def broken_file(path: Path, what: str, error: BaseException) -> TrajectoryError:
    """The error for a file whose reader failed: StorageError if the system refused, else MalformedFileError."""
    if isinstance(error, TrajectoryError):
        return error
    number = getattr(error, "errno", None)
    if number is None and (told := _TOLD_ERRNO.search(str(error))):  # HDF5 says it in its message only
        number = int(told[1])
    if number in (None, errno.EINVAL, errno.EOVERFLOW):  # of offsets that the file itself gives
        return MalformedFileError(f"{path}: {what}: {error}")
    return files.storage_error("read", path, OSError(number, os.strerror(number)))


_TOLD_ERRNO = re.compile(r"errno = ([0-9]{1,3})\b")


def broken_array(path: Path, name: str, start: int, error: BaseException) -> TrajectoryError:
    """The error for an array whose rows from `start` on could not be read: UnreadableArrayError or StorageError."""
    found = broken_file(path, f"array {name!r} cannot be read from row {start}", error)
    return UnreadableArrayError({name: str(found)}) if isinstance(found, MalformedFileError) else found


def why_broken(path: Path, error: BaseException) -> str:
    """What is wrong with a part of a file that can be left out. Raises StorageError if the system refused to read
    it."""
    found = broken_file(path, "", error)
    if not isinstance(found, MalformedFileError):
        raise found from error
    return str(error)


class RenamedFile:
    """Some arrays of a file, by other names than they have in it."""

    def __init__(self, file: ForeignFile, names: Mapping[str, str]) -> None:
        """names: name in the file → name here, of the arrays that there are here."""
        self._file = file
        self._own_names = {name: own for own, name in names.items()}
        self.path = file.path
        self.arrays = {name: file.arrays[own] for name, own in self._own_names.items()}

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows as the file reads them."""
        return self._file.read(self._own_names[name], start, stop)


class ForeignSafetensors:
    """A safetensors file. It is mapped, so any rows can be read in any order."""

    remarks = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SafetensorsFile(path)
        self.arrays = {
            name: ForeignArray(DTYPES[tensor.dtype], tensor.shape) for name, tensor in self._file.tensors.items()
        }
        self.attrs: Mapping[str, Any] = self._file.metadata
        self.left_out = [f"{name!r} {why}" for name, why in self._file.left_out.items()]

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows as they lie in the file; the format has no checksums."""
        mapped = self._file.mapped(name)
        return mapped[start:stop] if mapped.ndim else mapped

    def close(self) -> None:
        """The mapping goes with this object."""
