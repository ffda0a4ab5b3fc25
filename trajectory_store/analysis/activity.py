"""How much of the whole system moves at each step, in the weights' own unit."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from ..options import takes
from .arrays import Recorded
from .row_sums import RowSums
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Slab, sums_by


@dataclass(frozen=True)
class Activity:
    """What moves at each step, summed over all tokens.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    movers : ndarray of int64, shape (n,)
        Tokens that moved.
    l1, l2 : ndarray of float64, shape (n,)
        Σ‖ΔW‖₁ and Σ‖ΔW‖₂, in the weights' own unit.
    energy : ndarray of float64, shape (n,)
        ½ Σ‖ΔW‖₂².
    participation : ndarray of float64, shape (n,)
        The share of the movers that carries the energy, (Σe)² / (movers · Σe²) with e = ½‖ΔW‖₂². It is 1 if all
        movers share alike, and NaN if none moves.
    """

    steps: npt.NDArray[np.int64]
    movers: npt.NDArray[np.int64]
    l1: npt.NDArray[np.float64]
    l2: npt.NDArray[np.float64]
    energy: npt.NDArray[np.float64]
    participation: npt.NDArray[np.float64]


@takes(ScanOptions)
def activity(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Activity:
    """Measure how much of the whole system moves at each step.

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
    Activity
        Movers, Σ‖v‖₁, Σ‖v‖₂, ½ Σ‖v‖₂² and the participation ratio, with v = ΔW[t] = W[t] − W[t−1]. Sums are NaN if an
        entry is not finite.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    return scan_one(recorded, SystemActivity(), series=series, **options)


@dataclass(frozen=True)
class SystemActivity:
    """The analysis behind `activity`."""

    needs = Needs("activity")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.float64] | None:
        """(rows, 5): movers, Σ‖v‖₁, Σ‖v‖₂, Σe, Σe²."""
        changes, (n, k, _) = slab.changes, slab.shape
        if not len(changes.owner):
            return None
        l1, square = changes.sums(np.abs(changes.move)), changes.sums(changes.move**2)
        energy = 0.5 * square
        row = changes.movers // k
        sums = [sums_by(row, weights, n) for weights in (l1, np.sqrt(square), energy, energy**2)]
        return np.stack([np.count_nonzero(slab.moved, axis=1).astype(np.float64), *sums], axis=1)

    def begin(self, extent: Extent) -> RowSums[Activity]:
        return RowSums(extent, 5, _activity)


def _activity(extent: Extent, sums: npt.NDArray[np.float64]) -> Activity:
    movers, l1, l2, energy, squares = sums[1:].T
    spread = movers * squares
    share = np.full(len(spread), np.nan)
    np.divide(energy**2, spread, out=share, where=spread != 0)
    return Activity(extent.steps[1:], movers.astype(np.int64), l1.copy(), l2.copy(), energy.copy(), share)
