"""Two recordings bit for bit: which steps, how many elements, where first, and whether one is a prefix of the other.

Only integers are compared, so NaN payloads and −0 count. bfloat16 and uint16 are the same bits. bfloat16 is compared
with float32 after its exact widening, because an export can widen it. Attributes are not compared.
"""

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from . import bf16
from .backends.safetensors.source import SafetensorsSource
from .dtypes import dtype_name, storage_dtype
from .errors import SeriesNotFoundError
from .progress import Meter, Progress
from .run import LazySeries, Run, opened
from .selection import Indices

EQUAL: Final = "equal"
A_IS_PREFIX: Final = "a is a prefix of b"
B_IS_PREFIX: Final = "b is a prefix of a"
OVERLAP: Final = "equal where both recorded"
DIFFERENT: Final = "different"
DISJOINT: Final = "nothing in common"

Relation = Literal[
    "equal", "a is a prefix of b", "b is a prefix of a", "equal where both recorded", "different", "nothing in common"
]
"""What two recordings have in common: one of the constants above."""

PIECE_BYTES = 32 << 20
"""Read at once from each side."""


@dataclass(frozen=True)
class Element:
    """One element that differs: its place, and its bit pattern on either side."""

    series: str
    step: int
    index: tuple[int, ...]
    bits_a: int
    bits_b: int


@dataclass(frozen=True)
class Delta:
    """The largest absolute difference of a scalar series, and the first step that has it. With a NaN on one side it is
    ∞."""

    largest: float
    step: int


@dataclass(frozen=True)
class Comparison:
    """What two recordings have in common.

    Attributes
    ----------
    relation : str
        One of the constants of this module, such as "equal" or "a is a prefix of b". It is about the series and static
        arrays that both have, by the steps at which they recorded them.
    series : tuple of str
        What was compared along steps.
    only_in_a, only_in_b : tuple of str
        Series and static arrays that the other does not have.
    incompatible : Mapping of str to str
        Those of the same name and another dtype or shape, which were not compared: what was found, by name.
    static_differing : tuple of str
        Static arrays that differ.
    n_steps : int
        Steps that both recorded.
    differing, total : int
        Elements of the compared series: those that differ, and all.
    differing_per_step : Mapping of int to int
        How many differ, for each step at which any does.
    differing_per_series : Mapping of str to int
        How many differ, for each series compared.
    first : Element or None
        The first element that differs, in order of steps.
    deltas : Mapping of str to Delta
        The largest difference of each scalar float series.
    """

    relation: Relation
    series: tuple[str, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    incompatible: Mapping[str, str]
    static_differing: tuple[str, ...]
    n_steps: int
    differing: int
    total: int
    differing_per_step: Mapping[int, int]
    differing_per_series: Mapping[str, int]
    first: Element | None
    deltas: Mapping[str, Delta]

    @property
    def identical(self) -> bool:
        """Whether both hold the same series and static arrays, at the same steps, with the same bits."""
        return self.relation == EQUAL and not self.only_in_a and not self.only_in_b

    @property
    def first_step(self) -> int | None:
        """The first step at which an element differs."""
        return None if self.first is None else self.first.step


def compare(
    a: Run | str | os.PathLike[str],
    b: Run | str | os.PathLike[str],
    *,
    series: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two runs, or safetensors files, bit for bit over every step that both recorded.

    Parameters
    ----------
    a, b : Run, str or PathLike
        The recordings. A safetensors file beside a run is read as the run declares its series, so that a run equals its
        export.
    series : iterable of str, optional
        Compare only these series and static arrays.
    progress : callable, optional
        Called with the bytes compared and the bytes there are, first with 0 compared.

    Returns
    -------
    Comparison
        How they are related, and where they differ.

    Raises
    ------
    SeriesNotFoundError
        Neither has one of `series`.
    RunNotFoundError
        There is no run and no file at a path.
    DamageError
        What is read fails its checksum.

    Notes
    -----
    Only integers are compared, so NaN payloads and the sign of zero count. bfloat16 and uint16 are the same bits, and
    bfloat16 is compared with float32 after its exact widening. Memory is bounded by a block of each recording.

    Examples
    --------
    >>> for name in ("a", "b"):
    ...     with ts.create(name, {"loss": ts.Series((), "float32")}) as sink:
    ...         sink.append(0, loss=1.5)
    >>> ts.compare("a", "b").identical
    True
    """
    wanted = None if series is None else {series} if isinstance(series, str) else set(series)
    with opened(a) as given_a, opened(b) as given_b, _alike(given_a, given_b) as (run_a, run_b):
        names_a, names_b = (_names(run, wanted) for run in (run_a, run_b))
        if unknown := (wanted or set()) - {*names_a, *names_b}:
            raise SeriesNotFoundError(f"no series {sorted(unknown)[0]!r} in {run_a.path} or {run_b.path}")
        shared = [name for name in names_a if name in names_b]
        incompatible = {name: why for name in shared if (why := _incompatibility(run_a, run_b, name))}
        along_steps = [name for name in shared if name in run_a.series and name not in incompatible]
        static = [name for name in shared if name not in run_a.series and name not in incompatible]
        pairs = [_Pair(run_a[name], run_b[name]) for name in along_steps]
        meter = Meter(sum(pair.n_bytes for pair in pairs), progress)
        found = [_compare_series(pair, meter) for pair in pairs]
        static_differing = tuple(name for name in static if _differs(run_a, run_b, name))
        differs = bool(incompatible or static_differing or any(one.per_step for one in found))
        return Comparison(
            relation=DIFFERENT if differs else _relation(pairs, n_static=len(static)),
            series=tuple(along_steps),
            only_in_a=tuple(name for name in names_a if name not in names_b),
            only_in_b=tuple(name for name in names_b if name not in names_a),
            incompatible=incompatible,
            static_differing=static_differing,
            n_steps=_n_steps(pairs),
            differing=sum(sum(one.per_step.values()) for one in found),
            total=sum(pair.n_elements for pair in pairs),
            differing_per_step=_sum_per_step(found),
            differing_per_series={one.name: sum(one.per_step.values()) for one in found},
            first=min((one.first for one in found if one.first), key=lambda element: element.step, default=None),
            deltas={one.name: one.delta for one in found if one.delta},
        )


@contextlib.contextmanager
def _alike(a: Run, b: Run) -> Iterator[tuple[Run, Run]]:
    """Both recordings. If only one is a safetensors file, it is opened again with the other's declaration."""
    is_file_a, is_file_b = (isinstance(run.source, SafetensorsSource) for run in (a, b))
    if is_file_a == is_file_b:
        yield a, b
    elif is_file_a:
        yield Run(SafetensorsSource(a.path, like=b.source.spec)), b
    else:
        yield a, Run(SafetensorsSource(b.path, like=a.source.spec))


def _names(run: Run, wanted: set[str] | None) -> list[str]:
    return [name for name in (*run.series, *run.static) if wanted is None or name in wanted]


def _incompatibility(a: Run, b: Run, name: str) -> str | None:
    """Why two arrays of one name cannot be compared; None if they can."""
    (kind_a, dtype_a, shape_a), (kind_b, dtype_b, shape_b) = _described(a, name), _described(b, name)
    if kind_a == kind_b and shape_a == shape_b and _common_dtype(dtype_a, dtype_b):
        return None
    return f"{kind_a} {dtype_a} {shape_a} in a, {kind_b} {dtype_b} {shape_b} in b"


def _described(run: Run, name: str) -> tuple[str, str, tuple[int, ...]]:
    if name in run.series:
        return "series", run.series[name].dtype, run.series[name].shape
    array = run.static[name]
    return "static array", dtype_name(array.dtype), array.shape


def _common_dtype(a: str, b: str) -> str | None:
    """The dtype whose bits are compared: the wider of two, if the other converts to it exactly."""
    if {a, b} == {"bfloat16", "float32"}:
        return "float32"
    return storage_dtype(a).name if storage_dtype(a) == storage_dtype(b) else None


def _patterns(array: npt.NDArray[Any], own: str, common: str) -> npt.NDArray[Any]:
    """Bit patterns of an array in the common dtype; a copy if it is widened."""
    bits = array.view(f"<u{array.dtype.itemsize}")
    return bf16.to_float32(bits).view("<u4") if own == "bfloat16" and common == "float32" else bits


def _differs(a: Run, b: Run, name: str) -> bool:
    """Whether a static array differs."""
    array_a, array_b = a.static[name], b.static[name]
    own_a, own_b = dtype_name(array_a.dtype), dtype_name(array_b.dtype)
    common = _common_dtype(own_a, own_b)
    assert common is not None
    flat_a, flat_b = array_a.reshape(-1), array_b.reshape(-1)
    at_once = PIECE_BYTES // storage_dtype(common).itemsize
    return any(
        (_patterns(flat_a[i : i + at_once], own_a, common) != _patterns(flat_b[i : i + at_once], own_b, common)).any()
        for i in range(0, flat_a.size, at_once)
    )


class _Pair:
    """One series of both sides, and the rows of the steps that both recorded."""

    def __init__(self, a: LazySeries, b: LazySeries) -> None:
        self.a, self.b = a, b
        self.rows_a: Indices
        self.rows_b: Indices
        if a.spec.steps == b.spec.steps:
            self.rows_a = self.rows_b = range(min(len(a), len(b)))
        else:
            _, self.rows_a, self.rows_b = np.intersect1d(a.steps, b.steps, assume_unique=True, return_indices=True)
        common = _common_dtype(a.spec.dtype, b.spec.dtype)
        assert common is not None
        self.dtype = common

    @property
    def n_steps(self) -> int:
        """Steps that both recorded."""
        return len(self.rows_a)

    def steps(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Some of them."""
        return self.a.spec.steps_at(self.rows_a[start:stop])

    @property
    def n_elements(self) -> int:
        return self.n_steps * math.prod(self.a.spec.shape)

    @property
    def is_scalar_float(self) -> bool:
        return self.a.spec.shape == () and any(one.spec.logical_dtype.kind not in "biu" for one in (self.a, self.b))

    @property
    def n_bytes(self) -> int:
        return self.n_elements * storage_dtype(self.dtype).itemsize

    def pieces(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any]]]:
        """(steps, patterns of a, patterns of b), a few rows at a time, in order."""
        row_bytes = storage_dtype(self.dtype).itemsize * math.prod(self.a.spec.shape)
        at_once = max(1, min(self.a.block_rows, self.b.block_rows, PIECE_BYTES // row_bytes))
        for start in range(0, self.n_steps, at_once):
            part = slice(start, start + at_once)
            patterns_a = _patterns(self.a[_key(self.rows_a[part])], self.a.spec.dtype, self.dtype)
            patterns_b = _patterns(self.b[_key(self.rows_b[part])], self.b.spec.dtype, self.dtype)
            yield self.steps(start, start + at_once), patterns_a, patterns_b


def _key(rows: Indices) -> Any:
    """Rows as a slice if they follow one another, because that is cheaper to read."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first == len(rows) - 1 else rows


@dataclass(frozen=True)
class _Found:
    name: str
    per_step: dict[int, int]
    first: Element | None
    delta: Delta | None


def _compare_series(pair: _Pair, meter: Meter) -> _Found:
    per_step: dict[int, int] = {}
    first: Element | None = None
    delta = Delta(0.0, int(pair.steps(0, 1)[0])) if pair.is_scalar_float and pair.n_steps else None
    for steps, bits_a, bits_b in pair.pieces():
        if not np.array_equal(_words(bits_a), _words(bits_b)):
            differs = bits_a != bits_b
            counts = np.count_nonzero(differs.reshape(len(steps), -1), axis=1)
            per_step.update((int(steps[row]), int(counts[row])) for row in np.flatnonzero(counts))
            if first is None:
                row, *index = (int(i) for i in np.unravel_index(int(np.argmax(differs)), differs.shape))
                at = (row, *index)
                first = Element(pair.a.name, int(steps[row]), tuple(index), int(bits_a[at]), int(bits_b[at]))
            if delta is not None:
                delta = max(delta, _largest_delta(steps, bits_a, bits_b, pair.dtype), key=lambda d: d.largest)
        meter.add(bits_a.nbytes)
    return _Found(pair.a.name, per_step, first, delta)


def _words(bits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same bytes as the widest integers possible, so that there are fewer to compare."""
    flat = np.ascontiguousarray(bits).reshape(-1)
    return flat if flat.nbytes % 8 else flat.view(np.uint64)


def _largest_delta(
    steps: npt.NDArray[np.int64], bits_a: npt.NDArray[Any], bits_b: npt.NDArray[Any], dtype: str
) -> Delta:
    a, b = (_values(bits, dtype) for bits in (bits_a, bits_b))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    distance[np.isnan(distance)] = np.inf
    row = int(np.argmax(distance))
    return Delta(float(distance[row]), int(steps[row]))


def _values(bits: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float64]:
    values = bf16.to_float32(bits) if dtype == "uint16" else bits.view(dtype)
    return values.astype(np.float64)


def _relation(pairs: list[_Pair], *, n_static: int) -> Relation:
    """How the steps of both relate, if no bit differs."""
    if not any(pair.n_steps for pair in pairs):
        return EQUAL if n_static and not pairs else DISJOINT
    if all(len(pair.a) == pair.n_steps == len(pair.b) for pair in pairs):
        return EQUAL
    if all(_begins_with(pair.b, pair.a) for pair in pairs):
        return A_IS_PREFIX
    if all(_begins_with(pair.a, pair.b) for pair in pairs):
        return B_IS_PREFIX
    return OVERLAP


def _begins_with(longer: LazySeries, shorter: LazySeries) -> bool:
    if longer.spec.steps == shorter.spec.steps:
        return len(longer) >= len(shorter)
    return np.array_equal(longer.steps[: len(shorter)], shorter.steps)


def _n_steps(pairs: list[_Pair]) -> int:
    """Steps of which something was compared."""
    longest = max(pairs, key=lambda pair: pair.n_steps, default=None)
    if longest is None or longest.a.spec.steps is longest.b.spec.steps is None:
        return 0 if longest is None else longest.n_steps  # the others' are among them
    return len(np.unique(np.concatenate([pair.steps(0, pair.n_steps) for pair in pairs])))


def _sum_per_step(found: list[_Found]) -> dict[int, int]:
    total: dict[int, int] = {}
    for one in found:
        for step, count in one.per_step.items():
            total[step] = total.get(step, 0) + count
    return dict(sorted(total.items()))
