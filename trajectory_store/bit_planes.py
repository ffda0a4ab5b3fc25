"""Rows of small unsigned integers as planes: the low bits of all items together, then the higher ones.

What compresses depends on which bits lie side by side. The lowest byte is split into four groups of 1, 1, 2 and 4
bits; an item that is 0, 1 or 2 then has one bit, not one byte, that is not zero. Layout: docs/format.md, "Bit planes".
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.uint8]
Items = npt.NDArray[Any]

GROUPS = ((0, 1), (1, 1), (2, 2), (4, 4))
"""(first bit, number of bits) of the groups of the lowest byte; a group of 1 bit has q bytes, of 4 bits 4q."""
ITEMS_A_GROUP_BYTE = 8


def group_bytes(n_items: int) -> int:
    """q: a row is padded to 8q items, so that a plane of one bit has q whole bytes."""
    return -(-n_items // ITEMS_A_GROUP_BYTE)


def pack(items: Items) -> Planes:
    """(n, 8q) unsigned integers of k bytes → (n, 8qk) bytes."""
    n, n_items = items.shape
    by_byte = items.view(np.uint8).reshape(n, n_items, items.itemsize)
    planes = np.empty((n, n_items * items.itemsize), dtype=np.uint8)
    low = np.ascontiguousarray(by_byte[:, :, 0])
    for shift, width, plane in _group_planes(planes, n_items):
        parts = ((low >> np.uint8(shift)) & np.uint8((1 << width) - 1)).reshape(n, 8 // width, plane.shape[1])
        plane[:] = parts[:, 0]
        for at in range(1, 8 // width):
            plane |= parts[:, at] << np.uint8(at * width)
    for byte in range(1, items.itemsize):
        planes[:, byte * n_items : (byte + 1) * n_items] = by_byte[:, :, byte]
    return planes


def unpack(planes: Planes, dtype: np.dtype[Any]) -> Items:
    """The inverse: (n, 8qk) bytes → (n, 8q) items of `dtype`, in memory of their own."""
    n, n_items = len(planes), planes.shape[1] // dtype.itemsize
    items = np.empty((n, n_items), dtype=dtype)
    by_byte = items.view(np.uint8).reshape(n, n_items, dtype.itemsize)
    low = np.zeros((n, n_items), dtype=np.uint8)
    for shift, width, plane in _group_planes(planes, n_items):
        if plane.any():
            for at, part in enumerate(np.split(low, 8 // width, axis=1)):
                part |= ((plane >> np.uint8(at * width)) & np.uint8((1 << width) - 1)) << np.uint8(shift)
    by_byte[:, :, 0] = low
    for byte in range(1, dtype.itemsize):
        by_byte[:, :, byte] = planes[:, byte * n_items : (byte + 1) * n_items]
    return items


def _group_planes(planes: Planes, n_items: int) -> Iterator[tuple[int, int, Planes]]:
    start = 0
    for shift, width in GROUPS:
        stop = start + n_items * width // 8
        yield shift, width, planes[:, start:stop]
        start = stop
