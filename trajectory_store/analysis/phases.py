"""Phases of motion: how hot each token is at each step, how they change, and when each was last left.

A scheme sorts a token's move into phases, the coldest first. A token that is not finite counts as the hottest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..options import takes
from .arrays import Recorded
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Slab, SlabPlace


class Scheme(Protocol):
    """Sorts moves into phases."""

    @property
    def names(self) -> tuple[str, ...]:
        """The phases, the coldest first; a row without changes is in the first."""

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        """The phase of each of `slab.changes.movers`."""


@dataclass(frozen=True)
class FiveStates:
    """Sort moves by ‖ΔW′‖₂ in ULPs: frozen < 0.1 ≤ solid < 1 ≤ slush < 10 ≤ liquid < 100 ≤ gas.

    Parameters
    ----------
    thresholds : tuple of float
        Those four limits, increasing.
    """

    thresholds: tuple[float, float, float, float] = (0.1, 1.0, 10.0, 100.0)
    names = ("frozen", "solid", "slush", "liquid", "gas")

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        return np.searchsorted(np.asarray(self.thresholds, dtype=np.float64), slab.norms.l2, side="right").astype(
            np.int8
        )


@dataclass(frozen=True)
class Regimes:
    """Sort moves into frozen, stumbling, spherical, superluminal and hypernova.

    Parameters
    ----------
    stumble : float
        Up to this ‖ΔW′‖₁ in ULPs a move is stumbling; of 0 it is frozen.
    sphere : float or None
        Up to this ‖ΔW′‖₂ in ULPs a longer move is spherical; √D for D dims if None.
    hypernova : float
        Up to this ‖ΔW′‖₂ in ULPs a still longer one is superluminal; above it is a hypernova.
    """

    stumble: float = 1.0
    sphere: float | None = None
    hypernova: float = 1000.0
    names = ("frozen", "stumbling", "spherical", "superluminal", "hypernova")

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        l1, l2 = slab.norms.l1, slab.norms.l2
        sphere = np.sqrt(slab.shape[2]) if self.sphere is None else self.sphere
        conditions = [l1 == 0, l1 <= self.stumble, l2 <= sphere, l2 <= self.hypernova]
        return np.select(conditions, [np.int8(phase) for phase in range(4)], np.int8(4))


@dataclass(frozen=True)
class LatticeOrThermal:
    """Sort moves into frozen, ‖ΔW‖₂ = 0, lattice, up to some cells, and thermal, above.

    Parameters
    ----------
    cells : float
        A move is lattice if ‖ΔW‖₂ ≤ `cells` · mean ULP(W[t−1]) over the token's dims.
    """

    cells: float = 8.0
    names = ("frozen", "lattice", "thermal")

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        changes = slab.changes
        length = np.sqrt(changes.sums(changes.move**2))
        limit = self.cells * bf16.ulp_float64(slab.vectors_before(changes.movers)).mean(axis=1)
        return np.select([length == 0, length <= limit], [np.int8(0), np.int8(1)], np.int8(2))


@dataclass(frozen=True)
class Phases:
    """The phase of every token at every step.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have a step before.
    names : tuple of str
        The phases, the coldest first.
    phase : ndarray of int8, shape (n, tokens)
        Each token's phase, as an index into `names`.
    """

    steps: npt.NDArray[np.int64]
    names: tuple[str, ...]
    phase: npt.NDArray[np.int8]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Tokens in each phase, int64, shape (n, phases)."""
        columns = [np.count_nonzero(self.phase == index, axis=1) for index in range(len(self.names))]
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def fractions(self) -> npt.NDArray[np.float64]:
        """The share of tokens in each phase, float64, shape (n, phases)."""
        fractions: npt.NDArray[np.float64] = self.counts / self.phase.shape[1]
        return fractions

    def first_at_least(self, name: str, share: float) -> int | None:
        """Find the first step at which at least this share of the tokens is in a phase.

        Parameters
        ----------
        name : str
            The phase.
        share : float
            From 0 to 1.

        Returns
        -------
        int or None
            None if there is no such step.
        """
        return self._first(self.fractions[:, self.names.index(name)] >= share)

    def first_at_most(self, name: str, share: float) -> int | None:
        """Find the first step at which at most this share of the tokens is in a phase.

        Parameters
        ----------
        name : str
            The phase.
        share : float
            From 0 to 1.

        Returns
        -------
        int or None
            None if there is no such step.
        """
        return self._first(self.fractions[:, self.names.index(name)] <= share)

    def reheating(self) -> "Reheating":
        """Count which tokens are hotter, colder or as before, step by step.

        Returns
        -------
        Reheating
            For every step but the first of `steps`.
        """
        before, now = self.phase[:-1], self.phase[1:]
        hotter = now > before
        return Reheating(
            self.steps[1:],
            np.count_nonzero(hotter, axis=1),
            np.count_nonzero(now < before, axis=1),
            np.count_nonzero(now == before, axis=1),
            np.count_nonzero(hotter & (before == 0), axis=1),
        )

    def lifecycles(self) -> "Lifecycles":
        """Find when each token was last in each phase or a hotter one.

        Returns
        -------
        Lifecycles
            For every phase but the coldest.
        """
        last = np.zeros((self.phase.shape[1], len(self.names) - 1), dtype=np.int64)
        for row, step in enumerate(self.steps.tolist()):
            phase = self.phase[row]
            if phase.any():
                for index in range(last.shape[1]):
                    last[phase > index, index] = step
        return Lifecycles(self.names[1:], last, int(self.steps[-1]) if len(self.steps) else 0)

    def _first(self, holds: npt.NDArray[np.bool_]) -> int | None:
        return int(self.steps[np.argmax(holds)]) if holds.any() else None


@dataclass(frozen=True)
class Reheating:
    """How many tokens changed their phase since the step before.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those that have two steps before.
    hotter, colder, same : ndarray of int, shape (n,)
        Tokens with phase[t] above, below, or the same as phase[t−1].
    from_frozen : ndarray of int, shape (n,)
        Those of `hotter` that were in the coldest phase.
    """

    steps: npt.NDArray[np.int64]
    hotter: npt.NDArray[np.intp]
    colder: npt.NDArray[np.intp]
    same: npt.NDArray[np.intp]
    from_frozen: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Lifecycles:
    """The last step at which each token was in each phase or a hotter one: it never came back.

    Attributes
    ----------
    names : tuple of str
        The phases but the coldest.
    last_steps : ndarray of int64, shape (tokens, phases)
        0 if it never was.
    n_steps : int
        The last step.
    """

    names: tuple[str, ...]
    last_steps: npt.NDArray[np.int64]
    n_steps: int

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """The share of all tokens × steps between one such step and the next, the frozen rest first; sums to 1."""
        mean = self.last_steps.mean(axis=0) / max(self.n_steps, 1)
        areas: npt.NDArray[np.float64] = -np.diff(np.concatenate([[1.0], mean, [0.0]]))
        return areas


@takes(ScanOptions)
def phases(
    recorded: Recorded, series: str = "W", *, scheme: Scheme | None = None, **options: Unpack[ScanOptions]
) -> Phases:
    """Sort every token's move at every step ≥ 1 into phases.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    scheme : Scheme, optional
        `Regimes()` by default. `FiveStates` and `LatticeOrThermal` are the notebooks' others; each takes its limits as
        arguments.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Phases
        The phase of each token at each step, (n, tokens) int8.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    return scan_one(recorded, PhaseOfMoves(scheme or Regimes()), series=series, **options)


@takes(ScanOptions)
def reheating(
    recorded: Recorded, series: str = "W", *, scheme: Scheme | None = None, **options: Unpack[ScanOptions]
) -> Reheating:
    """Count the tokens that are in a hotter phase than one step before, beside those that cooled or stayed.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    scheme : Scheme, optional
        How moves are sorted; `Regimes()` by default.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Reheating
        For every step ≥ 2.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    return phases(recorded, series, scheme=scheme, **options).reheating()


@takes(ScanOptions)
def lifecycles(
    recorded: Recorded, series: str = "W", *, scheme: Scheme | None = None, **options: Unpack[ScanOptions]
) -> Lifecycles:
    """Find the last step of each token in each phase or a hotter one.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    scheme : Scheme, optional
        How moves are sorted; `Regimes()` by default.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Lifecycles
        For every phase but the coldest.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    return phases(recorded, series, scheme=scheme, **options).lifecycles()


@dataclass(frozen=True)
class PhaseOfMoves:
    """The analysis behind `phases`.

    Parameters
    ----------
    scheme : Scheme
        How moves are sorted.
    """

    scheme: Scheme
    needs = Needs("phases")

    def of_tile(self, slab: Slab) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]] | None:
        return (slab.changes.movers, self.scheme.of_moves(slab)) if len(slab.changes.owner) else None

    def begin(self, extent: Extent) -> "_PhaseMatrix":
        return _PhaseMatrix(extent, self.scheme.names)


class _PhaseMatrix:
    def __init__(self, extent: Extent, names: tuple[str, ...]) -> None:
        self._steps, self._names = extent.steps[1:], names
        self._phase = np.zeros((len(self._steps), extent.n_tokens), dtype=np.int8)

    def update(
        self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]]]]
    ) -> None:
        del block
        for place, (rows, phase) in parts:
            step, token = np.divmod(rows, place.tokens.stop - place.tokens.start)
            self._phase[step + (place.rows.start - 1), token + place.tokens.start] = phase

    def result(self) -> Phases:
        return Phases(self._steps, self._names, self._phase)
