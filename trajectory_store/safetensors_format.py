"""The safetensors format: a header for given tensors, and the tensors of a given header.

The library writes only tensors that are in memory, all at once, so files that are filled step
by step need their header made here; the tests hold it to the library's own, byte for byte.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from .errors import MalformedFileError, UsageError
from .spec import DTYPES, storage_dtype

MAX_HEADER_BYTES = 100_000_000  # the library's own limit
_LENGTH_BYTES = 8
_MAX_AXES = 32  # of numpy's older versions

CODES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "bfloat16": "BF16",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""Dtype name → the header's code, in the order in which the library lays tensors out: by alignment, descending."""

_ORDER = {name: place for place, name in enumerate(CODES)}
_NAMES = {code: name for name, code in CODES.items()}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: dtype name, shape and the absolute offset of its first byte."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of its data."""
        return math.prod(self.shape) * storage_dtype(self.dtype).itemsize

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """The numpy dtype that holds its bits."""
        return storage_dtype(self.dtype)


def layout(tensors: Mapping[str, tuple[str, Iterable[int]]]) -> tuple[bytes, dict[str, Tensor]]:
    """The header that `save_file` writes for tensors of these (dtype, shape), and where each one's data goes.

    The tensors come in file order and leave no gap.
    """
    entries: dict[str, Any] = {}
    placed: dict[str, Tensor] = {}
    position = 0
    for name in sorted(tensors, key=lambda name: (_ORDER[tensors[name][0]], name)):
        dtype, shape = tensors[name][0], tuple(tensors[name][1])
        tensor = Tensor(dtype, shape, position)
        placed[name] = tensor
        stop = position + tensor.n_bytes
        entries[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [position, stop]}
        position = stop
    try:
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"a tensor's name in {sorted(entries)!r:.200} is no text that UTF-8 can hold") from error
    text += b" " * (-len(text) % _LENGTH_BYTES)
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return header, {n: Tensor(t.dtype, t.shape, len(header) + t.offset) for n, t in placed.items()}


def read_header(file: IO[bytes]) -> tuple[bytes, dict[str, Tensor]]:
    """The header of an open file, its length included, and the tensors it describes, in file order.

    Raises MalformedFileError where it is not a sound safetensors file; reads no more than the header.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.read(_LENGTH_BYTES)
    n = int.from_bytes(first, "little")
    if len(first) < _LENGTH_BYTES or not 2 <= n <= min(MAX_HEADER_BYTES, file_bytes - _LENGTH_BYTES):
        raise MalformedFileError("not a safetensors file: its first 8 bytes do not give a header's length")
    header = first + file.read(n)
    return header, parse(header, file_bytes)


def metadata_of(header: bytes) -> dict[str, str]:
    """The strings that a sound header, its length included, holds beside its tensors."""
    metadata = json.loads(header[_LENGTH_BYTES:]).get("__metadata__") or {}
    return {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}


def parse(header: bytes, file_bytes: int) -> dict[str, Tensor]:
    """The tensors that a whole header, its length included, describes, in file order.

    Raises MalformedFileError unless they tile the rest of a file of `file_bytes` bytes, or where a dtype is one that
    this package cannot hold.
    """
    try:
        entries = json.loads(header[_LENGTH_BYTES:])
        entries.pop("__metadata__", None)
        found = {name: _tensor(entry, len(header)) for name, entry in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise MalformedFileError(f"not a safetensors file: its header is not understood: {error}") from error
    tensors = dict(sorted(found.items(), key=lambda item: (item[1].offset, item[1].n_bytes)))
    position = len(header)
    for name, tensor in tensors.items():
        if tensor.offset != position:
            raise MalformedFileError(f"not a sound safetensors file: tensor {name!r} does not follow the one before it")
        position += tensor.n_bytes
    if position != file_bytes:
        raise MalformedFileError(
            f"not a sound safetensors file: it has {file_bytes:,} bytes and its header describes {position:,}"
        )
    return tensors


def _tensor(entry: Any, header_length: int) -> Tensor:
    if entry["dtype"] not in _NAMES:
        raise ValueError(f"dtype {entry['dtype']!r} is not supported")
    shape = tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    numbers = (*shape, start, stop)
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in numbers):
        raise ValueError("a shape or an offset is not a number")
    if len(shape) > _MAX_AXES:
        raise ValueError(f"a tensor of {len(shape)} axes; {_MAX_AXES} are supported")
    tensor = Tensor(_NAMES[entry["dtype"]], shape, header_length + start)
    if tensor.n_bytes != stop - start:
        raise ValueError("a tensor's offsets do not match its shape")
    return tensor


assert set(CODES) == set(DTYPES)
