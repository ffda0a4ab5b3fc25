"""Static arrays: what a run knows before its first step, such as the mask of dead tokens. Each is one Zarr chunk."""

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..checksum import file_crc32
from ..codec import zstd
from ..dtypes import DTYPES, dtype_name, storage_dtype
from ..errors import DamageError, FrameError, SpecError
from ..series_spec import MAX_AXES
from ..spec import check_name
from ..values import as_numpy
from .zarr_json import document, zarr_array

STATIC_FOLDER = "static"
_ZSTD_LEVEL = 3
_MAX_BYTES = 1 << 32
_MAX_OVERHEAD = 4096


@dataclass(frozen=True)
class StaticArray:
    """A static array's description and its CRC-32: of its one chunk's file (zarr), or of its raw bytes (memmap)."""

    shape: tuple[int, ...]
    dtype: str
    crc32: int

    def to_json(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {"shape": list(self.shape), "dtype": self.dtype, "crc32": f"{self.crc32:08x}"}

    @staticmethod
    def from_json(value: Any) -> "StaticArray":
        """The inverse of `to_json`; raises SpecError on anything else."""
        try:
            shape = tuple(operator.index(n) for n in value["shape"])
            array = StaticArray(shape, str(value["dtype"]), int(value["crc32"], 16))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SpecError(f"not a static array's description: {error}") from error
        is_bounded = len(array.shape) <= MAX_AXES and all(n > 0 for n in array.shape)
        if array.dtype not in DTYPES or not is_bounded or array.n_bytes > _MAX_BYTES:
            raise SpecError(f"not a static array's description: {value!r:.200}")
        return array

    @property
    def n_bytes(self) -> int:
        """Bytes of the array, uncompressed."""
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize

    def chunk_path(self, run_folder: Path, name: str) -> Path:
        """The file of the array's one chunk, under Zarr's default chunk key."""
        return run_folder.joinpath(STATIC_FOLDER, name, "c", *["0"] * len(self.shape))

    def zarr_json(self, name: str) -> bytes:
        """The array's zarr.json."""
        dtype = storage_dtype(self.dtype)
        codecs: list[dict[str, Any]] = [
            {"name": "bytes", **({"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {})},
            {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}},
            {"name": "crc32c"},
        ]
        dims = tuple(f"{name}_dim_{axis}" for axis in range(len(self.shape)))
        return document(zarr_array(self.shape, dtype, self.shape, codecs, dims, {"logical_dtype": self.dtype}))

    def encode(self, patterns: npt.NDArray[Any]) -> bytes:
        """The array's one chunk."""
        return zstd.with_crc(zstd.compress(np.ascontiguousarray(patterns), _ZSTD_LEVEL))

    def read(self, run_folder: Path, name: str) -> npt.NDArray[Any]:
        """The array in its logical dtype. Raises DamageError if its chunk fails its checksum."""
        path = self.chunk_path(run_folder, name)
        try:
            with files.plain_file(path) as file:
                n_bytes = os.fstat(file.fileno()).st_size
                if n_bytes > 2 * self.n_bytes + _MAX_OVERHEAD:
                    raise DamageError(f"{path}: larger than static array {name!r} can be")
                chunk = file.read(n_bytes)
        except FileNotFoundError as error:
            raise DamageError(
                f"{path}: static array {name!r} cannot be read: {error.strerror}; restore it from a copy"
            ) from error
        if file_crc32(chunk) != self.crc32:
            raise DamageError(f"{path}: static array {name!r} fails its checksum; restore it from a copy")
        try:
            content = zstd.decompress(zstd.without_crc(chunk), self.n_bytes)
        except DamageError as error:
            raise DamageError(f"{path}: static array {name!r}: {error}") from error
        if content.nbytes != self.n_bytes:
            raise DamageError(f"{path}: static array {name!r}: {content.nbytes:,} bytes, expected {self.n_bytes:,}")
        return content.view(DTYPES[self.dtype]).reshape(self.shape)


def checked_static(static: Mapping[str, Any] | None, taken: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """The static arrays as numpy arrays of storable dtypes. Raises SpecError on others, or if `taken` has a name."""
    static = {} if static is None else static
    if not isinstance(static, Mapping):
        raise SpecError(f"static={static!r:.80}: expected an array for each name, as {{'ids': [3, 5]}}")
    arrays = {}
    for name, value in static.items():
        check_name(name)
        if name in taken:
            raise SpecError(f"{name!r} names both a series and a static array")
        try:
            array = as_numpy(value)
        except FrameError as error:
            raise SpecError(f"static array {name!r}: {error}") from error
        array = np.asarray(array, dtype=array.dtype.newbyteorder("<") if array.dtype.kind != "V" else None)
        if dtype_name(array.dtype) not in DTYPES:
            raise SpecError(f"static array {name!r} has dtype {array.dtype}; choose from {', '.join(DTYPES)}")
        if array.ndim > MAX_AXES:
            raise SpecError(f"static array {name!r} has {array.ndim} axes, above the limit of {MAX_AXES}")
        if array.size == 0:
            raise SpecError(f"static array {name!r} of shape {array.shape} is empty; leave it out")
        if array.nbytes > _MAX_BYTES:
            raise SpecError(f"static array {name!r} has {array.nbytes:,} bytes, above the limit of {_MAX_BYTES:,}")
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
    return arrays


def described(array: npt.NDArray[Any]) -> tuple[StaticArray, bytes]:
    """The description of an array and its chunk."""
    plain = StaticArray(array.shape, dtype_name(array.dtype), 0)
    chunk = plain.encode(array.view(storage_dtype(plain.dtype)))
    return StaticArray(plain.shape, plain.dtype, file_crc32(chunk)), chunk
