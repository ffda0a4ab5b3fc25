"""Memory that is used again: a page costs more to touch for the first time than a tile to decode.

An array from here gives its memory back when the last view of it is gone, so nobody has to return it. Thread-safe.
"""

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]

MAX_IDLE_BYTES = 32 << 20
"""What is kept of one size; it also bounds what a process keeps after its last run is closed, times `_MOST_SIZES`."""
_MOST_SIZES = 4

_idle: dict[int, deque[Buffer]] = {}


def take(n_bytes: int) -> Buffer:
    """An array of `n_bytes` bytes of any content."""
    if n_bytes > MAX_IDLE_BYTES:
        return np.empty(n_bytes, dtype=np.uint8)
    idle = _idle.get(n_bytes)
    if idle is None:
        if len(_idle) >= _MOST_SIZES:
            _idle.clear()  # another run, other sizes
        idle = _idle.setdefault(n_bytes, deque(maxlen=MAX_IDLE_BYTES // max(1, n_bytes)))
    try:
        memory = idle.pop()
    except IndexError:
        memory = np.empty(n_bytes, dtype=np.uint8)
    return np.asarray(_Lease(memory, idle))


class _Lease:
    """Owns a buffer as the base of the array that `take` returns: numpy keeps it as long as there is a view."""

    def __init__(self, memory: Buffer, idle: deque[Buffer]) -> None:
        self._memory, self._idle = memory, idle
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        self._idle.append(self._memory)  # atomic, and drops the oldest where there are too many
