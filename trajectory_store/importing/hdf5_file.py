"""An HDF5 file, read by hyperslabs, so that a chunk larger than memory needs no more than the rows asked for.

Links, external storage and virtual datasets are left out: a file is imported, not what it points to. So are datasets
with values that were never written, which HDF5 would read as zeros. Needs h5py, in the extra `hdf5`.
"""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import files
from ..errors import BusyError, RunNotFoundError, UsageError
from .foreign import ForeignArray, broken_array, broken_file, why_broken

CACHE_BYTES = 256 << 20
"""Decompressed chunks that HDF5 keeps, a dataset: those that some rows are in, or one chunk, if that is more.

Chunks that are longer than a read are then decoded once.
"""
_CACHE_SLOTS = 100_003

_MAX_ATTR_ENTRIES = 1000
_MATLABS_OWN = (b"#refs#", b"#subsystem#")
_DIMENSION_ONLY = "This is a netCDF dimension but not a netCDF variable"
_PACKING = ("scale_factor", "add_offset")
_BROKEN = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, OverflowError)


class ForeignHdf5:
    """Every dataset of a file that has its values in it, by its path."""

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
        self.remarks: list[str] = []
        self._is_matlabs = False
        self._datasets: dict[str, Any] = {}
        try:
            files.open_plain(path).close()
        except FileNotFoundError as error:
            raise RunNotFoundError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            self._file = h5py.File(path, "r")
        except BlockingIOError as error:
            raise BusyError(f"{path}: a program has it open for writing; close it there first") from error
        except _BROKEN as error:
            raise broken_file(path, "not a sound HDF5 file", error) from error
        try:
            self._walk()
            self.attrs: Mapping[str, Any] = self._read_attrs()
        except _BROKEN as error:
            self.close()
            raise broken_file(path, "not a sound HDF5 file", error) from error
        except BaseException:
            self.close()
            raise

    def _walk(self) -> None:
        """Find the datasets of all groups. Links are not followed; what is linked to in this file is found anyway."""
        import h5py

        groups = [("", self._file["/"])]
        seen = {_address(self._file.id, b"/"): "/"}
        while groups:
            prefix, group = groups.pop()
            below = []
            try:
                names = list(group)
            except _BROKEN as error:
                self.left_out.append(f"{prefix!r} is a group that cannot be read: {why_broken(self.path, error)}")
                continue
            for name in map(_text, names):
                path = prefix + name
                key = name.encode(errors="surrogateescape")
                try:
                    if why := _why_not_followed(group, key, is_root=not prefix):
                        self.left_out.append(f"{path!r} {why}")
                    elif (known := seen.setdefault(_address(group.id, key), path)) != path:
                        self.left_out.append(f"{path!r} is another name of {known!r}")
                    elif (kind := h5py.h5o.get_info(group.id, key).type) == h5py.h5o.TYPE_GROUP:
                        below.append((f"{path}/", h5py.Group(h5py.h5g.open(group.id, key))))
                    elif kind == h5py.h5o.TYPE_DATASET:
                        self._add(path, opened_with_cache(group, key))
                except _BROKEN as error:
                    self.left_out.append(f"{path!r} cannot be read: {why_broken(self.path, error)}")
            groups += reversed(below)

    def _add(self, path: str, dataset: Any) -> None:
        if why := _why_left_out(dataset):
            self.left_out.append(f"{path!r} {why}")
            return
        shape = tuple(int(n) for n in dataset.shape)
        chunk_rows = dataset.chunks[0] if dataset.chunks else 1
        self.arrays[path] = ForeignArray(dataset.dtype.newbyteorder("="), shape, chunk_rows)
        self._datasets[path] = dataset
        if packed := [f"{name}={value}" for name in _PACKING if (value := _number_attr(dataset, name)) is not None]:
            self.remarks.append(
                f"{path}: packed, with {' and '.join(packed)}; the numbers are imported as they are stored, and what"
                " they mean is stored × scale_factor + add_offset"
            )
        if len(shape) > 1 and not self._is_matlabs and "MATLAB_class" in dataset.attrs:
            self._is_matlabs = True
            self.remarks.append(f"MATLAB wrote its axes in reverse: what was size({path}) there is {shape[::-1]}")

    def _read_attrs(self) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        try:
            names = list(self._file.attrs)
        except _BROKEN as error:
            self.left_out.append(f"the file's attributes cannot be read: {why_broken(self.path, error)}")
            return attrs
        for name in names:
            try:
                attrs[_text(name)] = _plain(self._file.attrs[name])
            except _BROKEN:
                self.left_out.append(f"attribute {name!r} is not something JSON can hold")
        return attrs

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows as one hyperslab."""
        array = self.arrays[name]
        try:
            rows = np.asarray(self._datasets[name][start:stop] if array.shape else self._datasets[name][()])
            return rows.astype(array.dtype, copy=False)
        except _BROKEN as error:
            raise broken_array(self.path, name, start, error) from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(*_BROKEN):
            self._file.close()


def _address(where: Any, key: bytes) -> tuple[int, Any]:
    """What identifies one object of a file."""
    import h5py

    info = h5py.h5o.get_info(where, key)
    return info.fileno, info.addr


def _text(name: str | bytes) -> str:
    """A name as text, also one that is not UTF-8, which h5py gives as bytes."""
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")


def _why_not_followed(group: Any, key: bytes, *, is_root: bool) -> str | None:
    import h5py

    links = group.id.links
    kind = links.get_info(key).type
    if kind == h5py.h5l.TYPE_EXTERNAL:
        return f"is a link to another file, {_text(links.get_val(key)[0])!r}"
    if kind == h5py.h5l.TYPE_SOFT:
        return f"is a link to {_text(links.get_val(key))!r}"
    if kind != h5py.h5l.TYPE_HARD:
        return "is a link of a kind of its own"
    return "holds MATLAB's cells and objects" if is_root and key in _MATLABS_OWN else None


def opened_with_cache(group: Any, key: bytes) -> Any:
    """A dataset with a cache for the chunks that some rows are in, if HDF5 cannot read rows without whole chunks."""
    import h5py

    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    if cache_bytes := _cache_bytes(group, key):
        access.set_chunk_cache(_CACHE_SLOTS, cache_bytes, 1.0)
    return h5py.Dataset(h5py.h5d.open(group.id, key, access))


def _cache_bytes(group: Any, key: bytes) -> int:
    """0 if none is needed; the dataset is closed again, since one that is open keeps the cache that it has."""
    import h5py

    dataset = h5py.Dataset(h5py.h5d.open(group.id, key))
    if not dataset.chunks or not dataset.id.get_create_plist().get_nfilters():
        return 0
    chunk_bytes = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    n_beside = math.prod(-(-n // chunk) for n, chunk in zip(dataset.shape[1:], dataset.chunks[1:], strict=True))
    return int(min(max(CACHE_BYTES, chunk_bytes), n_beside * chunk_bytes))


def _why_left_out(dataset: Any) -> str | None:
    """Why a dataset cannot be imported; None if it can, and None if only its dtype or shape is the reason."""
    import h5py

    stored = dataset.id.get_type()
    if (kind := stored.get_class()) not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.BITFIELD):
        kinds = {
            h5py.h5t.STRING: "text",
            h5py.h5t.COMPOUND: "records of several fields",
            h5py.h5t.REFERENCE: "references",
            h5py.h5t.VLEN: "rows of different lengths",
            h5py.h5t.ARRAY: "arrays as items",
        }
        return f"holds {kinds.get(kind, 'items without a number type')}, which no series can"
    if dataset.shape is None:
        return "has no values"
    if _text_attr(dataset, "NAME").startswith(_DIMENSION_ONLY):
        return "is a netCDF dimension without values"
    if _text_attr(dataset, "MATLAB_class") == "char":
        return "holds text, which no series can"
    if "MATLAB_empty" in dataset.attrs:
        return "is empty"
    if dataset.is_virtual:
        return "is a virtual dataset, whose values are elsewhere"
    if dataset.external:
        return "keeps its values in another file"
    plist = dataset.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code, _, _, filter_name = plist.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            known_as = filter_name.decode(errors="replace") or "unknown"
            return (
                f"is encoded by filter {code} ({known_as}), which HDF5 does not have here; load it, for instance by"
                " importing hdf5plugin before, or write the file again with h5repack"
            )
    return _why_not_written(dataset, stored.get_size())


def _why_not_written(dataset: Any, item_bytes: int) -> str | None:
    """What is missing, if values of a dataset are not in the file: HDF5 would make them up."""
    if 0 in dataset.shape:
        return None
    if dataset.chunks:
        expected = math.prod(-(-n // chunk) for n, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        missing = expected - dataset.id.get_num_chunks()
        return f"is not whole: {missing:,} of its {expected:,} chunks were never written" if missing > 0 else None
    return "was never written" if dataset.id.get_storage_size() < dataset.size * item_bytes else None


def _text_attr(dataset: Any, name: str) -> str:
    try:
        value = _plain(dataset.attrs[name])
    except _BROKEN:
        return ""
    return value if isinstance(value, str) else ""


def _number_attr(dataset: Any, name: str) -> float | None:
    try:
        value = np.asarray(dataset.attrs[name])
    except _BROKEN:
        return None
    return float(value.reshape(())) if value.size == 1 and value.dtype.kind in "iuf" else None


def _plain(value: Any) -> Any:
    """An attribute as JSON can hold it. Raises ValueError or TypeError if it cannot."""
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
