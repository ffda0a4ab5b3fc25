"""Memory for reuse, because to touch a page for the first time costs more than to decode a tile into it.

An array from here gives its memory back when its last view is gone, so nobody has to return it. Thread-safe.
"""

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from .ownership import after_fork

Buffer = npt.NDArray[np.uint8]

MAX_IDLE_BYTES = 128 << 20
"""The most that a process keeps: one block of the default size."""
_SMALLEST_BYTES = 1 << 16


class _Pool:
    """Idle buffers by size; knows no global name, for a buffer may come back when those are gone."""

    def __init__(self) -> None:
        self._most_bytes = MAX_IDLE_BYTES
        self.renew()

    def renew(self) -> None:
        """Begin empty, in a forked child too."""
        self._idle: dict[int, list[Buffer]] = {}
        self._n_bytes = 0
        self._lock = threading.RLock()  # a collection may give memory back inside of `take`

    def take(self, size: int) -> Buffer | None:
        """A buffer of just this size, None if there is none."""
        with self._lock:
            same_size = self._idle.get(size)
            if not same_size:
                return None
            self._n_bytes -= size
            return same_size.pop()

    def give_back(self, memory: Buffer) -> None:
        """Keep a buffer for the next one who wants its size."""
        with self._lock:
            if self._n_bytes + len(memory) > self._most_bytes:
                self._idle.clear()  # other sizes are wanted now
                self._n_bytes = 0
            self._idle.setdefault(len(memory), []).append(memory)
            self._n_bytes += len(memory)


_pool = _Pool()
after_fork(_pool.renew)


def take(n_bytes: int) -> Buffer:
    """An array of `n_bytes` bytes, whatever they are."""
    size = 1 << (n_bytes - 1).bit_length() if n_bytes else 0
    if not _SMALLEST_BYTES <= size <= MAX_IDLE_BYTES:
        return np.empty(n_bytes, dtype=np.uint8)
    memory = _pool.take(size)
    return np.asarray(_Lease(np.empty(size, dtype=np.uint8) if memory is None else memory, _pool))[:n_bytes]


class _Lease:
    """Owns a buffer as the base of the array that `take` returns. numpy keeps it as long as there is a view."""

    def __init__(self, memory: Buffer, pool: _Pool) -> None:
        self._memory = memory
        self._pool = pool
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        self._pool.give_back(self._memory)
