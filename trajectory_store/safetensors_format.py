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

from .dtypes import DTYPES, storage_dtype
from .errors import MalformedFileError, UsageError
from .series_spec import MAX_AXES

MAX_HEADER_BYTES = 100_000_000  # the library's own limit
_LENGTH_BYTES = 8
_MAX_ENTRIES = 1 << 59
_MOST_EMPTY_ENTRIES = 1 << 16
"""Of an axis of a tensor without values: a walk along a longer one is work that no byte of the file asks for."""

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


@dataclass(frozen=True)
class Header:
    """What the header of a file says: its bytes, its length included, the tensors in file order, and the metadata.

    left_out: tensor → why no series can hold it. Its bytes have their place in the file all the same.
    """

    raw: bytes
    tensors: dict[str, Tensor]
    left_out: dict[str, str]
    metadata: dict[str, str]


def read_header(file: IO[bytes]) -> Header:
    """The header of an open file; reads no more than that.

    Raises MalformedFileError if it is not a sound safetensors file.
    """
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.read(_LENGTH_BYTES)
    n = int.from_bytes(first, "little")
    if len(first) < _LENGTH_BYTES or not 2 <= n <= min(MAX_HEADER_BYTES, file_bytes - _LENGTH_BYTES):
        raise MalformedFileError("not a safetensors file: its first 8 bytes do not give a header's length")
    return parse(first + file.read(n), file_bytes)


def parse(header: bytes, file_bytes: int) -> Header:
    """What a whole header, its length included, says of a file of `file_bytes` bytes.

    Raises MalformedFileError unless its tensors tile the rest of the file.
    """
    try:
        entries = json.loads(header[_LENGTH_BYTES:])
        metadata = entries.pop("__metadata__", None) or {}
        placed = {name: _place(entry, len(header)) for name, entry in entries.items()}
        strings = {str(key): str(value) for key, value in metadata.items()} if isinstance(metadata, dict) else {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise MalformedFileError(f"not a safetensors file: its header is not understood: {error}") from error
    position = len(header)
    in_order = sorted(placed.items(), key=lambda item: item[1][:2])
    for name, (start, stop, _) in in_order:
        if start != position:
            raise MalformedFileError(f"not a sound safetensors file: tensor {name!r} does not follow the one before it")
        position = stop
    if position != file_bytes:
        raise MalformedFileError(
            f"not a sound safetensors file: it has {file_bytes:,} bytes and its header describes {position:,}"
        )
    found = {name: tensor for name, (_, _, tensor) in in_order}
    return Header(
        header,
        {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)},
        {name: why for name, why in found.items() if isinstance(why, str)},
        strings,
    )


def _place(entry: Any, header_length: int) -> tuple[int, int, Tensor | str]:
    """(first byte, the byte behind the last, the tensor or why no series can hold it) of a header's entry."""
    code, shape = entry["dtype"], tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    numbers = (*shape, start, stop)
    if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62 for n in numbers):
        raise ValueError("a shape or an offset is not a number")
    if start > stop or not isinstance(code, str):
        raise ValueError("a tensor ends before it begins, or its dtype is no text")
    where = (header_length + start, header_length + stop)
    if code not in _NAMES:
        return (*where, f"has dtype {code:.40}, which no series can have")
    if math.prod(shape) * storage_dtype(_NAMES[code]).itemsize != stop - start:
        raise ValueError("a tensor's offsets do not match its shape")
    if len(shape) > MAX_AXES + 1:  # that of the steps, before those of a row
        return (*where, f"has {len(shape)} axes, above the limit of {MAX_AXES + 1}")
    if math.prod(n for n in shape if n) >= _MAX_ENTRIES:  # numpy refuses it, although there may be nothing in it
        return (*where, "has a shape that no array can have")
    if start == stop and max(shape) > _MOST_EMPTY_ENTRIES:
        return (*where, f"has shape {shape}, and so nothing in it")
    return (*where, Tensor(_NAMES[code], shape, where[0]))


assert set(CODES) == set(DTYPES)
