"""Stretches of steps that one point or pixel stands for, fine enough for a linear and a logarithmic axis alike."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]

MAX_COLUMNS = 600
_MIN_COLUMNS = 50
_MAX_CELLS = 1 << 24
"""The most cells of heat while it is gathered: 64 MB of float32."""


@dataclass(frozen=True)
class StepBins:
    """Bin b is the steps [edges[b], edges[b + 1]).

    edges: those of both axes' columns together. linear, log: the edges of equal columns on either axis.
    """

    edges: Steps
    linear: Steps
    log: Steps

    @property
    def n(self) -> int:
        """How many bins there are."""
        return len(self.edges) - 1

    def of(self, steps: Steps) -> npt.NDArray[np.intp]:
        """The bin of each step."""
        return np.searchsorted(self.edges, steps, side="right") - 1

    def columns(self, is_log: bool) -> Steps:
        """The edges of an axis' columns."""
        return self.log if is_log else self.linear


def bins_of(first: int, last: int, *, n_tokens: int = 1) -> StepBins:
    """Bins for the steps first … last. There are fewer if there are many tokens, because each bin has a value of
    each."""
    n = int(np.clip(_MAX_CELLS // (2 * max(n_tokens, 1)), _MIN_COLUMNS, MAX_COLUMNS))
    linear = np.unique(np.rint(np.linspace(first, last + 1, n + 1)).astype(np.int64))
    start = max(first, 1)
    log = np.unique(np.rint(np.geomspace(start, max(last + 1, start), n + 1)).astype(np.int64))
    log = np.union1d(log, [first, last + 1])
    return StepBins(np.union1d(linear, log), linear, log)


@dataclass(frozen=True)
class Binned:
    """A curve by bin: the mean step of each that holds any, and the mean, least and largest of its values."""

    steps: Values
    mean: Values
    low: Values
    high: Values


def binned(edges: Steps, steps: Steps, values: npt.NDArray[np.floating]) -> Binned:
    """Summarise a curve, one value at each of some increasing steps, between edges. A bin that holds a NaN is NaN."""
    if not len(steps):
        nothing = np.empty(0)
        return Binned(nothing, nothing, nothing, nothing)
    wide = values.astype(np.float64)
    wide[~np.isfinite(wide)] = np.nan
    index = np.searchsorted(edges, steps, side="right")
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    counts = np.diff(np.append(starts, len(index)))
    return Binned(
        np.add.reduceat(steps.astype(np.float64), starts) / counts,
        np.add.reduceat(wide, starts) / counts,
        np.minimum.reduceat(wide, starts),
        np.maximum.reduceat(wide, starts),
    )
