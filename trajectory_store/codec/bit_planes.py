"""Rows of small unsigned integers as planes: the low bits of all items together, then the higher ones, without zeros.

Bits compress well if alike ones lie side by side. The lowest byte is split into four groups of 1, 1, 2 and 4 bits, so
that an item that is 0, 1 or 2 has one bit that is not zero, not one byte. Or the lowest byte is one group as a whole,
which is better if items repeat: zstd finds whole bytes again, but not split ones. A group that is 0 in all items of a
row is not stored, so that a row that hardly moves has hardly any bytes. docs/format.md, "Bit planes", has the layout.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.uint16]
Items = npt.NDArray[Any]

GROUPS = ((0, 1), (1, 1), (2, 2), (4, 4))
"""(first bit, number of bits) of the groups of a split lowest byte; a group of 1 bit has q bytes, of 4 bits 4q."""
ITEMS_A_GROUP_BYTE = 8


def group_bytes(n_items: int) -> int:
    """q: a row is padded to 8q items, so that a group of one bit has q whole bytes."""
    return -(-n_items // ITEMS_A_GROUP_BYTE)


def zigzag(deltas: Items) -> Items:
    """0, −1, 1, −2, … → 0, 1, 2, 3, …, so that small differences have few bits."""
    signed = deltas.view(f"<i{deltas.itemsize}")
    codes: Items = ((signed << 1) ^ (signed >> (deltas.itemsize * 8 - 1))).view(deltas.dtype)
    return codes


def unzigzag(codes: Items) -> Items:
    """The inverse of `zigzag`."""
    signed = codes.view(f"<i{codes.itemsize}")
    deltas: Items = (codes >> codes.dtype.type(1)) ^ (-(signed & 1)).view(codes.dtype)
    return deltas


def group_sizes(q: int, itemsize: int) -> list[int]:
    """The bytes of each group of a row: a split lowest byte's, one of each further byte, the whole lowest byte."""
    return [*(q * width for _, width in GROUPS), *[8 * q] * itemsize]


def whole_bytes(itemsize: int) -> int:
    """The mask of a row that has all of its bytes, and none of them split."""
    return ((1 << itemsize) - 1) << len(GROUPS)


def all_groups(itemsize: int) -> int:
    """The mask of a row that has every group, which is the largest one."""
    return (1 << (len(GROUPS) + itemsize)) - 1


def pack(items: Items, *, is_split: bool) -> tuple[Masks, Bytes]:
    """(n, 8q) unsigned integers → a mask of the groups that each row has, shape (n), and their bytes, row after row."""
    n, n_items = items.shape
    by_byte = items.view(np.uint8).reshape(n, n_items, items.itemsize)
    planes = np.zeros((n, n_items * (items.itemsize + 1)), dtype=np.uint8)
    low = np.ascontiguousarray(by_byte[:, :, 0])
    bounds = _bounds(n_items, items.itemsize)
    masks = np.zeros(n, dtype="<u2")
    for group, (start, stop) in enumerate(bounds):
        plane = planes[:, start:stop]
        if group >= len(GROUPS):
            if (byte := (group - len(GROUPS) + 1) % items.itemsize) or not is_split:
                plane[:] = by_byte[:, :, byte]
        elif is_split:
            shift, width = GROUPS[group]
            parts = ((low >> np.uint8(shift)) & np.uint8((1 << width) - 1)).reshape(n, 8 // width, stop - start)
            plane[:] = parts[:, 0]
            for at in range(1, 8 // width):
                plane |= parts[:, at] << np.uint8(at * width)
        masks |= plane.any(axis=1).astype("<u2") << np.uint16(group)
    return masks, planes[_is_present(masks, bounds)]


def unpack(masks: Masks, packed: Bytes, q: int, dtype: np.dtype[Any]) -> Items:
    """The inverse of `pack`: (n, 8q) items of `dtype`. `packed` has as many bytes as the masks say."""
    n, n_items = len(masks), ITEMS_A_GROUP_BYTE * q
    bounds = _bounds(n_items, dtype.itemsize)
    planes = np.zeros((n, n_items * (dtype.itemsize + 1)), dtype=np.uint8)
    planes[_is_present(masks, bounds)] = packed
    items = np.empty((n, n_items), dtype=dtype)
    by_byte = items.view(np.uint8).reshape(n, n_items, dtype.itemsize)
    low = np.zeros((n, n_items), dtype=np.uint8)
    for group, (start, stop) in enumerate(bounds):
        plane = planes[:, start:stop]
        if group >= len(GROUPS):
            if byte := (group - len(GROUPS) + 1) % dtype.itemsize:
                by_byte[:, :, byte] = plane
            else:
                low |= plane
        elif (masks >> np.uint16(group) & np.uint16(1)).any():
            shift, width = GROUPS[group]
            for at, part in enumerate(np.split(low, 8 // width, axis=1)):
                part |= ((plane >> np.uint8(at * width)) & np.uint8((1 << width) - 1)) << np.uint8(shift)
    by_byte[:, :, 0] = low
    return items


def row_bytes(masks: Masks, q: int, itemsize: int) -> npt.NDArray[np.int64]:
    """How many bytes each row has. No mask has a bit that stands for no group."""
    return _bytes_of_masks(q, itemsize)[masks]


@cache
def _bytes_of_masks(q: int, itemsize: int) -> npt.NDArray[np.int64]:
    masks = np.arange(all_groups(itemsize) + 1)
    return sum(((masks >> group & 1) * size for group, size in enumerate(group_sizes(q, itemsize))), masks * 0)


def _bounds(n_items: int, itemsize: int) -> list[tuple[int, int]]:
    stops = np.cumsum(group_sizes(n_items // ITEMS_A_GROUP_BYTE, itemsize)).tolist()
    return list(zip([0, *stops[:-1]], stops, strict=True))


def _is_present(masks: Masks, bounds: list[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    present = np.empty((len(masks), bounds[-1][1]), dtype=np.bool_)
    for group, (start, stop) in enumerate(bounds):
        present[:, start:stop] = (masks >> np.uint16(group) & np.uint16(1)).astype(np.bool_)[:, None]
    return present
