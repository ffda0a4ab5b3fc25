"""How far each token moved at each step, in ULPs of where it was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from ..options import takes
from .arrays import Recorded
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Norms, Slab, SlabPlace


@dataclass(frozen=True)
class _BlockNorms:
    """The norms of those tokens of some rows that moved; at: their index into (rows × tokens), int32."""

    rows: slice
    at: npt.NDArray[np.int32]
    norms: Norms


@dataclass(frozen=True)
class Displacement:
    """How far every token moved at every step, in ULPs of where it was.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    n_tokens : int
        Tokens.

    Notes
    -----
    `l1`, `l2` and `linf` are (n, tokens) float32, and made anew whenever they are asked for. What is held is 16 bytes
    for each token and step that moved, a tenth of the three arrays in a run that mostly stands still.
    """

    steps: npt.NDArray[np.int64]
    n_tokens: int
    _moves: tuple[_BlockNorms, ...]

    @property
    def l1(self) -> npt.NDArray[np.float32]:
        """‖ΔW′‖₁ = Σ|ΔW′|, float32, shape (n, tokens)."""
        return self._dense(lambda norms: norms.l1)

    @property
    def l2(self) -> npt.NDArray[np.float32]:
        """‖ΔW′‖₂ = √ΣΔW′², float32, shape (n, tokens)."""
        return self._dense(lambda norms: norms.l2)

    @property
    def linf(self) -> npt.NDArray[np.float32]:
        """‖ΔW′‖∞ = max|ΔW′|, float32, shape (n, tokens)."""
        return self._dense(lambda norms: norms.linf)

    def _dense(self, norm: Callable[[Norms], npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        whole = np.zeros((len(self.steps), self.n_tokens), dtype=np.float32)
        for moves in self._moves:
            whole[moves.rows].reshape(-1)[moves.at] = norm(moves.norms)
        return whole


@takes(ScanOptions)
def displacement(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Displacement:
    """Measure how far each token moved at each step, in ULPs of where it was.

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
    Displacement
        The norms Σ|ΔW′|, √ΣΔW′² and max|ΔW′| over the dims, with ΔW′[t] = (W[t] − W[t−1]) / ULP(W[t−1]), at steps ≥ 1.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.

    Notes
    -----
    Sums are taken in float64 and rounded once to float32; a value beyond float32's range becomes its largest finite
    one. A norm is NaN if an entry of the token is not finite at t or t−1.

    Examples
    --------
    >>> bits = np.array([[[1], [5]], [[2], [5]], [[2], [5]]], dtype=np.uint16)  # 3 steps, 2 tokens, 1 dim
    >>> analysis.displacement(bits).l1
    array([[1., 0.],
           [0., 0.]], dtype=float32)
    """
    return scan_one(recorded, DisplacementNorms(), series=series, **options)


@dataclass(frozen=True)
class DisplacementNorms:
    """The analysis behind `displacement`."""

    needs = Needs("displacement")

    def of_tile(self, slab: Slab) -> tuple[npt.NDArray[np.intp], Norms] | None:
        return (slab.changes.movers, slab.norms) if len(slab.changes.owner) else None

    def begin(self, extent: Extent) -> "_NormsByBlock":
        return _NormsByBlock(extent)


class _NormsByBlock:
    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._moves: list[_BlockNorms] = []

    def update(
        self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, tuple[npt.NDArray[np.intp], Norms]]]
    ) -> None:
        if not parts:
            return
        n_tokens, first = self._extent.n_tokens, max(block.rows.start, 1)
        at = []
        for place, (rows, _) in parts:
            step, token = np.divmod(rows, place.tokens.stop - place.tokens.start)
            at.append(((step + (place.rows.start - first)) * n_tokens + (token + place.tokens.start)).astype(np.int32))
        l1, l2, linf = (
            np.concatenate([getattr(norms, name) for _, (_, norms) in parts]) for name in ("l1", "l2", "linf")
        )
        self._moves.append(_BlockNorms(slice(first - 1, block.rows.stop - 1), np.concatenate(at), Norms(l1, l2, linf)))

    def result(self) -> Displacement:
        return Displacement(self._extent.steps[1:], self._extent.n_tokens, tuple(self._moves))
