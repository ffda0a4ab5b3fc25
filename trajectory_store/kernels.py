"""The temporal-delta codec's two inner loops, compiled by numba where that is installed (the extra `fast`).

Same bytes as the numpy code in `temporal`, which is what runs without it: 3 to 40 times slower. Both loops run without
the interpreter's lock, so tiles are coded on all cores.
"""

import importlib.util
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Patterns2D = npt.NDArray[Any]
Planes3D = npt.NDArray[np.uint8]

WARM_UP_BYTES = 64 << 20
"""How much is coded before numba is imported: its import takes as long as numpy needs for this much."""


@dataclass(frozen=True)
class Kernels:
    """encode(patterns (n, m), planes (n, itemsize, m)) fills `planes`; decode(planes, patterns, start, stop) fills rows
    [start, stop) of `patterns`, of which the rows before are already there; both may be the same memory."""

    encode: Callable[[Patterns2D, Planes3D], None]
    decode: Callable[[Planes3D, Patterns2D, int, int], None]


_lock = threading.Lock()
_coded_bytes = 0


def kernels_for(itemsize: int, n_bytes: int) -> Kernels | None:
    """The compiled loops for items of 1, 2, 4 or 8 bytes, counting `n_bytes` more as coded.

    None where numba is not installed, or so little was coded so far that importing it would cost more than it saves.
    """
    global _coded_bytes
    _coded_bytes += n_bytes  # a lost update only delays the import
    if _coded_bytes < WARM_UP_BYTES or not _numba_is_installed():
        return None
    with _lock:  # one thread compiles, the others wait for it
        return _compiled(itemsize)


@cache
def _numba_is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@cache
def _compiled(itemsize: int) -> Kernels:
    import numba

    unsigned: Any = np.dtype(f"u{itemsize}").type
    byte: Any = np.uint8
    zero, one, last_bit = unsigned(0), unsigned(1), unsigned(itemsize * 8 - 1)
    shifts = tuple(unsigned(8 * plane) for plane in range(itemsize))

    def encode(patterns: Any, planes: Any) -> None:
        n, m = patterns.shape
        zigzag = np.empty(m, patterns.dtype)
        for t in range(n):
            row = patterns[t]
            if t == 0:
                for i in range(m):
                    zigzag[i] = row[i]
            else:
                before = patterns[t - 1]
                for i in range(m):
                    delta = unsigned(row[i] - before[i])
                    zigzag[i] = unsigned(unsigned(delta << one) ^ unsigned(zero - unsigned(delta >> last_bit)))
            for plane in range(len(shifts)):
                out, shift = planes[t, plane], shifts[plane]
                for i in range(m):
                    out[i] = byte(zigzag[i] >> shift)

    def decode(planes: Any, patterns: Any, start: int, stop: int) -> None:
        m = patterns.shape[1]
        merged = np.empty(m, patterns.dtype)
        for t in range(start, stop):
            low = planes[t, 0]
            for i in range(m):
                merged[i] = unsigned(low[i])
            for plane in range(1, len(shifts)):
                part, shift = planes[t, plane], shifts[plane]
                for i in range(m):
                    merged[i] = unsigned(merged[i] | unsigned(unsigned(part[i]) << shift))
            row = patterns[t]
            if t == 0:
                for i in range(m):
                    row[i] = merged[i]
            else:
                before = patterns[t - 1]
                for i in range(m):
                    delta = unsigned(unsigned(merged[i] >> one) ^ unsigned(zero - unsigned(merged[i] & one)))
                    row[i] = unsigned(before[i] + delta)

    compiled: Callable[[Any], Any] = numba.njit(nogil=True, cache=True)
    return Kernels(compiled(encode), compiled(decode))
