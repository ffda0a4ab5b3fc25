"""An HDF5 file, read by hyperslabs, so that a chunk larger than memory needs no more than the rows asked for.

Links to other files, external storage and virtual datasets are left out: a file is imported, not what it points to.
Chunks that were never written would read as zeros; they are an error. Needs h5py, in the extra `hdf5`.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import MalformedFileError, RunNotFoundError, UsageError
from .foreign import ForeignArray, broken_file

CACHE_BYTES = 256 << 20
"""Decompressed chunks that HDF5 keeps, a dataset, or one chunk: those longer than a read are then decoded once."""
_CACHE_SLOTS = 100_003

_MAX_ATTR_ENTRIES = 1000
_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError)


class ForeignHdf5:
    """Every dataset of a file, those in groups named with "." for "/"."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            raise UsageError(
                f'{path}: importing HDF5 needs h5py; install it with pip install "trajectory-store[hdf5]"'
            ) from error
        self.path = path
        self.arrays: dict[str, ForeignArray] = {}
        self.left_out: list[str] = []
        self._datasets: dict[str, Any] = {}
        try:
            files.open_plain(path).close()
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
        with self._broken("not a sound HDF5 file"):
            self._file = h5py.File(path, "r")
        try:
            with self._broken("not a sound HDF5 file"):
                caches: dict[str, int] = {}
                self._file.visititems(lambda name, item: caches.update(_datasets(name, item)))  # hard links only
                for full_name, cache_bytes in caches.items():
                    self._add(full_name, _opened(self._file, full_name, cache_bytes))
                self.attrs: Mapping[str, Any] = self._read_attrs()
        except BaseException:
            self.close()
            raise

    def _add(self, full_name: str, item: Any) -> None:
        name = full_name.replace("/", ".")
        if name in self.arrays:
            raise MalformedFileError(f"{self.path}: two datasets in it would be called {name!r}")
        if item.shape is None or item.dtype.hasobject or item.dtype.kind not in "biuf":
            self.left_out.append(f"{full_name!r} is not an array of numbers")
            return
        if item.external or item.is_virtual:
            self.left_out.append(f"{full_name!r} keeps its values in another file")
            return
        shape = tuple(int(n) for n in item.shape)
        _check_written(full_name, item)
        chunk_rows = item.chunks[0] if item.chunks else 1
        self.arrays[name] = ForeignArray(item.dtype.newbyteorder("="), shape, chunk_rows)
        self._datasets[name] = item

    def _read_attrs(self) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        for name in self._file.attrs:
            try:
                attrs[name] = _plain(self._file.attrs[name])
            except _BROKEN:
                self.left_out.append(f"attribute {name!r} is not something JSON can hold")
        return attrs

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows as one hyperslab."""
        array = self.arrays[name]
        with self._broken(f"dataset {name!r} cannot be read from row {start}"):
            rows = np.asarray(self._datasets[name][start:stop] if array.shape else self._datasets[name][()])
            return rows.astype(array.dtype, copy=False)
        raise AssertionError

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(*_BROKEN):
            self._file.close()

    @contextlib.contextmanager
    def _broken(self, what: str) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            raise broken_file(self.path, what, error) from error


def _datasets(name: str, item: Any) -> dict[str, int]:
    """A dataset's name and the bytes of cache it needs; nothing for a group."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        return {}
    if not item.chunks or not item.id.get_create_plist().get_nfilters():
        return {name: 0}  # HDF5 reads the rows asked for without their whole chunk
    return {name: max(CACHE_BYTES, math.prod(item.chunks) * item.dtype.itemsize)}


def _opened(file: Any, name: str, cache_bytes: int) -> Any:
    import h5py

    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(_CACHE_SLOTS, cache_bytes, 1.0)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))


def _check_written(name: str, dataset: Any) -> None:
    """Raise ValueError where values of a dataset are not in the file: HDF5 would make them up."""
    if 0 in dataset.shape:
        return
    if dataset.chunks:
        expected = math.prod(-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        written = dataset.id.get_num_chunks()
        if written < expected:
            raise ValueError(f"dataset {name!r}: {expected - written:,} of its {expected:,} chunks were never written")
    elif dataset.id.get_storage_size() < dataset.size * dataset.dtype.itemsize:
        raise ValueError(f"dataset {name!r} was never written")


def _plain(value: Any) -> Any:
    """An attribute as JSON can hold it; ValueError or TypeError where it cannot."""
    if isinstance(value, (bytes, np.bytes_)):
        return bytes(value).decode()
    if isinstance(value, (np.ndarray, np.generic)):
        if np.size(value) > _MAX_ATTR_ENTRIES:
            raise ValueError("too large")
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    if not isinstance(value, (str, int, float, bool)):
        raise TypeError(type(value).__name__)
    return value
