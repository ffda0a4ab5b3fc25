"""How far two runs are apart, step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..errors import UsageError
from ..options import takes
from .arrays import Recorded, as_series
from .scanning import Block, Extent, Needs, ScanOptions, check_series, scan_one
from .tile import Tile, sums_by

_OTHER = "the other run"


@dataclass(frozen=True)
class Divergence:
    """The distance of two runs at the steps that both recorded; each (n,).

    distance: ‖A[t] − B[t]‖ over all entries (Frobenius), float64; entries of equal bits count 0, NaN where others are
    not finite. differing: entries whose bits differ, int64.
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
    """‖W_a[t] − W_b[t]‖_F and the number of entries whose bits differ, at the steps that both runs have.

    One may be longer. Raises UsageError where they recorded other tokens or other steps.
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

    def of_tile(self, tile: Tile) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]] | None:
        """Σ(A − B)² and the entries that differ, in each row."""
        a, b = tile.bits.reshape(len(tile.bits), -1), tile.others[_OTHER].reshape(len(tile.bits), -1)
        differs = a != b
        at = np.flatnonzero(differs)
        if not len(at):
            return None
        gap = bf16.to_float64(a.reshape(-1)[at]) - bf16.to_float64(b.reshape(-1)[at])
        squares = sums_by(at // a.shape[1], gap**2, len(a))
        return squares, np.count_nonzero(differs, axis=1).astype(np.int64)

    def begin(self, extent: Extent) -> "_Distances":
        return _Distances(extent)


class _Distances:
    def __init__(self, extent: Extent) -> None:
        self._steps = extent.steps
        self._squares, self._differing = np.zeros(len(extent.steps)), np.zeros(len(extent.steps), dtype=np.int64)

    def update(
        self, block: Block, parts: Sequence[tuple[Tile, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]]
    ) -> None:
        del block
        for place, (squares, differing) in parts:
            self._squares[place.rows] += squares
            self._differing[place.rows] += differing

    def result(self) -> Divergence:
        return Divergence(self._steps, np.sqrt(self._squares), self._differing)
