"""numpy's basic indexing, with at most one list or mask, over an array that is read in pieces.

Knows shapes, not data. A key is split into what to read, as indices along the first two axes, and into the key that
numpy applies to what was read. So the result has numpy's shape in every case.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import SelectionError, StepNotRecordedError

Indices = range | npt.NDArray[np.int64]
"""Non-negative indices along one axis, in the order asked for."""

N_READ_AXES = 2


@dataclass(frozen=True)
class Selection:
    """What to read along the first axes, one `Indices` each; then: the numpy key to apply to what was read."""

    read: tuple[Indices, ...]
    then: tuple[Any, ...]


FULL = slice(None)


def select(key: Any, shape: tuple[int, ...]) -> Selection:
    """Split `key` for an array of `shape`.

    Raises SelectionError on anything but ints, slices, an ellipsis and one list or mask, and StepNotRecordedError on an
    index past the end of axis 0.
    """
    parts = _one_part_an_axis(key, shape)
    read: list[Indices] = []
    then: list[Any] = []
    n_lists = 0
    for axis, (part, size) in enumerate(zip(parts, shape, strict=True)):
        indices, local = _along(part, size, axis)
        n_lists += isinstance(indices, np.ndarray)
        if axis < N_READ_AXES:
            read.append(indices)
            then.append(local)
        else:  # the trailing axes are always read whole
            then.append(indices if isinstance(indices, np.ndarray) else indices[0] if local == 0 else part)
    if n_lists > 1:
        raise SelectionError("at most one list or mask in an index; slice the result for the others")
    return Selection(tuple(read), tuple(then))


def _one_part_an_axis(key: Any, shape: tuple[int, ...]) -> list[Any]:
    parts = list(key) if isinstance(key, tuple) else [key]
    n_ellipses = sum(part is Ellipsis for part in parts)
    if n_ellipses > 1:
        raise SelectionError("an index can have one ellipsis (...)")
    if n_ellipses == 0:
        parts.append(Ellipsis)
    if len(parts) - 1 > len(shape):
        raise SelectionError(f"{len(parts) - 1} indices for an array of {len(shape)} axes")
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return parts[:at] + [FULL] * (len(shape) - len(parts) + 1) + parts[at + 1 :]


def _along(part: Any, size: int, axis: int) -> tuple[Indices, Any]:
    """The indices of one axis, and the key that takes them out of what was read; the key 0 drops the axis."""
    if isinstance(part, slice):
        try:
            return range(*part.indices(size)), FULL
        except (TypeError, ValueError) as error:
            raise SelectionError(f"axis {axis}: {part}: {error}") from error
    if isinstance(part, (list, tuple, np.ndarray)) and np.ndim(part) > 0:
        indices = _listed(np.asarray(part), size, axis)
        return indices, np.arange(len(indices))
    if part is None or isinstance(part, (bool, np.bool_)):
        raise SelectionError("an index is made of ints, slices, an ellipsis and one list or mask")
    try:
        index = operator.index(part)
    except TypeError as error:
        raise SelectionError(
            f"axis {axis}: {part!r} is not an int, a slice, a list of ints or a mask of booleans"
        ) from error
    if not -size <= index < size:
        raise _out_of_range(index, size, axis)
    return range(index % size, index % size + 1), 0


def _listed(part: npt.NDArray[Any], size: int, axis: int) -> npt.NDArray[np.int64]:
    if part.ndim != 1:
        raise SelectionError(f"axis {axis}: a list or mask has one dimension, found {part.ndim}")
    if part.dtype == bool:
        if len(part) != size:
            raise SelectionError(f"axis {axis}: a mask of {len(part)} entries for an axis of {size}")
        return np.flatnonzero(part)
    if len(part) == 0:
        return np.empty(0, dtype=np.int64)
    if part.dtype.kind not in "iu":
        raise SelectionError(f"axis {axis}: a list of {part.dtype} where ints or booleans are expected")
    wrong = part[(part < -size) | (part >= size)]
    if len(wrong):
        raise _out_of_range(int(wrong[0]), size, axis)
    indices: npt.NDArray[np.int64] = part.astype(np.int64)
    return np.where(indices < 0, indices + size, indices)


def _out_of_range(index: int, size: int, axis: int) -> Exception:
    if axis == 0:
        return StepNotRecordedError(f"step index {index}: {size} steps are recorded, indices {-size} to {size - 1}")
    return SelectionError(f"axis {axis}: index {index} is out of range for {size} entries")


Positions = slice | npt.NDArray[np.int64]


def pieces(indices: Indices, piece_size: int) -> Iterator[tuple[int, Positions, Positions]]:
    """Group indices by the piece of `piece_size` that they lie in.

    Yields (piece, positions in the result, positions in the piece). Positions are slices if the indices are evenly
    spaced, so that numpy need not gather.
    """
    if len(indices) == 0:
        return
    if isinstance(indices, range):
        start = 0
        while start < len(indices):
            piece = indices[start] // piece_size
            edge = (piece + 1) * piece_size if indices.step > 0 else piece * piece_size - 1
            n = min(len(indices) - start, -(-(edge - indices[start]) // indices.step))
            first = indices[start] - piece * piece_size
            yield piece, slice(start, start + n), _slice_of(first, indices.step, n)
            start += n
        return
    which = indices // piece_size
    for piece in np.unique(which).tolist():
        out = np.flatnonzero(which == piece)
        yield piece, out, indices[out] - piece * piece_size


def _slice_of(first: int, step: int, n: int) -> slice:
    stop = first + n * step
    return slice(first, stop if stop >= 0 else None, step)


def positions_of(indices: Indices) -> Positions:
    """Indices as numpy takes them: a slice if they are evenly spaced."""
    if not isinstance(indices, range):
        return indices
    if len(indices) == 0:  # as a slice, range(-1, -1, -1) would be everything
        return slice(0, 0)
    return slice(indices.start, indices.stop if indices.stop >= 0 else None, indices.step)


def stop_of(positions: Positions) -> int:
    """One more than the largest of some non-negative positions. There is at least one."""
    if isinstance(positions, slice):
        assert positions.step is not None
        if positions.step > 0:
            n = -(-(positions.stop - positions.start) // positions.step)
            return int(positions.start + (n - 1) * positions.step + 1)
        return int(positions.start + 1)
    return int(positions.max()) + 1
