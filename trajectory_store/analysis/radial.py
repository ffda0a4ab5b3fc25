"""Outwards or inwards: each move seen from the origin."""

from dataclasses import dataclass
from typing import Unpack

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
    """Tokens that move away from the origin, towards it, and not at all.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    outward, inward : ndarray of int64, shape (n,)
        Tokens whose ‖W‖₂ grew or shrank.
    still : ndarray of int64, shape (n,)
        Tokens whose length did not change, or that are not finite.
    share : ndarray of float64, shape (n,)
        The mean over the movers of the radial part of the move, ΔW·r̂ / ‖ΔW‖₂ with r̂ = W[t−1] / ‖W[t−1]‖₂; NaN if none
        moved.
    """

    steps: npt.NDArray[np.int64]
    outward: npt.NDArray[np.int64]
    inward: npt.NDArray[np.int64]
    still: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]


@takes(ScanOptions)
def radial(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Radial:
    """See each move from the origin: outwards or inwards, at steps ≥ 1.

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
    Radial
        The signs of Δr = ‖W[t]‖₂ − ‖W[t−1]‖₂, and the mean of ΔW·r̂ / ‖ΔW‖₂.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    return scan_one(recorded, RadialMotion(), series=series, **options)


@dataclass(frozen=True)
class RadialMotion:
    """The analysis behind `radial`."""

    needs = Needs("radial motion")

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
