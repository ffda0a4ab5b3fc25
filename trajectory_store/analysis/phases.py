"""Phases of motion: how hot each token is at each step, how they change, and when each was last left.

A scheme sorts a token's move into phases, the coldest first. A token that is not finite counts as the hottest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..options import takes
from .arrays import Recorded
from .scanning import Extent, Needs, ScannedBlock, ScanOptions, scan_one
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
    """By ‖ΔW′‖₂ in ULPs: frozen < 0.1 ≤ solid < 1 ≤ slush < 10 ≤ liquid < 100 ≤ gas."""

    thresholds: tuple[float, float, float, float] = (0.1, 1.0, 10.0, 100.0)
    names: ClassVar[tuple[str, ...]] = ("frozen", "solid", "slush", "liquid", "gas")

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        return np.searchsorted(np.asarray(self.thresholds, dtype=np.float64), slab.norms.l2, side="right").astype(
            np.int8
        )


@dataclass(frozen=True)
class Regimes:
    """frozen ‖ΔW′‖₁ = 0, stumbling ‖ΔW′‖₁ ≤ 1, spherical ‖ΔW′‖₂ ≤ √D, superluminal ‖ΔW′‖₂ ≤ 1000, hypernova above.

    `stumble` and `hypernova` are the limits of 1 and 1000 ULPs, `sphere` stands for √D where it is given.
    """

    stumble: float = 1.0
    sphere: float | None = None
    hypernova: float = 1000.0
    names: ClassVar[tuple[str, ...]] = ("frozen", "stumbling", "spherical", "superluminal", "hypernova")

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        l1, l2 = slab.norms.l1, slab.norms.l2
        sphere = np.sqrt(slab.shape[2]) if self.sphere is None else self.sphere
        conditions = [l1 == 0, l1 <= self.stumble, l2 <= sphere, l2 <= self.hypernova]
        return np.select(conditions, [np.int8(phase) for phase in range(4)], np.int8(4))


@dataclass(frozen=True)
class LatticeOrThermal:
    """frozen ‖ΔW‖₂ = 0, lattice ‖ΔW‖₂ ≤ 8 · mean ULP(W[t−1]) over the token's dims, thermal above; `cells` is the 8."""

    cells: float = 8.0
    names: ClassVar[tuple[str, ...]] = ("frozen", "lattice", "thermal")

    def of_moves(self, slab: Slab) -> npt.NDArray[np.int8]:
        changes = slab.changes
        length = np.sqrt(changes.sums(changes.move**2))
        limit = self.cells * bf16.ulp_float64(slab.vectors_before(changes.movers)).mean(axis=1)
        return np.select([length == 0, length <= limit], [np.int8(0), np.int8(1)], np.int8(2))


@dataclass(frozen=True)
class Phases:
    """The phase of every token at every step that has a step before.

    steps: (n,) int64. names: the phases, the coldest first. phase: (n, tokens) int8, an index into `names`.
    """

    steps: npt.NDArray[np.int64]
    names: tuple[str, ...]
    phase: npt.NDArray[np.int8]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Tokens in each phase, (n, phases)."""
        columns = [np.count_nonzero(self.phase == index, axis=1) for index in range(len(self.names))]
        return np.stack(columns, axis=1).astype(np.int64)

    @property
    def fractions(self) -> npt.NDArray[np.float64]:
        """The share of tokens in each phase, (n, phases)."""
        fractions: npt.NDArray[np.float64] = self.counts / self.phase.shape[1]
        return fractions

    def first_at_least(self, name: str, share: float) -> int | None:
        """The first step at which at least this share of the tokens is in a phase."""
        return self._first(self.fractions[:, self.names.index(name)] >= share)

    def first_at_most(self, name: str, share: float) -> int | None:
        """The first step at which at most this share of the tokens is in a phase."""
        return self._first(self.fractions[:, self.names.index(name)] <= share)

    def reheating(self) -> "Reheating":
        """Which tokens are hotter, colder or as before, step by step."""
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
        """When each token was last in each phase or a hotter one."""
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
    """How many tokens changed their phase since the step before; each (n,) int64.

    hotter, colder, same: tokens whose phase[t] is above, below, or phase[t−1]. from_frozen: those of `hotter` that
    were in the coldest phase.
    """

    steps: npt.NDArray[np.int64]
    hotter: npt.NDArray[np.intp]
    colder: npt.NDArray[np.intp]
    same: npt.NDArray[np.intp]
    from_frozen: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Lifecycles:
    """The last step at which each token was in each phase or a hotter one: no way back from there.

    names: the phases but the coldest. last_steps: (tokens, phases) int64, 0 where it never was. n_steps: the last step.
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
    """Sort every token's move at every step ≥ 1 into phases, by `Regimes` unless another scheme is given.

    `FiveStates` and `LatticeOrThermal` are the notebooks' others; all take their thresholds as arguments.
    """
    return scan_one(recorded, PhaseOfMoves(scheme or Regimes()), series=series, **options)


@takes(ScanOptions)
def reheating(
    recorded: Recorded, series: str = "W", *, scheme: Scheme | None = None, **options: Unpack[ScanOptions]
) -> Reheating:
    """Reheating: tokens with phase[t] hotter than phase[t−1], beside those that cooled and that stayed."""
    return phases(recorded, series, scheme=scheme, **options).reheating()


@takes(ScanOptions)
def lifecycles(
    recorded: Recorded, series: str = "W", *, scheme: Scheme | None = None, **options: Unpack[ScanOptions]
) -> Lifecycles:
    """Lifecycles without backsies: the last step of each token in each phase or a hotter one."""
    return phases(recorded, series, scheme=scheme, **options).lifecycles()


@dataclass(frozen=True)
class PhaseOfMoves:
    """The analysis behind `phases`."""

    scheme: Scheme
    needs: ClassVar[Needs] = Needs("phases")

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
