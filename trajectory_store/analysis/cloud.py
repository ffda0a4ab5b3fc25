"""The tokens as a cloud of points: its centre, its width, and the centre's way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from .. import bf16, conventions
from ..errors import SeriesNotFoundError, UsageError
from ..options import takes
from ..run import Run
from .arrays import Recorded, as_series
from .scanned_block import ScannedBlock
from .scanning import Extent, Needs, ScanOptions, scan, scan_one
from .slab import Slab, SlabPlace

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cloud:
    """Centre and width of the cloud of tokens; NaN if an entry is not finite.

    Attributes
    ----------
    steps : ndarray of int64, shape (n,)
        Every recorded step.
    centroid : ndarray of float64, shape (n, dim)
        c, the mean of W over the tokens.
    radius : ndarray of float64, shape (n,)
        The mean over the tokens of ‖W − c‖₂.
    largest_radius : ndarray of float64, shape (n,)
        The maximum over the tokens of ‖W − c‖₂.
    """

    steps: npt.NDArray[np.int64]
    centroid: npt.NDArray[np.float64]
    radius: npt.NDArray[np.float64]
    largest_radius: npt.NDArray[np.float64]

    @property
    def distance(self) -> npt.NDArray[np.float64]:
        """‖c‖₂, the centre's distance from the origin, (n,)."""
        return lengths(self.centroid)

    @property
    def drift(self) -> npt.NDArray[np.float64]:
        """‖c[t] − c[t−1]‖₂, (n − 1,)."""
        return lengths(np.diff(self.centroid, axis=0))

    @property
    def path(self) -> float:
        """The length of the centre's way: Σ‖c[t] − c[t−1]‖₂."""
        return float(self.drift.sum())

    @property
    def net(self) -> float:
        """The straight line from its first place to its last: ‖c[T] − c[0]‖₂."""
        return float(np.linalg.norm(self.centroid[-1] - self.centroid[0]))

    @property
    def efficiency(self) -> float:
        """net / path: 1 on a straight line, NaN for a centre that never moved."""
        return self.net / self.path if self.path else float("nan")

    @property
    def turning(self) -> npt.NDArray[np.float64]:
        """The cosine between the centre's successive steps, shape (n − 2,); NaN if it did not move."""
        return cosine(np.diff(self.centroid, axis=0)[:-1], np.diff(self.centroid, axis=0)[1:])

    @property
    def lift_off(self) -> int | None:
        """The first step at which the origin is outside the cloud: ‖c‖ > the largest radius."""
        outside = self.distance > self.largest_radius
        return int(self.steps[np.argmax(outside)]) if outside.any() else None


def lengths(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """‖·‖₂ along the last axis."""
    result: npt.NDArray[np.float64] = np.sqrt((vectors**2).sum(axis=-1))
    return result


def cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The cosine of the angle between a and b along the last axis; NaN if one of them has no direction."""
    product = lengths(a) * lengths(b)
    result = np.full(product.shape, np.nan)
    np.divide((a * b).sum(axis=-1), product, out=result, where=product != 0)
    return result


@takes(ScanOptions)
def cloud(
    recorded: Recorded, series: str = "W", *, tokens: Mask | None = None, **options: Unpack[ScanOptions]
) -> Cloud:
    """Find the centre and the width of the cloud of tokens, at every recorded step.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    tokens : ndarray of bool, shape (tokens,), optional
        Which tokens make the cloud; all of them by default.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Cloud
        The centroid c = mean_i W_i and the radius mean_i ‖W_i − c‖₂.

    Raises
    ------
    UsageError
        The series is not (step, token, dim) of bfloat16 bits, or the mask is not one flag a token with one of them
        true.

    Notes
    -----
    Sums are float64, over tiles of tokens of a fixed width, so that every backend gives the same bits.
    """
    return scan_one(recorded, CloudOf(tokens), series=series, **options)


@dataclass(frozen=True)
class Separation:
    """The live and the dead cloud of one run.

    Attributes
    ----------
    live, dead : Cloud
        The two clouds, at the same steps.
    """

    live: Cloud
    dead: Cloud

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """(n,) int64."""
        return self.live.steps

    @property
    def distance(self) -> npt.NDArray[np.float64]:
        """(n,) float64."""
        return lengths(self.live.centroid - self.dead.centroid)


@takes(ScanOptions)
def separation(
    recorded: Recorded, series: str = "W", *, dead: Mask | None = None, **options: Unpack[ScanOptions]
) -> Separation:
    """Measure how far the live tokens are from the dead ones, in a run that recorded both.

    Parameters
    ----------
    recorded : Run, LazySeries, MemorySink or ndarray
        What holds the rows, (step, token, dim) of bfloat16 or its bits as uint16.
    series : str
        The series to look at, if `recorded` has several.
    dead : ndarray of bool, shape (tokens,), optional
        Which rows are dead tokens. By default the run's own conventions say so.
    **options : ScanOptions
        Threads, executor and progress.

    Returns
    -------
    Separation
        Two clouds from one pass, and the distance ‖c_live − c_dead‖₂ of their centres.

    Raises
    ------
    UsageError
        Nothing says which rows are dead, or the mask has not one flag a row.
    """
    dead = dead_mask(recorded, series) if dead is None else dead
    _check_mask(recorded, series, dead)
    live, of_dead = scan(recorded, [CloudOf(~dead), CloudOf(dead)], series=series, **options)
    return Separation(live, of_dead)


def dead_mask(recorded: Recorded, series: str) -> Mask:
    """Which rows of a series are dead tokens, as the run says (`conventions.dead_rows`).

    Raises UsageError if the run does not say, or recorded other tokens.
    """
    if not isinstance(recorded, Run):
        raise UsageError("separation needs dead=, a mask of the dead tokens, unless it is given a run that holds one")
    try:
        mask = conventions.dead_rows(recorded.static, as_series(recorded, series).shape[1], series=series)
    except SeriesNotFoundError as error:
        raise UsageError(f"separation needs dead=, a mask of the dead tokens: {error}") from error
    _check_mask(recorded, series, mask)
    return mask


def _check_mask(recorded: Recorded, series: str, dead: Mask) -> None:
    n_tokens = as_series(recorded, series).shape[1]
    if len(dead) != n_tokens:
        raise UsageError(
            f"separation needs the live tokens recorded beside the dead ones: series {series!r} has {n_tokens:,}"
            f" tokens, the mask {len(dead):,}"
        )


class CloudOf:
    """The analysis behind `cloud`.

    Parameters
    ----------
    tokens : ndarray of bool, shape (tokens,), optional
        Which tokens make the cloud; all of them by default.
    """

    needs = Needs("cloud", every_step=False)

    def __init__(self, tokens: Mask | None = None) -> None:
        self._tokens = None if tokens is None else np.asarray(tokens, dtype=bool)

    def of_tile(self, slab: Slab) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]] | None:
        """Rows in which a chosen token moved, and Σ W over the chosen tokens in each; the others are as before."""
        moved = self._chosen(slab.moved, slab)
        changed = np.asarray(moved.any(axis=1), dtype=bool)
        changed[0] |= slab.before is None
        rows = np.flatnonzero(changed)
        if not len(rows):
            return None
        return rows, bf16.to_float64(self._chosen(slab.bits, slab)[rows]).sum(axis=1)

    def begin(self, extent: Extent) -> "_CloudSums":
        if self._tokens is not None and (self._tokens.shape != (extent.n_tokens,) or not self._tokens.any()):
            raise UsageError(
                f"a cloud's mask needs {extent.n_tokens:,} entries, one for each token, and one of them true"
            )
        return _CloudSums(extent, self._tokens)

    def _chosen(self, array: npt.NDArray[Any], slab: Slab) -> npt.NDArray[Any]:
        return array if self._tokens is None else array[:, self._tokens[slab.tokens]]


class _CloudSums:
    def __init__(self, extent: Extent, tokens: Mask | None) -> None:
        self._steps, self._tokens = extent.steps, tokens
        self._n = extent.n_tokens if tokens is None else int(tokens.sum())
        self._centroid = np.zeros((len(extent.steps), extent.dim))
        self._radius, self._largest = np.zeros(len(extent.steps)), np.zeros(len(extent.steps))
        self._last_sums: dict[int, npt.NDArray[np.float64]] = {}  # first token of a tile → its latest sum

    def update(
        self,
        block: ScannedBlock,
        parts: Sequence[tuple[SlabPlace, tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]]],
    ) -> None:
        n, first = len(block.steps), block.rows.start
        changed = np.zeros(n, dtype=bool)
        tiles: dict[int, list[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]]] = {}
        for place, (rows, sums) in parts:
            at = rows + (place.rows.start - first)
            changed[at] = True
            tiles.setdefault(place.tokens.start, []).append((at, sums))
        total = np.zeros((n, self._centroid.shape[1]))
        for tile in sorted(tiles.keys() | self._last_sums.keys()):
            total += self._every_row(tile, tiles.get(tile, []), n)
        self._centroid[block.rows] = total / self._n
        radii = _Radii(self._tokens, first, self._centroid[block.rows], changed)
        for place, (sums, largest) in block.map(radii) if changed.any() else ():
            self._radius[place.rows] += sums / self._n
            np.maximum(self._largest[place.rows], largest, out=self._largest[place.rows])
        self._repeat_still_rows(first, changed)

    def _every_row(
        self, tile: int, parts: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]], n: int
    ) -> npt.NDArray[np.float64]:
        """A tile's sum in every row of the block: the latest one, if nothing moved."""
        known = [sums for _, sums in parts]
        latest = np.zeros(n, dtype=np.intp)
        for index, row in enumerate(np.concatenate([rows for rows, _ in parts]) if parts else []):
            latest[row:] = index + 1
        carried = self._last_sums.get(tile, np.zeros(self._centroid.shape[1]))
        every = np.concatenate([carried[None], *known])
        self._last_sums[tile] = every[-1]
        return every[latest]

    def _repeat_still_rows(self, first: int, changed: npt.NDArray[np.bool_]) -> None:
        for row in (np.flatnonzero(~changed) + first).tolist():
            self._radius[row], self._largest[row] = self._radius[row - 1], self._largest[row - 1]

    def result(self) -> Cloud:
        return Cloud(self._steps, self._centroid, self._radius, self._largest)


@dataclass(frozen=True)
class _Radii:
    """Σ and max of ‖W − c‖ over a slab's chosen tokens, in the rows in which the cloud changed; 0 in the others."""

    tokens: Mask | None
    first_row: int
    centroid: npt.NDArray[np.float64]
    changed: npt.NDArray[np.bool_]

    def __call__(self, slab: Slab) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        within = slice(slab.rows.start - self.first_row, slab.rows.stop - self.first_row)
        rows = np.flatnonzero(self.changed[within])
        sums, largest = np.zeros(len(slab.steps)), np.zeros(len(slab.steps))
        bits = slab.bits if self.tokens is None else slab.bits[:, self.tokens[slab.tokens]]
        if len(rows) and bits.shape[1]:
            offsets = bf16.to_float64(bits[rows])
            offsets -= self.centroid[within][rows, None]
            radii = np.sqrt(np.einsum("ijk,ijk->ij", offsets, offsets))
            sums[rows], largest[rows] = radii.sum(axis=1), radii.max(axis=1)
        return sums, largest
