"""Bulk motion: the move that the tokens of a tile share at a step, and what it predicts, on bfloat16 bit patterns.

Tokens whose gradients have one direction take the same step of Adam. bfloat16 rounds that step to another number of
cells in every binade, so the differences have many bits while the move has few. Only values with an exponent of at
least `FIRST_USABLE` take part: no sum of two of them is subnormal, so a processor that flushes subnormals to zero
changes nothing. Sums are in token order and in single precision, so that every machine, and the compiled loops, find
the same move.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..bf16 import to_float32
from . import bit_planes

Bits = npt.NDArray[np.uint16]

MOVE_BYTES = 2
FIRST_USABLE = 32
N_USABLE = 223
"""How many exponents are usable, 32 to 254: magnitudes from 2^−95 on, without infinities and NaN."""
WEIGHT_FLOOR, WEIGHT_CEILING = 64, 190
"""For a weight, exponents are clipped to these, so that its square stays in single precision."""
LEAST_CHANGED = 3
"""A row has a move if one in so many of its values changed. If fewer did, the differences alone are smaller."""


def predict(before: Bits, moves: Bits) -> Bits:
    """The patterns of `before` + `moves`, rounded to nearest even, or `before` if either is not usable.

    Shapes broadcast.
    """
    with np.errstate(all="ignore"):
        values = (to_float32(before) + to_float32(moves)).view(np.uint32)
    rounded = ((values + np.uint32(0x7FFF) + ((values >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")
    return np.where(_is_usable(before) & _is_usable(moves), rounded, before)


def estimate(before: Bits, after: Bits) -> Bits:
    """The moves from `before` to `after`, both of shape (n, tokens, width): patterns of shape (n, width), 0 for none.

    A move is the mean of the tokens' moves, weighted by 1 / ulp², because a small value says precisely how it moved and
    a large one hardly. A row has none if fewer than one in `LEAST_CHANGED` of its values changed. A column has none if
    the move predicts no more of its values than standing still does.
    """
    n, n_tokens, width = before.shape
    has_changed = before != after
    moves = np.zeros((n, width), dtype="<u2")
    active = np.flatnonzero(has_changed.sum(axis=(1, 2)) * LEAST_CHANGED >= n_tokens * width)
    if len(active) == 0:
        return moves
    before, after, n_unchanged = before[active], after[active], n_tokens - has_changed[active].sum(axis=1)
    found = _weighted_mean(before, after)
    found[~_is_usable(found)] = 0
    n_hits = (predict(before, found[:, None]) == after).sum(axis=1)
    moves[active] = np.where(n_hits > n_unchanged, found, np.uint16(0))
    return moves


def pack(moves: Bits) -> npt.NDArray[np.uint8]:
    """The changes of moves (n, width), zigzag-mapped, all high bytes first; nothing if every move is 0."""
    if not moves.any():
        return np.empty(0, dtype=np.uint8)
    changes = bit_planes.zigzag(np.diff(moves, axis=0, prepend=np.uint16(0)))
    return np.concatenate([(changes >> np.uint16(8)).astype(np.uint8), changes.astype(np.uint8)], axis=None)


def unpack(packed: npt.NDArray[np.uint8], n: int, width: int) -> Bits:
    """The inverse of `pack`, shape (n, width); (0, width) if nothing was stored."""
    if len(packed) == 0:
        return np.empty((0, width), dtype="<u2")
    high, low = packed.reshape(2, n, width)
    changes = bit_planes.unzigzag(high.astype("<u2") << np.uint16(8) | low)
    return np.cumsum(changes, axis=0, dtype=np.uint16)


def _weighted_mean(before: Bits, after: Bits) -> Bits:
    total = np.zeros((len(before), before.shape[2]), dtype=np.float32)
    total_weight = np.zeros_like(total)
    with np.errstate(all="ignore"):
        for token in range(before.shape[1]):  # not `sum`, whose order is numpy's own
            was, now = before[:, token], after[:, token]
            usable = _is_usable(was) & _is_usable(now)
            exponent = np.clip(np.maximum(_exponent(was), _exponent(now)), WEIGHT_FLOOR, WEIGHT_CEILING)
            weight = ((np.uint32(3 * 127) - 2 * exponent.astype(np.uint32)) << np.uint32(23)).view(np.float32)
            weight = np.where(usable, weight, np.float32(0))
            total += weight * np.where(usable, to_float32(now) - to_float32(was), np.float32(0))
            total_weight += weight
        mean = np.where(total_weight > 0, total / total_weight, np.float32(0)).view(np.uint32)
    return ((mean + np.uint32(0x7FFF) + ((mean >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2")


def _exponent(bits: Bits) -> Bits:
    return (bits >> np.uint16(7)) & np.uint16(0xFF)


def _is_usable(bits: Bits) -> npt.NDArray[Any]:
    return _exponent(bits) - np.uint16(FIRST_USABLE) < N_USABLE
