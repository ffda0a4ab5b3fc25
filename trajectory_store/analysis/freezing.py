"""When tokens stop moving: the last move of each, and the stretches of steps at which nothing moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from ..options import takes
from .arrays import Recorded
from .row_sums import RowSums
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan, scan_one
from .slab import Slab, SlabPlace


@takes(ScanOptions)
def freeze_onset(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> npt.NDArray[np.int64]:
    """Find when each token stopped moving.

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
    ndarray of int64, shape (tokens,)
        The last step k at which any bit of the token's row differs from step k − 1; 0 if it never moved. The largest
        entry is the run's last motion.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.

    Notes
    -----
    Bits are compared, not values: a zero that changes its sign moved, and a NaN that stays the same did not.

    Examples
    --------
    >>> bits = np.array([[[1], [5]], [[2], [5]], [[2], [5]]], dtype=np.uint16)  # 3 steps, 2 tokens, 1 dim
    >>> analysis.freeze_onset(bits)
    array([1, 0])
    """
    return scan_one(recorded, FreezeOnset(), series=series, **options)


@dataclass(frozen=True)
class FreezeOnset:
    """The analysis behind `freeze_onset`."""

    needs = Needs("freeze onset")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.int64] | None:
        return None if slab.is_still else last_step(slab, slab.moved)

    def begin(self, extent: Extent) -> "LastSteps":
        return LastSteps(extent.n_tokens)


def last_step(slab: Slab, happens: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The last step of the slab at which something happens to each token, shape (tokens,); −1 if it never does."""
    n_after = np.argmax(happens[::-1], axis=0)
    return np.where(happens.any(axis=0), slab.steps[len(happens) - 1 - n_after], -1)


class LastSteps:
    """Keeps the last step of each token that any part names."""

    def __init__(self, n_tokens: int) -> None:
        self._last = np.zeros(n_tokens, dtype=np.int64)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, npt.NDArray[np.int64]]]) -> None:
        del block
        for place, last in parts:
            known = self._last[place.tokens]
            np.maximum(known, last, out=known)

    def result(self) -> npt.NDArray[np.int64]:
        return self._last


@dataclass(frozen=True)
class Stillness:
    """How many tokens move at each step, and the stretches of steps at which none does.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    movers : ndarray of int64, shape (n,)
        Tokens that moved.
    first_steps, lengths : ndarray of int64, shape (stretches,)
        The step at which each still stretch begins, and how many steps it lasts.
    """

    steps: npt.NDArray[np.int64]
    movers: npt.NDArray[np.int64]
    first_steps: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    @property
    def n_still(self) -> int:
        """Steps at which nothing moves."""
        return int(self.lengths.sum())

    @property
    def winter(self) -> int:
        """Steps at the end of the run at which nothing moves."""
        moving = np.flatnonzero(self.movers)
        return len(self.movers) - (int(moving[-1]) + 1 if len(moving) else 0)


@takes(ScanOptions)
def stillness(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Stillness:
    """Find the stretches of steps at which nothing moves.

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
    Stillness
        The longest stretches of steps t at which W[t] = W[t−1] in every bit of every token, and the movers at each
        step.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.

    Examples
    --------
    >>> bits = np.array([[[1], [5]], [[2], [5]], [[2], [5]]], dtype=np.uint16)  # 3 steps, 2 tokens, 1 dim
    >>> found = analysis.stillness(bits)
    >>> found.movers, found.first_steps, found.lengths
    (array([1, 0]), array([2]), array([1]))
    """
    return scan_one(recorded, StillRuns(), series=series, **options)


@dataclass(frozen=True)
class StillRuns:
    """The analysis behind `stillness`."""

    needs = Needs("stillness")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.int64] | None:
        """(rows, 1): the tokens that moved."""
        return None if slab.is_still else np.count_nonzero(slab.moved, axis=1)[:, np.newaxis]

    def begin(self, extent: Extent) -> RowSums[Stillness]:
        return RowSums(extent, 1, _stillness)


def _stillness(extent: Extent, sums: npt.NDArray[np.float64]) -> Stillness:
    steps, movers = extent.steps[1:], sums[1:, 0].astype(np.int64)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], movers == 0, [False]]).astype(np.int8)))
    first, after = edges[::2], edges[1::2]
    return Stillness(steps, movers, steps[first], after - first)


@dataclass(frozen=True)
class Stumbles:
    """When each token made its last big move, and its last move of any size.

    Attributes
    ----------
    last_big, last_any : ndarray of int64, shape (tokens,)
        The step of the move; 0 if it made none.
    """

    last_big: npt.NDArray[np.int64]
    last_any: npt.NDArray[np.int64]

    @property
    def duration(self) -> npt.NDArray[np.int64]:
        """Steps from the last big move to the last one: t_last_any − t_last_big."""
        return self.last_any - self.last_big


@takes(ScanOptions)
def stumbles(recorded: Recorded, series: str = "W", *, big: float = 1.0, **options: Unpack[ScanOptions]) -> Stumbles:
    """Find how long each token went on in small moves after its last big one.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    big : float
        A move is big if its ‖ΔW′‖₁ exceeds so many ULPs, or is NaN.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Stumbles
        The two steps, and the duration between them, t_last_any − t_last_big.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    last_big, last_any = scan(recorded, [LastAbove(big), FreezeOnset()], series=series, **options)
    return Stumbles(last_big, last_any)


@dataclass(frozen=True)
class LastAbove:
    """Find the last step at which each token's ‖ΔW′‖₁ exceeds a threshold, or is NaN; 0 if it never does.

    Parameters
    ----------
    threshold : float
        In ULPs.
    """

    threshold: float
    needs = Needs("stumble duration")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.int64] | None:
        if not len(slab.changes.owner):
            return None
        return last_step(slab, slab.spread(~(slab.norms.l1 <= self.threshold)))

    def begin(self, extent: Extent) -> LastSteps:
        return LastSteps(extent.n_tokens)


@takes(ScanOptions)
def cohort_onset(
    recorded: Recorded, series: str = "W", *, at_most: float = 1.0, **options: Unpack[ScanOptions]
) -> npt.NDArray[np.int64]:
    """Find when each token first made a small move; tokens that share the step are a cohort.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    at_most : float
        A move is small if its ‖ΔW′‖₁ is at most so many ULPs.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    ndarray of int64, shape (tokens,)
        The first step ≥ 1 of a small move; 0 if there is none.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.

    Examples
    --------
    >>> bits = np.array([[[1], [5]], [[2], [5]], [[2], [5]]], dtype=np.uint16)  # 3 steps, 2 tokens, 1 dim
    >>> analysis.cohort_onset(bits)
    array([1, 1])
    """
    return scan_one(recorded, FirstBelow(at_most), series=series, **options)


@dataclass(frozen=True)
class FirstBelow:
    """The analysis behind `cohort_onset`.

    Parameters
    ----------
    threshold : float
        In ULPs.
    """

    threshold: float
    needs = Needs("cohort onset")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.int64]:
        is_below = slab.spread(~(slab.norms.l1 <= self.threshold)) == 0
        if slab.before is None:
            is_below[0] = False
        return np.where(is_below.any(axis=0), slab.steps[np.argmax(is_below, axis=0)], 0)

    def begin(self, extent: Extent) -> "_FirstSteps":
        return _FirstSteps(extent.n_tokens)


class _FirstSteps:
    def __init__(self, n_tokens: int) -> None:
        self._first = np.zeros(n_tokens, dtype=np.int64)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, npt.NDArray[np.int64]]]) -> None:
        del block
        for place, first in parts:
            known = self._first[place.tokens]
            np.copyto(known, first, where=known == 0)

    def result(self) -> npt.NDArray[np.int64]:
        return self._first
