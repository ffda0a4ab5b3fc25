"""A .npy file, or a .npz archive of them, read as streams: numpy itself would load every array whole.

Nothing is unpickled: arrays of objects are left out.
"""

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import MalformedFileError, RunNotFoundError
from .foreign import ForeignArray, broken_file

# What zipfile, zlib and numpy's header parser raise: the last reads Python 2's headers by way of tokenize.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError, struct.error),
    *(EOFError, ValueError, TypeError, SyntaxError, NotImplementedError, RuntimeError, OSError),
)
_SUFFIX = ".npy"


class ForeignNumpy:
    """Either kind of file. The one array of a .npy file has the file's name, unless another is given."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.arrays: dict[str, ForeignArray] = {}
        self.attrs: Mapping[str, Any] = {}
        self.left_out: list[str] = []
        self._streams: dict[str, _Stream] = {}
        try:
            self._file: IO[bytes] = files.open_plain(path)
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            if self._file.read(2) == b"PK":
                self._open_archive()
            else:
                self._file.seek(0)
                self._add(name or path.stem, self._file, path.stat().st_size)
        except BaseException:
            self.close()
            raise

    def _open_archive(self) -> None:
        try:
            self._file.seek(0)
            self._archive = zipfile.ZipFile(self._file)
            members = [member for member in self._archive.infolist() if not member.is_dir()]
            for member in members:
                name = member.filename.removesuffix(_SUFFIX)
                if name in self.arrays:
                    raise MalformedFileError(f"{self.path}: two arrays in it are called {name!r}")
                self._add(name, self._archive.open(member), member.file_size)
        except _BROKEN as error:
            raise broken_file(self.path, "not a sound .npz archive", error) from error

    def _add(self, name: str, stream: IO[bytes], stream_bytes: int) -> None:
        """Read the header of one array and keep its stream for the rows."""
        try:
            shape, is_fortran, dtype = _header(stream)
            offset = stream.tell()
        except (*_BROKEN, MemoryError) as error:  # the parser's, on a header that is too deep
            raise broken_file(self.path, f"array {name!r} has no sound .npy header", error) from error
        if dtype.hasobject:
            self.left_out.append(f"{name!r} is an array of Python objects, which is never unpickled")
            return
        array = ForeignArray(dtype.newbyteorder("="), shape)
        if is_fortran and len(shape) > 1:
            self.left_out.append(
                f"{name!r} is in Fortran order, so its steps do not follow one another;"
                " save it again with numpy.ascontiguousarray"
            )
            return
        if offset + array.n_bytes != stream_bytes:
            raise MalformedFileError(
                f"{self.path}: array {name!r} has {stream_bytes - offset:,} bytes where its header says"
                f" {array.n_bytes:,}"
            )
        self.arrays[name] = array
        self._streams[name] = _Stream(stream, dtype)

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """The next rows."""
        array, stream = self.arrays[name], self._streams[name]
        assert not array.shape or start == stream.row
        n_rows = stop - start if array.shape else 1
        n_bytes = n_rows * array.row_bytes if array.shape else array.n_bytes
        try:
            data = stream.take(n_bytes, is_last=not array.shape or stop == array.shape[0])
        except _BROKEN as error:
            raise broken_file(self.path, f"array {name!r} cannot be read from row {start}", error) from error
        stream.row = stop
        shape = (n_rows, *array.shape[1:]) if array.shape else ()
        return np.frombuffer(data, dtype=stream.dtype).astype(array.dtype, copy=False).reshape(shape)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Stream:
    def __init__(self, file: IO[bytes], dtype: np.dtype[Any]) -> None:
        self._file = file
        self.dtype = dtype
        self.row = 0

    def take(self, n_bytes: int, *, is_last: bool) -> bytearray:
        data = bytearray(n_bytes)
        view, filled = memoryview(data), 0
        while filled < n_bytes:
            part = self._file.read(min(n_bytes - filled, 1 << 24))
            if not part:
                raise EOFError("it ends too early")
            view[filled : filled + len(part)] = part
            filled += len(part)
        if is_last:
            self._file.read(1)  # an archive compares its checksum at the end
        return data


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, is_fortran, dtype
