"""Zstandard frames of a known size, followed by their CRC-32C: the wrapping of chunks and of static arrays."""

import struct
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import buffers
from ..checksum import crc32c
from ..errors import DamageError
from ..ownership import LATE_IMPORT

CHUNK_LEVEL = 1
"""Level 3 stored 1–2 % less of a real recording at much the same speed, and 9 another 5 % at a quarter of it."""

_CRC = struct.Struct("<I")
_MAGIC = b"\x28\xb5\x2f\xfd"


def with_crc(payload: bytes) -> bytes:
    """`payload` followed by its CRC-32C, as Zarr's crc32c codec does."""
    return payload + _CRC.pack(crc32c(payload))


def without_crc(chunk: bytes) -> bytes:
    """The payload that `with_crc` was given. Raises DamageError if the checksum fails."""
    payload = chunk[: -_CRC.size]
    if len(chunk) <= _CRC.size or _CRC.unpack(chunk[-_CRC.size :])[0] != crc32c(payload):
        raise DamageError("the chunk fails its checksum")
    return payload


def compress(array: npt.NDArray[Any], level: int) -> bytes:
    """The bytes of a C-contiguous array as one zstd frame."""
    payload: bytes = _zstd().compress(array, level)
    return payload


def decompress(payload: bytes, most_bytes: int) -> npt.NDArray[np.uint8]:
    """The content of one frame.

    Raises DamageError, and allocates nothing, unless the frame says that it has at most `most_bytes`. The array's
    memory comes from `buffers`, and goes back there with its last view.
    """
    n_bytes = _content_bytes(payload)
    if n_bytes is None or n_bytes > most_bytes:
        raise DamageError(f"zstd: the frame does not say that it has {most_bytes:,} bytes or fewer")
    out = buffers.take(n_bytes)
    try:
        _zstd().decompress(payload, out)
    except (RuntimeError, ValueError) as error:
        if "memory" in str(error):
            raise MemoryError(f"zstd: {error}") from error
        raise DamageError(f"zstd: {error}") from error
    return out


@cache
def _zstd() -> Any:
    with LATE_IMPORT:
        from numcodecs import zstd  # 90 ms to import; opening a run needs none of it
    return zstd


def _content_bytes(payload: bytes) -> int | None:
    """How many bytes the frame says it decompresses to (RFC 8878, 3.1.1.1); None if it does not say."""
    if len(payload) < 6 or payload[:4] != _MAGIC:
        return None
    descriptor = payload[4]
    is_single_segment = bool(descriptor & 0x20)
    size_bytes = (1 if is_single_segment else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (not is_single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if size_bytes == 0 or len(payload) < start + size_bytes:
        return None
    size = int.from_bytes(payload[start : start + size_bytes], "little")
    return size + 256 if size_bytes == 2 else size
