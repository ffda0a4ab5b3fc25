"""A .npy file, or a .npz archive of them, read as streams, because numpy itself would load every array whole.

Nothing is unpickled. Arrays of objects are left out, and so is what is broken in an archive.
"""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import RunNotFoundError
from .foreign import ForeignArray, broken_array, broken_file, why_broken

# What zipfile, zlib and numpy's header parser raise: the last reads Python 2's headers by way of tokenize.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError, struct.error),
    *(EOFError, ValueError, TypeError, SyntaxError, NotImplementedError, RuntimeError, OSError),
)
_SUFFIX = ".npy"
MOST_HELD_BYTES = 256 << 20
"""Arrays in Fortran order are held in memory, all of them together."""


class ForeignNumpy:
    """Either kind of file. The one array of a .npy file has the file's name, unless another is given."""

    remarks = ()

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.arrays: dict[str, ForeignArray] = {}
        self.attrs: Mapping[str, Any] = {}
        self.left_out: list[str] = []
        self._streams: dict[str, _Stream] = {}
        self._held_bytes = 0
        try:
            self._file: IO[bytes] = files.open_plain(path)
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            if self._file.read(2) == b"PK":
                self._open_archive()
            else:
                self._file.seek(0)
                self._open_single(name or path.stem)
        except BaseException:
            self.close()
            raise

    def _open_single(self, name: str) -> None:
        try:
            self._add(name, self._file, self.path.stat().st_size)
        except _BROKEN as error:
            raise broken_file(self.path, "not a sound .npy file", error) from error

    def _open_archive(self) -> None:
        try:
            self._file.seek(0)
            self._archive = zipfile.ZipFile(self._file)
            members = [member for member in self._archive.infolist() if not member.is_dir()]
        except _BROKEN as error:
            raise broken_file(self.path, "not a sound .npz archive", error) from error
        counts = Counter(member.filename.removesuffix(_SUFFIX) for member in members)
        for member in members:
            name = member.filename.removesuffix(_SUFFIX)
            try:
                if counts[name] > 1:
                    raise ValueError("the archive has two arrays of this name")
                self._add(name, self._archive.open(member), member.file_size)
            except _BROKEN as error:
                self.left_out.append(f"{name!r} is no array that can be read: {why_broken(self.path, error)}")

    def _add(self, name: str, stream: IO[bytes], stream_bytes: int) -> None:
        """Read the header of one array, and keep its stream for the rows. Raises one of `_BROKEN` if it is not
        sound."""
        shape, is_fortran, dtype = _header(stream)
        if dtype.hasobject:
            self.left_out.append(f"{name!r} is an array of Python objects, which is never unpickled")
            return
        array = ForeignArray(dtype.newbyteorder("="), shape)
        found_bytes = stream_bytes - stream.tell()
        if array.n_bytes != found_bytes:
            raise ValueError(f"it has {found_bytes:,} bytes of values where its header says {array.n_bytes:,}")
        if is_held := is_fortran and len(shape) > 1:
            self._held_bytes += array.n_bytes
            if self._held_bytes > MOST_HELD_BYTES:
                self.left_out.append(
                    f"{name!r} is in Fortran order, so its steps do not follow one another, and too large to be turned"
                    " round in memory; save it again with numpy.ascontiguousarray"
                )
                return
        self.arrays[name] = array
        self._streams[name] = _Stream(stream, dtype, array, is_held=is_held)

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """The next rows."""
        try:
            return self._streams[name].read(start, stop)
        except _BROKEN as error:
            raise broken_array(self.path, name, start, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Stream:
    """The values of one array, read as they come. If their order is another, all are read at first."""

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any], array: ForeignArray, *, is_held: bool) -> None:
        self._file = file
        self._dtype = dtype
        self._array = array
        self._is_held = is_held
        self._held: npt.NDArray[Any] | None = None
        self._row = 0

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        array = self._array
        if self._is_held:
            if self._held is None:
                values = np.frombuffer(self._take(array.n_bytes, is_last=True), self._dtype)
                self._held = values.reshape(array.shape, order="F")
            return np.ascontiguousarray(self._held[start:stop], dtype=array.dtype)
        assert not array.shape or start == self._row
        self._row = stop
        shape = (stop - start, *array.shape[1:]) if array.shape else ()
        n_bytes = math.prod(shape) * array.dtype.itemsize
        data = self._take(n_bytes, is_last=not array.shape or stop == array.shape[0])
        return np.frombuffer(data, self._dtype).astype(array.dtype, copy=False).reshape(shape)

    def _take(self, n_bytes: int, *, is_last: bool) -> bytearray:
        data = bytearray(n_bytes)
        view, filled = memoryview(data), 0
        while filled < n_bytes:
            part = self._file.read(min(n_bytes - filled, 1 << 24))
            if not part:
                raise EOFError("it ends too early")
            view[filled : filled + len(part)] = part
            filled += len(part)
        if is_last:
            self._file.read(1)  # an archive compares the checksum only at the end
        return data


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"its .npy format has version {version}, which is unknown")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = read(stream)
    except (*_BROKEN, MemoryError) as error:  # the last is the parser's, on a header that is too deep
        raise ValueError(f"its .npy header is not understood: {error}") from error
    if any(n < 0 for n in shape):
        raise ValueError(f"its .npy header says shape {shape}")
    return tuple(int(n) for n in shape), is_fortran, dtype
