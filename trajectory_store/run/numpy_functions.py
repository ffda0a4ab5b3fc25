"""numpy's functions of a lazy series: sums block by block, all others of the whole series as an array.

numpy adds 16-bit floats up in 16 bits, so that a sum stops growing once a term is less than half a unit of it: at 256
times the term in bfloat16. Here bfloat16 and float16 are widened to float32, exactly, before any function sees them,
and sums over floats are in float64.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .. import bf16
from ..bf16 import BFLOAT16
from ..errors import SelectionError

Array = npt.NDArray[Any]

_SLAB_BYTES = 8 << 20
"""What is widened at once, of a block."""

REDUCTIONS: dict[Callable[..., Any], str] = {
    **{getattr(np, name): name for name in ("mean", "sum", "std", "var", "min", "max")},
    **{np.amin: "min", np.amax: "max"},
}
"""Functions of numpy's that go through a series block by block, and the methods that do so."""
_OPTIONS = {"axis", "dtype", "out", "keepdims", "ddof"}
_LOOKS_ONLY = {
    *(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.iscomplexobj, np.isrealobj),
    *(np.empty_like, np.zeros_like, np.ones_like, np.full_like),
}
"""Functions that ask for the shape and the dtype: nothing is read for them."""


class Series(Protocol):
    """What is asked of a lazy series."""

    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, …)."""

    def blocks(self) -> Iterator[tuple[npt.NDArray[np.int64], Array]]:
        """(steps, rows) in order."""


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which numpy's functions see a series: float32 for the 16-bit floats, else its own."""
    return np.dtype(np.float32) if dtype in (BFLOAT16, np.float16) else dtype


def wide(rows: Array) -> Array:
    """Rows in `wide_dtype`: the same numbers."""
    if rows.dtype == BFLOAT16:
        return bf16.to_float32(np.ascontiguousarray(rows).view(np.uint16))
    return rows.astype(wide_dtype(rows.dtype), copy=False)


def applied(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], kind: type) -> Any:
    """What a function of numpy's says of arguments among which there are lazy series, which are of class `kind`."""
    if function in REDUCTIONS and isinstance(args[0] if args else None, kind):
        given = {name: value for name, value in kwargs.items() if value is not np._NoValue}
        if given.keys() <= _OPTIONS:
            return getattr(args[0], REDUCTIONS[function])(*args[1:], **given)
    as_array = _outline if function in _LOOKS_ONLY else whole
    return function(*replaced(args, kind, as_array), **replaced(dict(kwargs), kind, as_array))


def replaced(value: Any, kind: type, as_array: Callable[[Any], Array]) -> Any:
    """An argument with each lazy series in it, which is of class `kind`, as an array."""
    if isinstance(value, kind):
        return as_array(value)
    if type(value) in (list, tuple):
        return type(value)(replaced(part, kind, as_array) for part in value)
    if type(value) is dict:
        return {name: replaced(part, kind, as_array) for name, part in value.items()}
    return value


def whole(series: Any) -> Array:
    """All of a series in `wide_dtype`; read-only, for what a function wrote to it would be lost."""
    array = np.asarray(series, dtype=wide_dtype(series.dtype))
    array.flags.writeable = False
    return array


def _outline(series: Series) -> Array:
    """An array of the same shape and dtype that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype=series.dtype), series.shape)


def reduced(
    name: str,
    series: Series,
    axis: Any = None,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
    *,
    keepdims: bool = False,
    ddof: float = 0,
) -> Any:
    """One of `REDUCTIONS` over some axes, all by default, in memory bounded by a block and the result.

    The arguments are numpy's. Sums over floats are in float64 in any case, and come out as `dtype`. That is float32 by
    default, or float64 of a float64 series.
    """
    axes = _checked_axes(axis, len(series.shape))
    own = wide_dtype(series.dtype)
    if not series.shape[0]:  # numpy says what is to be said of nothing
        options: dict[str, Any] = {"ddof": ddof} if name in ("std", "var") else {}
        result = getattr(np.empty(series.shape, dtype=own), name)(axis=axes, keepdims=True, **options)
    elif name in ("std", "var"):
        spread = (_Spread.of(slab, axes) for slab in _slabs(series))
        result = _joined(spread, axes, _Spread.merged, lambda one: one.variance(ddof))
        result = np.sqrt(result) if name == "std" else result
    elif name in ("min", "max"):
        extremes = (getattr(slab, name)(axis=axes, keepdims=True) for slab in _slabs(series))
        result = _joined(extremes, axes, np.minimum if name == "min" else np.maximum)
    else:
        wanted = own if dtype is None else np.dtype(dtype)
        in_dtype = np.float64 if name == "mean" or (own.kind == "f" and wanted.kind == "f") else dtype
        sums = (slab.sum(axis=axes, dtype=in_dtype, keepdims=True) for slab in _slabs(series))
        result = _joined(sums, axes, np.add)
        result = result / math.prod(series.shape[axis] for axis in axes) if name == "mean" else result
    if dtype is not None or own.kind == "f":
        result = result.astype(own if dtype is None else dtype, copy=False)
    if not keepdims:
        result = result.reshape([size for axis, size in enumerate(result.shape) if axis not in axes])
    if out is None:
        return result[()]
    out[...] = result
    return out


@dataclass(frozen=True)
class _Spread:
    """The mean of n values and the sum of their squared distances from it, along some axes, in float64."""

    n: int
    mean: Array
    squares: Array

    @staticmethod
    def of(rows: Array, axes: tuple[int, ...]) -> "_Spread":
        mean = rows.mean(axis=axes, dtype=np.float64, keepdims=True)
        distance = rows - mean
        n = math.prod(rows.shape[axis] for axis in axes)
        return _Spread(n, mean, np.square(distance, out=distance).sum(axis=axes, keepdims=True))

    def merged(self, other: "_Spread") -> "_Spread":
        """Of both their values; Chan's formula, which does not lose digits as squares of sums do."""
        n = self.n + other.n
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.n / n)
        return _Spread(n, mean, self.squares + other.squares + apart * apart * (self.n * other.n / n))

    def variance(self, ddof: float) -> Array:
        return self.squares / max(self.n - ddof, 0)


def _joined(
    parts: Iterator[Any],
    axes: tuple[int, ...],
    merge: Callable[[Any, Any], Any],
    finish: Callable[[Any], Array] = np.asarray,
) -> Array:
    """What consecutive rows say, put together: merged if axis 0 is reduced, else one after the other."""
    if 0 in axes:
        return finish(functools.reduce(merge, parts))
    return np.concatenate([finish(part) for part in parts])


def _slabs(series: Series) -> Iterator[Array]:
    """The rows in order, widened a few at a time."""
    row_bytes = 4 * math.prod(series.shape[1:])
    n = max(1, _SLAB_BYTES // row_bytes)
    for _, block in series.blocks():
        for start in range(0, len(block), n):
            yield wide(block[start : start + n])


def _checked_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    axes = [operator.index(one) for one in (axis if isinstance(axis, tuple) else (axis,))]
    if not all(-ndim <= one < ndim for one in axes) or len({one % ndim for one in axes}) < len(axes):
        raise SelectionError(f"axis {axis}: expected different axes of {ndim}, from {-ndim} to {ndim - 1}")
    return tuple(one % ndim for one in axes)
