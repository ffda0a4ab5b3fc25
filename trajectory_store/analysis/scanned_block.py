"""A block of a scan: the tiles that it is read in, their slabs, and what an accumulator may ask of it."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..run import LazySeries
from .slab import Slab, SlabPlace

_SLAB_ENTRIES = 1 << 18
"""Entries of a slab, 512 kB of bits, so that what is computed from them stays in a core's cache."""


@dataclass(frozen=True)
class TileRows:
    """The rows of a block in one tile of tokens, to be looked at anywhere. It can be pickled if its series can."""

    series: Mapping[str, LazySeries]
    start: int
    stop: int
    tokens: slice
    halo: npt.NDArray[Any] | None = None

    def slabs(self, bits: npt.NDArray[Any] | None = None) -> Iterator[Slab]:
        """Its slabs in step order."""
        main, *others = self.series.items()
        bits = self._bits() if bits is None else bits
        tokens = self.tokens
        rest = {name: series[self.start : self.stop, tokens] for name, series in others}
        before = self.halo
        if before is None and self.start:
            before = main[1].bits[self.start - 1, tokens]
        steps = main[1].spec.steps_of(self.start, self.stop)
        size = max(1, _SLAB_ENTRIES // max(1, bits[0].size))
        for at in range(0, len(bits), size):
            part = slice(at, min(at + size, len(bits)))
            rows = slice(self.start + part.start, self.start + part.stop)
            yield Slab(steps[part], rows, tokens, bits[part], before, {name: a[part] for name, a in rest.items()})
            before = bits[part.stop - 1]

    def run(self, functions: Sequence[Callable[[Slab], Any]], *, keep: bool) -> "ScannedTile":
        """Ask each function about each slab."""
        bits = self._bits()
        parts = [(slab.place, [of_tile(slab) for of_tile in functions]) for slab in self.slabs(bits)]
        return ScannedTile(parts, bits[-1].copy(), bits if keep else None)

    def _bits(self) -> npt.NDArray[Any]:
        bits: npt.NDArray[Any] = next(iter(self.series.values())).bits[self.start : self.stop, self.tokens]
        return bits


@dataclass(frozen=True)
class ScannedTile:
    """What each slab of a tile said, the tile's last row for the next block, and the bits if they are kept."""

    parts: list[tuple[SlabPlace, list[Any]]]
    last_row: npt.NDArray[Any]
    bits: npt.NDArray[Any] | None


@dataclass(frozen=True)
class ScannedBlock:
    """Consecutive rows of the scanned series, all tokens: what an accumulator's `update` is given."""

    steps: npt.NDArray[np.int64]
    rows: slice
    _jobs: Sequence[TileRows]
    _bits: Sequence[npt.NDArray[Any] | None]
    _map: Callable[..., Iterator[Any]]

    def map(self, function: Callable[[Slab], Any]) -> Iterator[tuple[SlabPlace, Any]]:
        """Ask about every slab once more, on all cores. Yields (place, answer) in the order of `update`'s parts.

        The tiles are read again. They are in the reader's cache, or else a second copy of each would cost more.
        """
        for answers in self._map(_ask, self._jobs, self._bits, itertools.repeat(function)):
            yield from answers

    def row(self, at: int) -> npt.NDArray[Any]:
        """The bits (tokens, dim) of the block's row `at`."""
        held = [bits[at] for bits in self._bits if bits is not None]
        if len(held) == len(self._jobs):
            return np.concatenate(held)
        main: LazySeries = next(iter(self._jobs[0].series.values()))
        row: npt.NDArray[Any] = main.bits[self.rows.start + at]
        return row


def _ask(job: TileRows, bits: npt.NDArray[Any] | None, function: Callable[[Slab], Any]) -> list[tuple[SlabPlace, Any]]:
    return [(slab.place, function(slab)) for slab in job.slabs(bits)]
