"""Tokens that share one place: distinct rows at each step, and black holes, groups of tokens that are neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..errors import UsageError
from ..options import takes
from .arrays import Recorded, as_series
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, check_series, scan_one
from .slab import Slab, SlabPlace


@dataclass(frozen=True)
class UniqueRows:
    """How many distinct rows there are.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Every recorded step.
    count : ndarray of int64, shape (n,)
        Distinct rows.
    """

    steps: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]


@takes(ScanOptions)
def unique_rows(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> UniqueRows:
    """Count the distinct rows at every recorded step.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    UniqueRows
        Distinct rows of W[t] as bit patterns, so −0 and +0 are different.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits.

    Examples
    --------
    >>> bits = np.array([[[1], [5]], [[2], [5]], [[2], [5]]], dtype=np.uint16)  # 3 steps, 2 tokens, 1 dim
    >>> analysis.unique_rows(bits).count
    array([2, 2, 2])
    """
    return scan_one(recorded, DistinctRows(), series=series, **options)


@dataclass(frozen=True)
class DistinctRows:
    """The analysis behind `unique_rows`."""

    needs = Needs("unique rows", every_step=False, whole_block=True)

    def of_tile(self, slab: Slab) -> npt.NDArray[np.bool_] | None:
        """The rows in which anything moved."""
        changed = np.asarray(slab.moved.any(axis=1), dtype=bool)
        changed[0] |= slab.before is None
        return changed if changed.any() else None

    def begin(self, extent: Extent) -> "_Counts":
        return _Counts(extent)


class _Counts:
    def __init__(self, extent: Extent) -> None:
        self._steps = extent.steps
        self._count = np.zeros(len(extent.steps), dtype=np.int64)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, npt.NDArray[np.bool_]]]) -> None:
        changed = np.zeros(len(block.steps), dtype=bool)
        for place, rows in parts:
            changed[place.rows.start - block.rows.start : place.rows.stop - block.rows.start] |= rows
        for at in range(len(changed)):
            row = block.rows.start + at
            self._count[row] = _n_distinct(block.row(at)) if changed[at] else self._count[row - 1]

    def result(self) -> UniqueRows:
        return UniqueRows(self._steps, self._count)


def _n_distinct(bits: npt.NDArray[Any]) -> int:
    # A set of bytes is exact and five times faster than numpy's sort of rows.
    data, size = bits.tobytes(), bits.shape[1] * bits.itemsize
    return len({data[at : at + size] for at in range(0, len(data), size)})


@dataclass(frozen=True)
class BlackHoles:
    """Groups of two or more tokens that share a place, at one step.

    Attributes
    ----------
    step : int
        The step.
    hole : ndarray of int64, shape (tokens,)
        Which hole each token is in, 0 for the most populous; −1 for none.
    population : ndarray of int64, shape (holes,)
        Tokens in each hole.
    """

    step: int
    hole: npt.NDArray[np.int64]
    population: npt.NDArray[np.int64]


def black_holes(recorded: Recorded, steps: Sequence[int], series: str = "W", *, max_cells: int = 0) -> list[BlackHoles]:
    """Find the groups of tokens that are neighbours, at some steps.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    steps : sequence of int
        The steps to look at.
    series : str
        The series to look at, if `recorded` has several.
    max_cells : int
        How many lattice cells apart two tokens may be in every dim and still be neighbours. 0 joins equal tokens only,
        zeros of both signs being equal.

    Returns
    -------
    list of BlackHoles
        One for each of `steps`, in their order.

    Raises
    ------
    UsageError
        `max_cells` is negative, or the series is not (step, token, dim) of bfloat16 bits.
    StepNotRecordedError
        The series does not have a step.

    Notes
    -----
    The groups are the components of the graph that joins two tokens i and j if L∞ of ordinal(W_i) − ordinal(W_j) is at
    most `max_cells`. Ordinals make that distance the same from both ends. Time grows with the pairs that are close in
    one dim.
    """
    if max_cells < 0:
        raise UsageError(f"max_cells={max_cells}: a distance is ≥ 0")
    source = as_series(recorded, series)
    check_series(source, "black holes")
    return [_holes(int(step), source.bits.at_step(int(step)), max_cells) for step in steps]


def _holes(step: int, bits: npt.NDArray[Any], max_cells: int) -> BlackHoles:
    places, member = np.unique(bf16.ordinal(bits), axis=0, return_inverse=True)
    label = _components(places, max_cells) if max_cells else np.arange(len(places))
    _, group, population = np.unique(label[member.reshape(-1)], return_inverse=True, return_counts=True)
    order = np.argsort(-population, kind="stable")
    n_holes = int((population > 1).sum())
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    hole = rank[group]
    return BlackHoles(step, np.where(hole < n_holes, hole, -1), population[order][:n_holes].astype(np.int64))


def _components(places: npt.NDArray[np.int32], max_cells: int) -> npt.NDArray[np.int64]:
    """A label for each place, shared by those that a chain of close pairs joins.

    Places are sorted by the dim with most values. Only places within `max_cells` along it can be close. So pairs are
    tried from the nearest in that order outwards, until none is within reach.
    """
    widest = int(np.argmax([len(np.unique(column)) for column in places.T]))
    order = np.argsort(places[:, widest], kind="stable")
    sorted_places = places[order]
    key = sorted_places[:, widest]
    label = np.arange(len(places))
    at = np.arange(len(places))
    for apart in range(1, len(places)):
        at = at[at + apart < len(places)]
        at = at[key[at + apart] - key[at] <= max_cells]
        if not len(at):
            break
        is_close = (np.abs(sorted_places[at + apart] - sorted_places[at]) <= max_cells).all(axis=1)
        label = _joined(label, at[is_close], at[is_close] + apart)
    result = np.empty(len(places), dtype=np.int64)
    result[order] = label
    return result


def _joined(label: npt.NDArray[np.int64], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Labels after joining each pair (a, b). A component has the smallest label of its members."""
    while (different := label[a] != label[b]).any():
        a, b = a[different], b[different]
        smaller, larger = np.minimum(label[a], label[b]), np.maximum(label[a], label[b])
        target = np.arange(len(label))
        np.minimum.at(target, larger, smaller)
        while (target[target] != target).any():
            target = target[target]
        label = target[label]
    return label
