"""Outwards or inwards: each move seen from the origin."""

from dataclasses import dataclass
from typing import ClassVar, Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..options import takes
from .arrays import Recorded
from .cloud import cosine
from .row_sums import RowSums
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Slab, sums_by


@dataclass(frozen=True)
class Radial:
    """Tokens that move away from the origin, towards it, and not at all, at every step ≥ 1; each (n,).

    outward, inward: tokens whose ‖W‖₂ grew or shrank, int64; still: those whose bits did not change or whose length
    did not. share: the mean over the movers of the radial part of the move, ΔW·r̂ / ‖ΔW‖₂ with r̂ = W[t−1] / ‖W[t−1]‖₂,
    float64, NaN where none moved.
    """

    steps: npt.NDArray[np.int64]
    outward: npt.NDArray[np.int64]
    inward: npt.NDArray[np.int64]
    still: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]


@takes(ScanOptions)
def radial(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Radial:
    """Radial and tangential motion: the sign of Δr = ‖W[t]‖₂ − ‖W[t−1]‖₂, and ΔW·r̂ / ‖ΔW‖₂, steps ≥ 1.

    Tokens that are not finite count as still.
    """
    return scan_one(recorded, RadialMotion(), series=series, **options)


@dataclass(frozen=True)
class RadialMotion:
    """The analysis behind `radial`."""

    needs: ClassVar[Needs] = Needs("radial motion")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.float64] | None:
        """(rows, 4): outward, inward, tokens with a radial share, their sum of it."""
        changes, (n, k, _) = slab.changes, slab.shape
        if not len(changes.owner):
            return None
        before = bf16.to_float64(slab.vectors_before(changes.movers))
        after = bf16.to_float64(slab.vectors_at(changes.movers))
        growth = np.linalg.norm(after, axis=1) - np.linalg.norm(before, axis=1)
        share = cosine(after - before, before)
        has_share = ~np.isnan(share)
        row = changes.movers // k
        weights = (growth > 0, growth < 0, has_share, np.where(has_share, share, 0.0))
        return np.stack([sums_by(row, each, n) for each in weights], axis=1)

    def begin(self, extent: Extent) -> RowSums[Radial]:
        return RowSums(extent, 4, _radial)


def _radial(extent: Extent, sums: npt.NDArray[np.float64]) -> Radial:
    outward, inward, n, total = sums[1:].T
    share = np.full(len(n), np.nan)
    np.divide(total, n, out=share, where=n > 0)
    still = extent.n_tokens - outward - inward
    return Radial(extent.steps[1:], outward.astype(np.int64), inward.astype(np.int64), still.astype(np.int64), share)
