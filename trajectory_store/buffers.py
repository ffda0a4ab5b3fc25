"""Memory for reuse, because to touch a page for the first time costs more than to decode a tile into it.

An array from here gives its memory back when its last view is gone, so nobody has to return it. Thread-safe.
"""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]

MAX_IDLE_BYTES = 128 << 20
"""The most that a process keeps: one block of the default size."""
_SMALLEST_BYTES = 1 << 16

_idle: dict[int, list[Buffer]] = {}
_n_idle_bytes = 0
_lock = threading.RLock()  # a collection may give memory back inside of `take`


def take(n_bytes: int) -> Buffer:
    """An array of `n_bytes` bytes, whatever they are."""
    global _n_idle_bytes
    size = 1 << (n_bytes - 1).bit_length() if n_bytes else 0
    if not _SMALLEST_BYTES <= size <= MAX_IDLE_BYTES:
        return np.empty(n_bytes, dtype=np.uint8)
    with _lock:
        same_size = _idle.get(size)
        memory = same_size.pop() if same_size else None
        if memory is not None:
            _n_idle_bytes -= size
    return np.asarray(_Lease(np.empty(size, dtype=np.uint8) if memory is None else memory))[:n_bytes]


def _give_back(memory: Buffer) -> None:
    global _n_idle_bytes
    with _lock:
        if _n_idle_bytes + len(memory) > MAX_IDLE_BYTES:
            _idle.clear()  # other sizes are wanted now
            _n_idle_bytes = 0
        _idle.setdefault(len(memory), []).append(memory)
        _n_idle_bytes += len(memory)


class _Lease:
    """Owns a buffer as the base of the array that `take` returns. numpy keeps it as long as there is a view."""

    def __init__(self, memory: Buffer) -> None:
        self._memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        _give_back(self._memory)
