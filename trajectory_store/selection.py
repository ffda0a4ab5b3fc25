"""numpy's basic indexing, with at most one list or mask, over an array that is read in pieces.

Knows shapes, not data. A key is split into what to read, as indices along the first two axes, and into the key that
numpy applies to what was read: the same key, counted from there. So the result has numpy's shape in every case.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import FrameError, SelectionError, StepNotRecordedError
from .values import as_numpy

Indices = range | npt.NDArray[np.int64]
"""Non-negative indices along one axis, in the order asked for."""

N_READ_AXES = 2


@dataclass(frozen=True)
class Selection:
    """What to read along the first axes, one `Indices` each; then: the numpy key to apply to what was read.

    row_place: where in `then` the index of axis 0 stands; None if there is none, so that all rows are taken.
    """

    read: tuple[Indices, ...]
    then: tuple[Any, ...]
    row_place: int | None

    @property
    def has_rows(self) -> bool:
        """Whether axis 0 stays an axis of the result."""
        return self.row_place is None or not isinstance(self.then[self.row_place], int)

    @property
    def puts_a_list_before_rows(self) -> bool:
        """Whether the result's first axis is that of a list of another axis: so numpy has it if an int stands apart."""
        places = [i for i, part in enumerate(self.then) if isinstance(part, (int, np.ndarray))]
        lists = [i for i in places if isinstance(self.then[i], np.ndarray)]
        return bool(lists) and lists != [self.row_place] and places[-1] - places[0] >= len(places)

    def of_rows(self, rows: Any) -> tuple[Any, ...]:
        """`then` with another index of axis 0."""
        if self.row_place is None:
            return self.then
        return (*self.then[: self.row_place], rows, *self.then[self.row_place + 1 :])


FULL = slice(None)


def select(key: Any, shape: tuple[int, ...]) -> Selection:
    """Split `key` for an array of `shape`.

    Raises SelectionError on anything else than ints, slices, ellipsis, None, booleans and one list or mask, and
    StepNotRecordedError on an index past the end of axis 0.
    """
    parts = [_plain(part) for part in (key if isinstance(key, tuple) else (key,))]
    n_ellipses = sum(part is Ellipsis for part in parts)
    n_indexed = sum(not _makes_an_axis(part) for part in parts) - n_ellipses
    if n_ellipses > 1:
        raise SelectionError("an index can have one ellipsis (...)")
    if n_indexed > len(shape):
        raise SelectionError(f"{n_indexed} indices for an array of {len(shape)} axes")
    if sum(isinstance(part, np.ndarray) for part in parts) > 1:
        raise SelectionError("at most one list or mask in an index; slice the result for others: W[rows][:, tokens]")
    read: list[Indices] = [range(size) for size in shape[:N_READ_AXES]]
    then: list[Any] = []
    row_place = None
    axis = 0
    for part in parts:
        if part is Ellipsis:
            axis += len(shape) - n_indexed
        if part is Ellipsis or _makes_an_axis(part):
            then.append(part)
            continue
        indices, local = _along(part, shape[axis], axis)
        if axis == 0:
            row_place = len(then)
        if axis < N_READ_AXES:
            read[axis] = indices
            then.append(local)
        else:  # the trailing axes are always read whole
            then.append(part if isinstance(part, slice) else indices[local])
        axis += 1
    return Selection(tuple(read), tuple(then), row_place)


def _makes_an_axis(part: Any) -> bool:
    """numpy's None, and its booleans, which are masks of no axis: True makes an axis of one entry, False of none."""
    return part is None or isinstance(part, bool)


def _plain(part: Any) -> Any:
    """A part of a key as None, an ellipsis, a bool, an int, a slice, or an array of ints or booleans of some axes."""
    if part is None or part is Ellipsis or isinstance(part, (bool, slice, int)):
        return part
    if not hasattr(part, "ndim") and hasattr(part, "__index__"):
        return operator.index(part)
    try:
        array = as_numpy(part)
    except FrameError as error:
        raise SelectionError(f"{part!r:.60} is no index: {error}") from error
    if array.size == 0 and not isinstance(part, np.ndarray):
        array = array.astype(np.intp)  # numpy's rule for an empty list
    if array.dtype.kind not in "iub":
        raise SelectionError(
            f"{part!r:.60} is not an int, a slice, an ellipsis, None, a list of ints or a mask of booleans"
        )
    return array if array.ndim else array.item()


def _along(part: Any, size: int, axis: int) -> tuple[Indices, Any]:
    """The indices of one axis, and the key that takes them out of what was read; the key 0 drops the axis."""
    if isinstance(part, slice):
        try:
            return range(*part.indices(size)), FULL
        except (TypeError, ValueError) as error:
            raise SelectionError(f"axis {axis}: {part}: {error}") from error
    if isinstance(part, np.ndarray):
        indices = _listed(part, size, axis)
        flat = indices.reshape(-1)
        return flat, np.arange(flat.size).reshape(indices.shape)
    if not -size <= part < size:
        raise _out_of_range(part, size, axis)
    return range(part % size, part % size + 1), 0


def _listed(part: npt.NDArray[Any], size: int, axis: int) -> npt.NDArray[np.int64]:
    """The non-negative indices that a list of ints, of any axes, or a mask stands for."""
    if part.dtype == bool:
        if part.ndim != 1:
            raise SelectionError(
                f"axis {axis}: a mask has one axis, found {part.ndim}; mask what is read: series[...][mask]"
            )
        if len(part) != size:
            raise SelectionError(f"axis {axis}: a mask of {len(part)} entries for an axis of {size}")
        return np.flatnonzero(part)
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
