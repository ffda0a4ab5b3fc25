"""How far each token moved at each step, in ULPs of where it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import Recorded
from .scanning import Block, Extent, Needs, scan
from .tile import Norms, Tile


@dataclass(frozen=True)
class Displacement:
    """‖ΔW′‖₁, ‖ΔW′‖₂, ‖ΔW′‖∞ of every token at every step that has a step before; row r is step `steps[r]`.

    steps: (n,) int64. l1, l2, linf: (n, tokens) float32.
    """

    steps: npt.NDArray[np.int64]
    l1: npt.NDArray[np.float32]
    l2: npt.NDArray[np.float32]
    linf: npt.NDArray[np.float32]


def displacement(recorded: Recorded, series: str = "W", **how: Any) -> Displacement:
    """The norms of ΔW′[t] = (W[t] − W[t−1]) / ULP(W[t−1]) over the dims: Σ|ΔW′|, √ΣΔW′², max|ΔW′|, steps ≥ 1.

    Sums are taken in float64 and rounded once to float32, saturating at its largest finite value; NaN where an entry
    of the token is not finite at t or t−1. Memory that no token's move touched is not taken up: a run that froze
    early is far below 12 bytes a token and step. `how`: threads and executor, as for `scan`.
    """
    result: Displacement = scan(recorded, [DisplacementNorms()], series=series, **how)[0]
    return result


@dataclass(frozen=True)
class DisplacementNorms:
    """The analysis behind `displacement`."""

    needs = Needs("displacement")

    def of_tile(self, tile: Tile) -> tuple[npt.NDArray[np.intp], Norms] | None:
        return (tile.changes.rows, tile.norms) if len(tile.changes.row) else None

    def begin(self, extent: Extent) -> "_Gathered":
        return _Gathered(extent)


class _Gathered:
    def __init__(self, extent: Extent) -> None:
        self._steps = extent.steps[1:]
        # Pages of zeros that nothing is written to are never taken from the system.
        shape = (len(self._steps), extent.n_tokens)
        self._l1, self._l2, self._linf = (np.zeros(shape, dtype=np.float32) for _ in range(3))

    def update(self, block: Block, parts: Sequence[tuple[Tile, tuple[npt.NDArray[np.intp], Norms]]]) -> None:
        del block
        n_tokens = self._l1.shape[1]
        for place, (rows, norms) in parts:
            width = place.tokens.stop - place.tokens.start
            step, token = np.divmod(rows, width)
            at = (step + (place.rows.start - 1)) * n_tokens + (token + place.tokens.start)
            for whole, part in ((self._l1, norms.l1), (self._l2, norms.l2), (self._linf, norms.linf)):
                whole.reshape(-1)[at] = part

    def result(self) -> Displacement:
        return Displacement(self._steps, self._l1, self._l2, self._linf)
