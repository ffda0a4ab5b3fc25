"""One piece of a scan: consecutive rows of some tokens, and what several analyses want to know about them.

A row's *changes* are its entries whose bits differ from those of the row before. In most recordings most entries do not
change at most steps. So everything here is computed from the changes alone, once for all analyses of the pass.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import bf16

_FEW_COLUMNS = 8


@dataclass(frozen=True)
class Changes:
    """The entries of a slab that moved, in order of step, token and dim; those that are not finite count as moving.

    owner: whose each is, a token in one row, as an index into (rows × tokens). column: its place along dim.
    """

    owner: npt.NDArray[np.intp]
    column: npt.NDArray[np.intp]
    before: bf16.Bits
    after: bf16.Bits

    @cached_property
    def starts(self) -> npt.NDArray[np.intp]:
        """The number of each owner's first entry."""
        is_first = np.empty(len(self.owner), dtype=bool)
        is_first[:1] = True
        np.not_equal(self.owner[1:], self.owner[:-1], out=is_first[1:])
        return np.flatnonzero(is_first)

    @cached_property
    def movers(self) -> npt.NDArray[np.intp]:
        """The owners, each once, in order: the rows × tokens that moved. One for each of `starts`."""
        return self.owner[self.starts]

    @cached_property
    def displacement(self) -> npt.NDArray[np.float32]:
        """ΔW′ of each entry, in ULPs of its start."""
        return bf16.displacement(self.before, self.after)

    @cached_property
    def move(self) -> npt.NDArray[np.float64]:
        """ΔW of each entry, in the weights' own unit."""
        return bf16.to_float64(self.after) - bf16.to_float64(self.before)

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of an entry-wise value over the entries of each of `movers`."""
        return np.add.reduceat(values, self.starts) if len(self.starts) else np.empty(0)


@dataclass(frozen=True)
class Norms:
    """‖ΔW′‖₁, ‖ΔW′‖₂ and ‖ΔW′‖∞ of each row × token that moved, float32; those of all others are 0."""

    l1: npt.NDArray[np.float32]
    l2: npt.NDArray[np.float32]
    linf: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SlabPlace:
    """Where a slab lies in the scanned series: its rows and the steps they are of, and its tokens."""

    steps: npt.NDArray[np.int64]
    rows: slice
    tokens: slice


@dataclass
class Slab:
    """Rows of one slice of the tokens, as bit patterns.

    bits: (rows, tokens, dim) uint16. before: the row before the first one (tokens, dim), None at the start of the
    series. others: the same rows of other series, in their logical dtype. Not thread-safe; each belongs to one thread.
    """

    steps: npt.NDArray[np.int64]
    rows: slice
    tokens: slice
    bits: npt.NDArray[Any]
    before: npt.NDArray[Any] | None
    others: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def place(self) -> SlabPlace:
        """Where it lies."""
        return SlabPlace(self.steps, self.rows, self.tokens)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(rows, tokens, dim)."""
        n, k, dim = self.bits.shape
        return n, k, dim

    @cached_property
    def is_still(self) -> bool:
        """Whether no bit differs from the row before in any row."""
        return not self._changed_words.any()

    @cached_property
    def moved(self) -> npt.NDArray[np.bool_]:
        """(rows, tokens): whether any bit differs from the row before; False at the start of the series."""
        n, k, _ = self.shape
        changed = self._changed_words.reshape(n * k, -1)
        if changed.shape[1] % 8 == 0:  # eight comparisons at once
            changed = changed.view(np.uint64)
        if changed.shape[1] > _FEW_COLUMNS:
            return np.asarray(changed.any(axis=1)).reshape(n, k)
        moved: npt.NDArray[np.bool_] = changed[:, 0] != 0  # ten times faster than numpy's any along a short axis
        for column in changed.T[1:]:
            moved |= column != 0
        return moved.reshape(n, k)

    @cached_property
    def changes(self) -> Changes:
        """The entries that moved."""
        entries = self._changed_entries()
        _, _, dim = self.shape
        if self._meets_not_finite(entries):
            entries = np.union1d(entries, self._not_finite_entries())
        owner = entries // dim
        return Changes(owner, entries - owner * dim, self._before(self._flat, entries), self._flat.take(entries))

    @cached_property
    def norms(self) -> Norms:
        """The norms of the displacement of each of `changes.movers`: sums in float64, rounded once to float32."""
        cells = np.abs(self.changes.displacement)
        if not len(cells):
            nothing = np.empty(0, dtype=np.float32)
            return Norms(nothing, nothing, nothing)
        wide = cells.astype(np.float64)
        l1 = self.changes.sums(wide)
        np.multiply(wide, wide, out=wide)
        l2 = np.sqrt(self.changes.sums(wide))
        return Norms(_to_float32(l1), _to_float32(l2), np.maximum.reduceat(cells, self.changes.starts))

    def spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(rows, tokens) with a value for each of `changes.movers`, 0 elsewhere."""
        n, k, _ = self.shape
        full = np.zeros(n * k, dtype=values.dtype)
        full[self.changes.movers] = values
        return full.reshape(n, k)

    def vectors_before(self, movers: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """The bits (len(movers), dim) that each of these increasing rows × tokens had one row before."""
        _, k, dim = self.shape
        n_first = int(np.searchsorted(movers, k))
        later = self._flat.reshape(-1, dim)[movers[n_first:] - k]
        if n_first == 0:
            return later
        assert self.before is not None
        return np.concatenate([self.before[movers[:n_first]], later])

    def vectors_at(self, movers: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """The bits (len(movers), dim) of these rows × tokens."""
        result: npt.NDArray[Any] = self._flat.reshape(-1, self.shape[2])[movers]
        return result

    @cached_property
    def _flat(self) -> npt.NDArray[Any]:
        return np.ascontiguousarray(self.bits).reshape(-1)

    @cached_property
    def _words(self) -> npt.NDArray[Any]:
        """The bits in the widest unit that a token's row is a multiple of: fewer comparisons."""
        token_bytes = self.shape[2] * self._flat.itemsize
        return self._flat.view(next(f"u{size}" for size in (8, 4, 2) if token_bytes % size == 0))

    @cached_property
    def _before_words(self) -> npt.NDArray[Any] | None:
        return None if self.before is None else np.ascontiguousarray(self.before).reshape(-1).view(self._words.dtype)

    @cached_property
    def _changed_words(self) -> npt.NDArray[np.bool_]:
        words = self._words.reshape(len(self.bits), -1)
        changed = np.empty(words.shape, dtype=bool)
        changed[0] = False if self._before_words is None else words[0] != self._before_words
        np.not_equal(words[1:], words[:-1], out=changed[1:])
        return changed.reshape(-1)

    def _changed_entries(self) -> npt.NDArray[np.intp]:
        changed = np.flatnonzero(self._changed_words)
        after = self._words.take(changed)
        n_lanes = self._words.itemsize // self._flat.itemsize
        lanes = np.flatnonzero(
            after.view(self._flat.dtype) != self._before(self._words, changed).view(self._flat.dtype)
        )
        word = lanes // n_lanes
        return changed.take(word) * n_lanes + (lanes - word * n_lanes)

    def _before(self, flat: npt.NDArray[Any], at: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """What was at increasing positions of a flat view of the bits one row before."""
        row_length = len(flat) // len(self.bits)
        n_first = int(np.searchsorted(at, row_length))
        if n_first == 0:
            return flat.take(at - row_length)
        assert self.before is not None
        first = np.ascontiguousarray(self.before).reshape(-1).view(flat.dtype).take(at[:n_first])
        return np.concatenate([first, flat.take(at[n_first:] - row_length)])

    def _meets_not_finite(self, entries: npt.NDArray[np.intp]) -> bool:
        """Whether any entry of the slab is NaN or infinite, either at its start or after a change."""
        start = self.before if self.before is not None else self.bits[0]
        return not (bf16.is_finite(start).all() and bf16.is_finite(self._flat.take(entries)).all())

    def _not_finite_entries(self) -> npt.NDArray[np.intp]:
        """Entries that have a row before and are not finite at either end: their displacement is NaN."""
        row_length = len(self._flat) // len(self.bits)
        broken = ~bf16.is_finite(self._flat)
        either = broken.copy()
        either[row_length:] |= broken[:-row_length]
        if self.before is None:
            either[:row_length] = False
        else:
            either[:row_length] |= ~bf16.is_finite(self.before).reshape(-1)
        return np.flatnonzero(either)


def sums_by(at: npt.NDArray[np.intp], values: npt.NDArray[Any], n: int) -> npt.NDArray[np.float64]:
    """(n,): the sum of the values at each index, added in their order."""
    return np.asarray(np.bincount(at, values, minlength=n), dtype=np.float64)


def _to_float32(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    limit = float(np.finfo(np.float32).max)
    return np.clip(values, None, limit).astype(np.float32)  # saturates, as a displacement does
