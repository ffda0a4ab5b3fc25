"""Does the cloud move as one? Each token's move beside the centre's, and beside its own move before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from ..options import takes
from .arrays import Recorded
from .cloud import cosine, lengths
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan_one
from .slab import Slab, SlabPlace, sums_by

Cosines = tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]
"""(row of the series, cosine) of each token that has one."""


@dataclass(frozen=True)
class Alignment:
    """The distribution of one cosine over the tokens that have it.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Those at which a token can have it.
    tokens : ndarray of int64, shape (n,)
        How many tokens have it.
    mean, median : ndarray of float64, shape (n,)
        NaN if no token has it.
    """

    steps: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    median: npt.NDArray[np.float64]


@takes(ScanOptions)
def bulk(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Alignment:
    """Compare each token's move with the move of the centre, at steps ≥ 1.

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
    Alignment
        The bulk correlation ρ = cos(ΔW_i[t], ΔC[t]) over the tokens i that moved, with ΔC = mean_i ΔW_i.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.

    Notes
    -----
    ρ is 1 if all tokens move alike, and near 0 if each goes its own way. A token that is not finite has none, and no
    token has one at a step at which the centre stands still.
    """
    return scan_one(recorded, BulkCorrelation(), series=series, **options)


@takes(ScanOptions)
def velocity(recorded: Recorded, series: str = "W", **options: Unpack[ScanOptions]) -> Alignment:
    """Compare each token's move with its own move one step before, at steps ≥ 2.

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
    Alignment
        cos(ΔW_i[t−1], ΔW_i[t]) over the tokens i that moved at both steps: 1 if a token goes on in its direction, −1 if
        it turns back.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or was not recorded at every step.
    """
    return scan_one(recorded, VelocityCosine(), series=series, **options)


class _Alignments:
    """Collects the cosines of a block and keeps their distribution a step."""

    def __init__(self, extent: Extent, first_row: int) -> None:
        n = len(extent.steps)
        self._steps, self._first_row = extent.steps, first_row
        self._tokens = np.zeros(n, dtype=np.int64)
        self._mean, self._median = np.full(n, np.nan), np.full(n, np.nan)

    def add(self, found: Sequence[Cosines]) -> None:
        if not found:
            return
        row, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
        has_one = ~np.isnan(value)
        row, value = row[has_one], value[has_one]
        order = np.argsort(row, kind="stable")
        rows, starts = np.unique(row[order], return_index=True)
        for at, values in zip(rows.tolist(), np.split(value[order], starts[1:]), strict=False):
            self._tokens[at], self._mean[at], self._median[at] = len(values), values.mean(), np.median(values)

    def result(self) -> Alignment:
        first = self._first_row
        return Alignment(self._steps[first:], self._tokens[first:], self._mean[first:], self._median[first:])


@dataclass(frozen=True)
class BulkCorrelation:
    """The analysis behind `bulk`."""

    needs = Needs("bulk correlation")

    def of_tile(self, slab: Slab) -> npt.NDArray[np.float64] | None:
        """Σ ΔW over the tokens, (rows, dim)."""
        changes, (n, k, dim) = slab.changes, slab.shape
        if not len(changes.owner):
            return None
        at = changes.owner // k * dim + changes.column
        return sums_by(at, changes.move, n * dim).reshape(n, dim)

    def begin(self, extent: Extent) -> "_Bulk":
        return _Bulk(extent)


class _Bulk:
    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._alignments = _Alignments(extent, first_row=1)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, npt.NDArray[np.float64]]]) -> None:
        total = np.zeros((len(block.steps), self._extent.dim))
        first = block.rows.start
        for place, sums in parts:
            total[place.rows.start - first : place.rows.stop - first] += sums
        if parts:
            found = block.map(_AlongCentre(first, total / self._extent.n_tokens))
            self._alignments.add([(rows, values) for _, (rows, values) in found])

    def result(self) -> Alignment:
        return self._alignments.result()


@dataclass(frozen=True)
class _AlongCentre:
    first_row: int
    centre_move: npt.NDArray[np.float64]

    def __call__(self, slab: Slab) -> Cosines:
        changes, k = slab.changes, slab.shape[1]
        move = self.centre_move[slab.rows.start - self.first_row : slab.rows.stop - self.first_row]
        along = changes.sums(changes.move * move[changes.owner // k, changes.column])
        row = changes.movers // k
        product = np.sqrt(changes.sums(changes.move**2)) * lengths(move)[row]
        cosines = np.full(len(row), np.nan)
        np.divide(along, product, out=cosines, where=product > 0)
        return row + slab.rows.start, cosines


@dataclass(frozen=True)
class _SlabCosines:
    """What a slab says about successive moves: the cosines within it, and its first and last row's moves."""

    cosines: Cosines
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]


@dataclass(frozen=True)
class VelocityCosine:
    """The analysis behind `velocity`."""

    needs = Needs("velocity")

    def of_tile(self, slab: Slab) -> _SlabCosines | None:
        changes, (n, k, dim) = slab.changes, slab.shape
        if not len(changes.owner):
            return None
        # One dense vector for each row × token that moved; the others point to a last one of zeros.
        vectors = np.zeros((len(changes.movers) + 1, dim))
        n_entries = np.diff(np.append(changes.starts, len(changes.owner)))
        vectors[np.repeat(np.arange(len(changes.movers)), n_entries), changes.column] = changes.move
        vector_of = np.full(n * k, len(changes.movers))
        vector_of[changes.movers] = np.arange(len(changes.movers))
        both = changes.movers[k <= changes.movers]
        both = both[vector_of[both - k] < len(changes.movers)]
        values = cosine(vectors[vector_of[both - k]], vectors[vector_of[both]])
        cosines = both // k + slab.rows.start, values
        return _SlabCosines(cosines, vectors[vector_of[:k]], vectors[vector_of[-k:]])

    def begin(self, extent: Extent) -> "_Successions":
        return _Successions(extent)


class _Successions:
    def __init__(self, extent: Extent) -> None:
        self._alignments = _Alignments(extent, first_row=2)
        self._last: dict[int, tuple[int, npt.NDArray[np.float64]]] = {}  # first token of a tile → (next row, moves)

    def update(self, block: ScannedBlock, parts: Sequence[tuple[SlabPlace, _SlabCosines]]) -> None:
        del block
        found: list[Cosines] = []
        for place, moves in parts:
            next_row, last = self._last.get(place.tokens.start, (-1, moves.first))
            if next_row == place.rows.start:
                values = cosine(last, moves.first)
                found.append((np.full(len(values), next_row), values))
            found.append(moves.cosines)
            self._last[place.tokens.start] = place.rows.stop, moves.last
        self._alignments.add(found)

    def result(self) -> Alignment:
        return self._alignments.result()
