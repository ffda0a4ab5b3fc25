"""How far two runs are apart, step by step."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..errors import UsageError
from ..options import takes
from .arrays import Recorded, as_series
from .row_sums import RowSums
from .scanning import Extent, Needs, ScanOptions, check_series, scan_one
from .slab import Slab, sums_by

_OTHER = "the other run"


@dataclass(frozen=True)
class Divergence:
    """The distance of two runs.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that both runs recorded.
    distance : ndarray of float64, shape (n,)
        ‖A[t] − B[t]‖_F over all entries. Entries of equal bits count 0; it is NaN if others are not finite.
    differing : ndarray of int64, shape (n,)
        Entries whose bits differ.
    """

    steps: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    differing: npt.NDArray[np.int64]

    @property
    def identical(self) -> bool:
        """Whether no bit differs at any common step."""
        return not self.differing.any()

    @property
    def first_step(self) -> int | None:
        """The first step at which a bit differs."""
        return None if self.identical else int(self.steps[np.argmax(self.differing > 0)])


@takes(ScanOptions)
def divergence(a: Recorded, b: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Divergence:
    """Measure how far two runs are apart, at the steps that both have.

    Parameters
    ----------
    a, b : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16. One may be longer.
    series : str
        The series to look at.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Divergence
        ‖W_a[t] − W_b[t]‖_F, and the number of entries whose bits differ.

    Raises
    ------
    UsageError
        The runs have other tokens or dims, or recorded other steps.
    """
    one, other = as_series(a, series), as_series(b, series)
    for each in (one, other):
        check_series(each, "divergence")
    if one.shape[1:] != other.shape[1:]:
        raise UsageError(f"divergence needs the same tokens and dims, found {one.shape[1:]} and {other.shape[1:]}")
    if len(other) < len(one):
        one, other = other, one
    if not np.array_equal(one.steps, other.steps[: len(one)]):
        raise UsageError(f"divergence needs the same steps, found {one.spec.steps} and {other.spec.steps}")
    return scan_one({series: one, _OTHER: other.bits}, Distance(), **options)


@dataclass(frozen=True)
class Distance:
    """The analysis behind `divergence`; the other run is the scan's second series."""

    needs = Needs("divergence", every_step=False)

    def of_tile(self, slab: Slab) -> npt.NDArray[np.float64] | None:
        """(rows, 2): Σ(A − B)² and the entries that differ."""
        a, b = slab.bits.reshape(len(slab.bits), -1), slab.others[_OTHER].reshape(len(slab.bits), -1)
        differs = a != b
        at = np.flatnonzero(differs)
        if not len(at):
            return None
        gap = bf16.to_float64(a.reshape(-1)[at]) - bf16.to_float64(b.reshape(-1)[at])
        squares = sums_by(at // a.shape[1], gap**2, len(a))
        return np.stack([squares, np.count_nonzero(differs, axis=1)], axis=1)

    def begin(self, extent: Extent) -> RowSums[Divergence]:
        return RowSums(extent, 2, _divergence)


def _divergence(extent: Extent, sums: npt.NDArray[np.float64]) -> Divergence:
    squares, differing = sums.T
    return Divergence(extent.steps, np.sqrt(squares), differing.astype(np.int64))
