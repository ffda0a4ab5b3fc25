"""Adam's phase space: is an update long enough to hop to the next weight that bfloat16 has?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..options import takes
from .adam import hyperparameters
from .arrays import Recorded
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Slab, SlabPlace

Ratios = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""(rows, tokens × dim) the ratio of each entry, and (rows,) the entries that hopped."""


@dataclass(frozen=True)
class PhaseSpace:
    """Where the entries lie beside the line on which Adam's update is one ULP long.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    n_entries : int
        Entries of one step, tokens × dims.
    median : ndarray of float32, shape (n,)
        The median over all entries of |m| η / (ULP(W[t−1]) (√v + ε)); NaN if one is not finite.
    beyond : ndarray of int64, shape (n,)
        Entries with such a ratio above 1.
    hopped : ndarray of int64, shape (n,)
        Entries whose bits differ from the step before.
    """

    steps: npt.NDArray[np.int64]
    n_entries: int
    median: npt.NDArray[np.float32]
    beyond: npt.NDArray[np.int64]
    hopped: npt.NDArray[np.int64]


@takes(ScanOptions)
def phase_space(
    recorded: Recorded,
    series: str = "W",
    *,
    m: str = "m",
    v: str = "v",
    learning_rate: float | None = None,
    epsilon: float | None = None,
    **options: Unpack[ScanOptions],
) -> PhaseSpace:
    """Ask of each entry whether its update reaches the next weight that bfloat16 has, at steps t ≥ 1.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the weights and Adam's states, so a run or a sink.
    series : str
        The weights, (step, token, dim) of bfloat16 or its bits.
    m, v : str
        The series of Adam's first and second moment after update t; they are taken without bias correction.
    learning_rate, epsilon : float, optional
        The hyperparameters η and ε. By default they are the run's attributes of the same names, or those within its
        attribute `config`.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    PhaseSpace
        The update in ULPs of the weight, |m| η / (ULP(W[t−1]) (√v + ε)), reduced at each step.

    Raises
    ------
    UsageError
        A state or a hyperparameter is missing, or a hyperparameter is no number.

    Notes
    -----
    Memory: float32 for each entry of one block.
    """
    return scan_one(recorded, updates_of(recorded, m, v, learning_rate, epsilon), series=series, **options)


def updates_of(
    recorded: Recorded, m: str = "m", v: str = "v", learning_rate: float | None = None, epsilon: float | None = None
) -> "UpdatesInCells":
    """The analysis behind `phase_space`, with the run's own hyperparameters for those not given."""
    given = {"learning_rate": learning_rate, "epsilon": epsilon}
    return UpdatesInCells(m, v, **hyperparameters(recorded, given, "phase space"))


@dataclass(frozen=True)
class UpdatesInCells:
    """The analysis behind `phase_space`.

    Parameters
    ----------
    m, v : str
        The series of Adam's first and second moment.
    learning_rate, epsilon : float
        The hyperparameters.
    """

    m: str
    v: str
    learning_rate: float
    epsilon: float

    @property
    def needs(self) -> Needs:
        """The optimizer's two states beside the weights."""
        return Needs("phase space", series=(self.m, self.v))

    def of_tile(self, slab: Slab) -> Ratios:
        ratio = np.full(slab.shape, np.nan, dtype=np.float32)
        hopped = np.zeros(len(slab.bits), dtype=np.int64)
        for row in range(len(slab.bits)):
            before = slab.bits[row - 1] if row else slab.before
            if before is not None:
                m, v = (slab.others[name][row].astype(np.float64) for name in (self.m, self.v))
                with np.errstate(all="ignore"):  # what is not finite stays so
                    cell = bf16.ulp_float64(before) * (np.sqrt(v) + self.epsilon)
                    ratio[row] = np.abs(m) * self.learning_rate / cell
                hopped[row] = np.count_nonzero(slab.bits[row] != before)
        return ratio.reshape(len(ratio), -1), hopped

    def begin(self, extent: Extent) -> "_Medians":
        return _Medians(extent)


class _Medians:
    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        n = len(extent.steps)
        self._median = np.full(n, np.nan, dtype=np.float32)
        self._beyond, self._hopped = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, Ratios]]) -> None:
        first = block.rows.start
        by_row: list[list[npt.NDArray[np.float32]]] = [[] for _ in block.steps]
        for place, (ratio, hopped) in parts:
            self._hopped[place.rows] += hopped
            self._beyond[place.rows] += np.count_nonzero(ratio > 1, axis=1)
            for row, values in zip(range(place.rows.start, place.rows.stop), ratio, strict=True):
                by_row[row - first].append(values)
        for at, values in enumerate(by_row):
            self._median[first + at] = np.median(np.concatenate(values))

    def result(self) -> PhaseSpace:
        n_entries = self._extent.n_tokens * self._extent.dim
        return PhaseSpace(self._extent.steps[1:], n_entries, self._median[1:], self._beyond[1:], self._hopped[1:])
