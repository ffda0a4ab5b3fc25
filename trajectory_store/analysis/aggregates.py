"""All tokens' moves in one line a step: how many rest, and how far they go on average."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from ..options import takes
from .arrays import Recorded
from .scanning import Block, Extent, Needs, ScanOptions, scan_one
from .tile import Tile, sums_by


@dataclass(frozen=True)
class Aggregates:
    """Shares and means over all tokens at every step that has a step before; each (n,), float64.

    frozen: the share with ‖ΔW′‖₁ = 0, within_one: with ‖ΔW′‖∞ ≤ 1 ULP, the frozen ones among them. l1, l2, linf: the
    mean norms in ULPs, NaN where an entry is not finite.
    """

    steps: npt.NDArray[np.int64]
    frozen: npt.NDArray[np.float64]
    within_one: npt.NDArray[np.float64]
    l1: npt.NDArray[np.float64]
    l2: npt.NDArray[np.float64]
    linf: npt.NDArray[np.float64]


@takes(ScanOptions)
def aggregates(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Aggregates:
    """The shares with ‖ΔW′‖₁ = 0 and ‖ΔW′‖∞ ≤ 1, and the means of ‖ΔW′‖₁, ‖ΔW′‖₂ and ‖ΔW′‖∞ over the tokens.

    Memory does not grow with steps × tokens, as that of `displacement` does.
    """
    return scan_one(recorded, MoveAggregates(), series=series, **options)


@dataclass(frozen=True)
class MoveAggregates:
    """The analysis behind `aggregates`."""

    needs = Needs("aggregates")

    def of_tile(self, tile: Tile) -> npt.NDArray[np.float64] | None:
        """(rows, 5): tokens not frozen, tokens beyond one ULP, Σ‖ΔW′‖₁, Σ‖ΔW′‖₂, Σ‖ΔW′‖∞."""
        if not len(tile.changes.row):
            return None
        n, k, _ = tile.shape
        norms, row = tile.norms, tile.changes.rows // k
        # Not "> 0": a token that is not finite is neither frozen nor within one.
        columns = [norms.l1 != 0, ~(norms.linf <= 1), norms.l1, norms.l2, norms.linf]
        return np.stack([sums_by(row, column, n) for column in columns], axis=1)

    def begin(self, extent: Extent) -> "_Means":
        return _Means(extent)


class _Means:
    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._sums = np.zeros((len(extent.steps), 5))

    def update(self, block: Block, parts: Sequence[tuple[Tile, npt.NDArray[np.float64]]]) -> None:
        del block
        for place, sums in parts:
            self._sums[place.rows] += sums

    def result(self) -> Aggregates:
        moving, beyond, l1, l2, linf = self._sums[1:].T / max(self._extent.n_tokens, 1)
        return Aggregates(self._extent.steps[1:], 1 - moving, 1 - beyond, l1.copy(), l2.copy(), linf.copy())
