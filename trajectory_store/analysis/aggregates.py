"""All tokens' moves in one line a step: how many rest, and how far they go on average."""

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
class Aggregates:
    """Shares and means over all tokens.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    frozen : ndarray of float64, shape (n,)
        The share of tokens with ‖ΔW′‖₁ = 0.
    within_one : ndarray of float64, shape (n,)
        The share of tokens with ‖ΔW′‖∞ ≤ 1 ULP, the frozen ones among them.
    l1, l2, linf : ndarray of float64, shape (n,)
        The mean norms in ULPs, NaN if an entry is not finite.
    """

    steps: npt.NDArray[np.int64]
    frozen: npt.NDArray[np.float64]
    within_one: npt.NDArray[np.float64]
    l1: npt.NDArray[np.float64]
    l2: npt.NDArray[np.float64]
    linf: npt.NDArray[np.float64]


@takes(ScanOptions)
def aggregates(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Aggregates:
    """Average the tokens' moves at each step.

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
    Aggregates
        The shares of tokens with ‖ΔW′‖₁ = 0 and with ‖ΔW′‖∞ ≤ 1, and the means of ‖ΔW′‖₁, ‖ΔW′‖₂ and ‖ΔW′‖∞.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.

    Notes
    -----
    Memory does not grow with steps × tokens, as that of `displacement` does.
    """
    return scan_one(recorded, MoveAggregates(), series=series, **options)


@dataclass(frozen=True)
class MoveAggregates:
    """The analysis behind `aggregates`."""

    needs = Needs("aggregates")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.float64] | None:
        """(rows, 5): tokens not frozen, tokens beyond one ULP, Σ‖ΔW′‖₁, Σ‖ΔW′‖₂, Σ‖ΔW′‖∞."""
        if not len(slab.changes.owner):
            return None
        n, k, _ = slab.shape
        norms, row = slab.norms, slab.changes.movers // k
        # Not "> 0": a token that is not finite is neither frozen nor within one.
        columns = [norms.l1 != 0, ~(norms.linf <= 1), norms.l1, norms.l2, norms.linf]
        return np.stack([sums_by(row, column, n) for column in columns], axis=1)

    def begin(self, extent: Extent) -> RowSums[Aggregates]:
        return RowSums(extent, 5, _aggregates)


def _aggregates(extent: Extent, sums: npt.NDArray[np.float64]) -> Aggregates:
    moving, beyond, l1, l2, linf = sums[1:].T / max(extent.n_tokens, 1)
    return Aggregates(extent.steps[1:], 1 - moving, 1 - beyond, l1.copy(), l2.copy(), linf.copy())
