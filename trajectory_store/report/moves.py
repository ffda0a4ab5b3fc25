"""What the figures need of every token's moves, reduced during the pass: never a value for each step and token.

`analysis` has the freeze onset and the cloud. Beside them one analysis gathers the heat of each token by bins of steps,
the tokens in each phase by step, and the moves of each token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..analysis.phases import Regimes
from ..analysis.scanned_block import ScannedBlock
from ..analysis.scanning import Extent, Needs
from ..analysis.slab import Slab, SlabPlace, sums_by
from .bins import StepBins

HEAT_LIMIT = 1000.0
"""The most ULPs of one move that count as heat. A weight near zero moves by millions, which would hide the rest."""


@dataclass(frozen=True)
class Motion:
    """What every token's moves add up to.

    heat: (bins, tokens) float32, Σ min(‖ΔW′‖₂, 1000) over each bin's steps, NaN if an entry was not finite. phases:
    (n, phases) int64, the tokens in each phase at every step that has a step before. moves: (tokens,) int64, at how
    many steps each moved.
    """

    heat: npt.NDArray[np.float32]
    phases: npt.NDArray[np.int64]
    moves: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Part:
    first_bin: int
    heat: npt.NDArray[np.float64]
    phases: npt.NDArray[np.intp]
    moves: npt.NDArray[np.intp]


@dataclass(frozen=True)
class MotionOf:
    """The analysis that gathers `Motion`."""

    bins: StepBins
    scheme: Regimes
    needs = Needs("the report")

    def of_tile(self, slab: Slab) -> _Part | None:
        changed = slab.changes.movers
        if not len(changed):
            return None
        n, k, _ = slab.shape
        n_phases = len(self.scheme.names)
        row, token = np.divmod(changed, k)
        bin_of_row = self.bins.of(slab.steps)
        first = max(int(bin_of_row[0]), 0)  # the series' first step has no move, and no bin
        n_bins = int(bin_of_row[-1]) - first + 1
        lengths = np.minimum(slab.norms.l2, HEAT_LIMIT).astype(np.float64)
        heat = sums_by((bin_of_row[row] - first) * k + token, lengths, n_bins * k)
        phases = np.bincount(row * n_phases + self.scheme.of_moves(slab), minlength=n * n_phases)
        return _Part(first, heat.reshape(n_bins, k), phases.reshape(n, n_phases), np.bincount(token, minlength=k))

    def begin(self, extent: Extent) -> "_MotionSums":
        return _MotionSums(extent, self.bins, len(self.scheme.names))


class _MotionSums:
    def __init__(self, extent: Extent, bins: StepBins, n_phases: int) -> None:
        self._n_tokens = extent.n_tokens
        self._heat = np.zeros((bins.n, extent.n_tokens), dtype=np.float32)
        self._phases = np.zeros((len(extent.steps), n_phases), dtype=np.int64)
        self._moves = np.zeros(extent.n_tokens, dtype=np.int64)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, _Part]]) -> None:
        del block
        for place, part in parts:
            self._heat[part.first_bin : part.first_bin + len(part.heat), place.tokens] += part.heat
            self._phases[place.rows] += part.phases
            self._moves[place.tokens] += part.moves

    def result(self) -> Motion:
        phases = self._phases[1:]
        phases[:, 0] += self._n_tokens - phases.sum(axis=1)
        return Motion(self._heat, phases, self._moves)
